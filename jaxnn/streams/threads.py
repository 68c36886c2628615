"""Daemon threads for reading: the process does not wait for them at exit, as a disk may hang.

>>> with Threads(2, "example") as pool:
...     pool.map(lambda a, b: a + b, [1, 2], [10, 20])
[11, 22]
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any


class Threads:
    """Runs functions in threads, which are started on demand."""

    def __init__(self, count: int, name: str):
        self._count, self._name = count, name
        self._queue: SimpleQueue[tuple[Future, Callable, tuple] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._closed, self._lock = False, Lock()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Schedules a call, and returns its future, which is cancelled after `close`."""
        future: Future = Future()
        # Otherwise, a call that comes after the threads have ended would be waited for forever.
        with self._lock:
            if self._closed:
                future.cancel()
                return future
            if len(self._threads) < self._count:
                thread = Thread(target=self._work, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._queue.put((future, function, arguments))
        return future

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """Calls a function for each tuple of arguments in parallel; raises the first error."""
        futures = [self.submit(function, *each) for each in zip(*arguments, strict=True)]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Ends the threads after their current calls; pending calls are cancelled."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            future, function, arguments = task
            if self._closed:
                future.cancel()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)
            del task, future, function, arguments  # frees a large block while waiting

    def __enter__(self) -> "Threads":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
