"""Threads that read, for which the process does not wait when it ends: a disk may hang.

>>> with Threads(2, "example") as pool:
...     pool.map(lambda a, b: a + b, [1, 2], [10, 20])
[11, 22]
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any


class Threads:
    """Runs functions in threads, which are started when they are first needed."""

    def __init__(self, count: int, name: str):
        self._count, self._name = count, name
        self._queue: SimpleQueue[tuple[Future, Callable, tuple] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._closed = False

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Returns the future result of a call."""
        future: Future = Future()
        if len(self._threads) < self._count:
            thread = Thread(target=self._work, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put((future, function, arguments))
        return future

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """Returns the results of a call for each of the arguments; raises the first error."""
        futures = [self.submit(function, *each) for each in zip(*arguments, strict=True)]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Ends the threads once the calls are done that they are in; no other begins."""
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
            del task, future, function, arguments  # a block is large, and the next may take long

    def __enter__(self) -> "Threads":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
