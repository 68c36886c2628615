"""Micro-batching: requests that arrive within 2 ms of each other are computed together.

A batch is padded to the next larger of a few bucket sizes. The program of the first bucket compiles
before the first request; the others compile in the background, while requests use the buckets that
are ready. The queue is bounded: a request that does not fit is refused immediately.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import numpy as np

from jaxnn.serving.refusals import busy
from jaxnn.typing import Any, Callable

LOG = logging.getLogger("uvicorn.error")  # which the server shows
BUCKETS = (1, 8, 64)
WAIT = 0.002  # seconds that a batch waits for more examples
MOST = 4096  # maximum number of examples in the queue


@dataclass(frozen=True)
class _Waiting:
    """Examples of one request in the queue, which are computed in one batch."""

    inputs: Any
    count: int
    shapes: Any
    answer: asyncio.Future[Any]


class Batcher:
    """Computes the outputs of several requests at once, in a separate thread.

    Args:
      predict: the function from a tree of arrays, `[examples, ...]`, to a tree of outputs.
      buckets: the batch sizes to call `predict` with, in increasing order.
      most: the maximum number of examples in the queue.
      prepare: a function that compiles the program of a bucket; if given, each bucket except the
        first is used after this call.

    Attributes:
      buckets: the batch sizes that are ready.
      batches: the number of batches computed.
    """

    def __init__(
        self,
        predict: Callable[[Any], Any],
        buckets: Sequence[int] = BUCKETS,
        most: int = MOST,
        prepare: Callable[[int], None] | None = None,
    ):
        self.buckets = tuple(buckets[:1] if prepare else buckets)
        self.batches = 0
        self._predict, self._most = predict, most
        self._prepare, self._coming = prepare, tuple(buckets[1:])
        self._waiting: deque[_Waiting] = deque()
        self._count = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "predict")
        self._compiler = ThreadPoolExecutor(1, "compile")
        self._task: asyncio.Task[None] | None = None
        self._growth: asyncio.Task[None] | None = None

    async def __call__(self, inputs: Any) -> Any:
        """Returns the outputs for a tree of arrays, `[examples, ...]`.

        Raises:
          Refused: if the queue is full.
        """
        count = size(inputs)
        if self._count and self._count + count > self._most:
            raise busy(f"{self._count:,} examples in the queue", f"at most {self._most:,}")
        largest = self.buckets[-1]
        parts = [self._put(_rows(inputs, at, at + largest)) for at in range(0, count, largest)]
        self._arrived.set()
        try:
            outputs = await asyncio.gather(*parts)
        finally:
            for part in parts:
                part.cancel()  # skips parts that are no longer awaited
        return outputs[0] if len(outputs) == 1 else concatenated(outputs)

    def start(self) -> None:
        """Starts to process requests, in the running event loop."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run())
        if self._prepare is not None:
            self._growth = loop.create_task(self._grow(self._prepare))

    async def _grow(self, prepare: Callable[[int], None]) -> None:
        for bucket in self._coming:
            try:
                await asyncio.get_running_loop().run_in_executor(self._compiler, prepare, bucket)
            except Exception as error:  # such as too little memory
                LOG.warning("serve: batches stay at %d examples: %s", self.buckets[-1], error)
                return
            self.buckets = (*self.buckets, bucket)

    async def stop(self) -> None:
        """Completes all queued requests, and stops."""
        while self._count:
            await asyncio.sleep(WAIT)
        for task in (self._task, self._growth):
            if task is not None:
                task.cancel()
        self._thread.shutdown()
        # The event loop would wait for a thread of its own, and ignore signals meanwhile.
        self._compiler.shutdown(wait=False)

    def _put(self, inputs: Any) -> asyncio.Future[Any]:
        answer = asyncio.get_running_loop().create_future()
        shapes = jax.tree.map(lambda x: (x.shape[1:], x.dtype), inputs)
        waiting = _Waiting(inputs, size(inputs), shapes, answer)
        self._waiting.append(waiting)
        self._count += waiting.count
        return answer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if self._examples() < self.buckets[-1]:
                await asyncio.sleep(WAIT)
            batch = self._take()
            if not self._waiting:
                self._arrived.clear()
            if not batch:
                continue
            self.batches += 1
            try:
                outputs = await loop.run_in_executor(self._thread, self._compute, batch)
            except Exception as error:
                outputs = [error] * len(batch)
            for waiting, output in zip(batch, outputs):
                self._count -= waiting.count
                if waiting.answer.done():
                    continue
                if isinstance(output, Exception):
                    waiting.answer.set_exception(output)
                else:
                    waiting.answer.set_result(output)

    def _examples(self) -> int:
        return sum(waiting.count for waiting in self._waiting)

    def _take(self) -> list[_Waiting]:
        """Removes the next batch from the queue: the first examples with equal shapes."""
        batch: list[_Waiting] = []
        count = 0
        while self._waiting:
            first = self._waiting[0]
            if first.answer.cancelled():
                self._count -= self._waiting.popleft().count
                continue
            fits = count + first.count <= self.buckets[-1]
            if batch and not (fits and first.shapes == batch[0].shapes):
                break
            batch.append(self._waiting.popleft())
            count += first.count
        return batch

    def _compute(self, batch: list[_Waiting]) -> list[Any]:
        inputs = concatenated([waiting.inputs for waiting in batch])
        outputs = self._predict(padded(inputs, self.buckets))
        ends = np.cumsum([waiting.count for waiting in batch]).tolist()
        return [_rows(outputs, end - each.count, end) for each, end in zip(batch, ends)]


def size(inputs: Any) -> int:
    """Returns the number of examples in a tree of arrays."""
    return len(jax.tree.leaves(inputs)[0])


def padded(inputs: Any, buckets: Sequence[int]) -> Any:
    """Pads examples to the next larger bucket, with copies of the last one."""
    count = size(inputs)
    more = next(bucket for bucket in buckets if bucket >= count) - count
    return jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[-1:], more, 0)]), inputs)


def concatenated(trees: Sequence[Any]) -> Any:
    """Concatenates the examples of several trees."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *trees)


def _rows(tree: Any, start: int, end: int) -> Any:
    return jax.tree.map(lambda x: x[start:end], tree)
