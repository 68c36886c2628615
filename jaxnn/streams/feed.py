"""Prefetching of blocks of a stream, which a separate thread reads and puts on the device.

The device should never wait for data. The time that it does is measured: from when all dispatched
work is complete until the next block is ready.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Any

from jaxnn.checks import Explained
from jaxnn.streams.threads import Threads

Read = Callable[[Threads, int], tuple[Any, int]]


class Stalled(Explained, OSError):
    """A block of a stream was not ready before the timeout."""


def _stalled(got: str) -> Stalled:
    return Stalled(
        "stream",
        "the data do not come",
        got=got,
        expected="a block of batches",
        fix="See whether the disk, or what read calls, hangs; pass a longer timeout if it is only"
        " slow",
    )


def awaited(future: Future, timeout: float) -> Any:
    """Returns the result of a reader; raises `Stalled` if it takes longer than `timeout` seconds.

    The reader keeps running in its thread, which the process does not wait for at exit.
    """
    try:
        return future.result(timeout)
    except NotYet:
        if future.done():  # the reader itself raised a TimeoutError
            raise
        raise _stalled(f"nothing for {timeout:g} seconds") from None


@dataclass
class Meter:
    """The accumulated cost of the streams of a run.

    Attributes:
      waited: the seconds in which the devices were idle because data were not ready.
      skipped: the number of examples that could not be read.
    """

    waited: float = 0.0
    skipped: int = 0


class Feed:
    """Prefetches consecutive blocks of a stream, from any step on."""

    def __init__(
        self,
        read: Read,
        put: Callable[[Any, int], Any],
        settings: Any,
        last: int,
        meter: Meter | None = None,
    ):
        """Creates a feed; reading begins at the first call of `at`.

        Args:
          read: `(pool, first) -> (fields, skipped)`, reads the block that starts at batch `first`.
          put: `(fields, first) -> block`, puts a block on the device.
          settings: a stream, which defines `block`, `ahead`, `workers` and `timeout`.
          last: the number of batches; blocks beyond it are not prefetched.
          meter: accumulates the cost of the blocks.
        """
        self._read, self._put, self._last = read, put, last
        self._block, self._ahead = settings.block, settings.ahead
        self._timeout, workers = settings.timeout, settings.workers
        self._thread, self._pool = Threads(1, "jaxnn-stream"), Threads(workers, "jaxnn-read")
        self._pending: deque[tuple[int, Future]] = deque()
        self._current: tuple[int, Any] = (-1, None)
        self.meter = Meter() if meter is None else meter

    def at(self, step: int, is_idle: Callable[[], bool] = lambda: True) -> tuple[Any, int]:
        """Returns the block with the batch of a step, and the step after its last.

        Args:
          step: the step of the batch.
          is_idle: returns whether the device has completed all dispatched work.

        Raises:
          Invalid: if an example cannot be read.
          Stalled: if the block is not ready before the timeout.
        """
        first = step // self._block * self._block
        if self._current[0] != first:
            if not self._pending or self._pending[0][0] != first:
                self.forget()
                self._schedule(first)
            _, future = self._pending.popleft()
            following = first + self._block
            while len(self._pending) < self._ahead and following < self._last:
                if all(number != following for number, _ in self._pending):
                    self._schedule(following)
                following += self._block
            block, skipped = self._wait(future, is_idle, first)
            self.meter.skipped += skipped
            self._current = first, block
        return self._current[1], first + self._block

    def close(self) -> None:
        """Ends the threads after their current calls, without waiting for them."""
        self.forget()
        self._thread.close()
        self._pool.close()

    def _schedule(self, first: int) -> None:
        def work():
            fields, skipped = self._read(self._pool, first)
            return self._put(fields, first), skipped

        self._pending.append((first, self._thread.submit(work)))

    def forget(self) -> None:
        """Discards the current and all prefetched blocks."""
        self._current = -1, None
        for _, future in self._pending:
            future.cancel()
        self._pending.clear()

    def _wait(self, future: Future, is_idle: Callable[[], bool], first: int) -> Any:
        began = time.perf_counter()
        idle_since = None
        while not future.done():
            now = time.perf_counter()
            if idle_since is None and is_idle():
                idle_since = now
            if now - began > self._timeout:
                raise _stalled(f"nothing for {self._timeout:g} seconds, at batch {first}")
            try:
                return future.result(0.0005 if idle_since is None else 0.1)
            except NotYet:
                if future.done():  # the reader itself raised a TimeoutError
                    break
            finally:
                if future.done() and idle_since is not None:
                    self.meter.waited += time.perf_counter() - idle_since
        return future.result()
