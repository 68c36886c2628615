"""Runs one job at a time in a background thread, and reports its errors."""

from collections.abc import Callable
from concurrent import futures


class Background:
    """Runs one job at a time in a background thread.

    The interpreter waits for the job before it exits. The next call of a method raises the job's
    error, at the latest `wait`.
    """

    def __init__(self):
        self._executor = futures.ThreadPoolExecutor(1, "jaxnn background")
        self._job: futures.Future[object] | None = None

    @property
    def busy(self) -> bool:
        """Whether the job is still running."""
        return self._job is not None and not self._job.done()

    def start(self, work: Callable[[], object]) -> None:
        """Waits for the previous job, raises its error, and starts `work`."""
        self.wait()
        self._job = self._executor.submit(work)

    def check(self) -> None:
        """Raises the error of the job, if it has ended."""
        if not self.busy:
            self.wait()

    def wait(self) -> None:
        """Waits for the job, and raises its error."""
        if self._job is not None:
            futures.wait([self._job])  # an interrupt here leaves the job to the next call
            job, self._job = self._job, None
            job.result()
