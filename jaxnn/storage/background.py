"""Work beside the training: one thing at a time, and no error of it is ever lost."""

import threading
from collections.abc import Callable


class Background:
    """Does one thing at a time in a thread of its own.

    The thread is no daemon: a process that ends waits for it. What it raised is raised again by the
    next call, and at the latest by `wait`.
    """

    def __init__(self):
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether something is still being done."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[], None]) -> None:
        """Waits for what is being done, raises what that raised, and starts `work`."""
        self.wait()
        self._thread = threading.Thread(target=self._do, args=(work,), name="jaxnn background")
        self._thread.start()

    def check(self) -> None:
        """Raises what was raised, if what was being done is done."""
        if not self.busy:
            self.wait()

    def wait(self) -> None:
        """Waits for what is being done, and raises what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error
