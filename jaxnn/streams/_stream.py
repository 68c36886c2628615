"""Data that need not fit into memory: they are read during training, in the order of `Resident`.

The batch of a step is the same function of `(key, step)` as for `Resident`. It is computed on the
host, which reads the examples and puts blocks of batches on the device ahead of time. A stream has
no state: a run that resumes at any step continues to read from there at once.

    >>> import jax
    >>> source = [{"inputs": [float(i)], "labels": [2.0 * i]} for i in range(5)]
    >>> data = stream(source, batch_size=2, block=4)
    >>> data
    Stream(5 examples in batches of 2: inputs float32[1], labels float32[1])
    >>> from jaxnn.data import resident
    >>> memory = resident({"inputs": [[float(i)] for i in range(5)]}, batch_size=2)
    >>> order = jax.random.key(3)
    >>> block = data.shuffled(order).read(4)
    >>> [block.batch(step)["index"].tolist() for step in (4, 7)]
    [[3, 1], [2, 2]]
    >>> [memory.shuffled(order).batch(step)["index"].tolist() for step in (4, 7)]
    [[3, 1], [2, 2]]
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import ClassVar, Literal, get_args

import jax
import numpy as np

from jaxnn.checks import Invalid, InvalidValue, choice, number, positive_integer
from jaxnn.data._resident import stored
from jaxnn.data.order import order_on_host
from jaxnn.streams._block import Block
from jaxnn.streams.feed import awaited
from jaxnn.streams.files import Changed
from jaxnn.streams.schema import combined
from jaxnn.streams.source import (
    check_source,
    explained,
    fingerprint,
    place_of,
    read_rows,
    words_for,
)
from jaxnn.streams.threads import Threads
from jaxnn.typing import Any, Batch

OnError = Literal["raise", "skip"]
_SAMPLE = 256  # the size of the sample that represents all examples in checks


@dataclass(frozen=True, repr=False)
class Stream:
    """Examples that are read from a source during training.

    Attributes:
      source: the source of the examples.
      batch_size: the number of examples in a batch, over all devices.
      decode: `(example, random) -> example`, or `None`.
      block: the number of batches that are put on the device at once.
      ahead: the number of blocks that are prefetched.
      workers: the number of threads that read and decode.
      on_error: `"raise"` or `"skip"`, for an example that cannot be read.
      timeout: the seconds to wait for a block before raising an error.
      key: the key of the order of training batches.
    """

    source: Any
    batch_size: int
    decode: Callable[[Any, np.random.Generator], Any] | None
    block: int
    ahead: int
    workers: int
    on_error: OnError
    timeout: float
    key: Any = field(default_factory=lambda: jax.random.key(0))
    columns: ClassVar[Any] = None

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return len(self.source)

    @property
    def num_batches(self) -> int:
        """The number of batches in one pass over the examples; the last may be partial."""
        return -(-self.num_examples // self.batch_size)

    @property
    def examples(self) -> Batch:
        """A sample of evenly spaced examples of the source, `[examples, ...]` each, on the host."""
        return self._sampled

    @cached_property
    def _sampled(self) -> Batch:
        count = min(self.num_examples, _SAMPLE)
        return self.take(np.arange(count) * self.num_examples // count)

    def shuffled(self, key: Any) -> "Stream":
        """Returns the same data with the order of training batches determined by `key`."""
        return replace(self, key=key)

    def fingerprint(self) -> str:
        """Returns a short string that changes when a change of the source is detected."""
        return fingerprint(self.source)

    def take(self, index: Any) -> Batch:
        """Returns the examples at the given indices, decoded as in epoch 0, with `index`."""
        index = np.asarray(index)
        return self._awaited(lambda pool: self.fields(pool, index, np.zeros_like(index), (0, 0)))

    def shapes(self, batch_size: int | None = None) -> Block:
        """Returns the shapes of a block, with the training batch size by default."""
        size = self.batch_size if batch_size is None else batch_size
        arrays = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.block, size, *x.shape[1:]), x.dtype),
            dict(self.examples),
        )
        return Block(arrays, jax.ShapeDtypeStruct((), np.int32))

    def read(self, step: int) -> Block:
        """Returns a block of training batches that starts at a step."""
        words = np.asarray(jax.random.key_data(self.key))
        arrays = self._awaited(lambda pool: self.training(pool, words, step))
        return Block(arrays, np.int32(step))

    def read_in_order(self, first: int) -> Block:
        """Returns a block of batches in order that starts at batch `first`."""
        arrays = self._awaited(lambda pool: self.evaluation(pool, first))
        return Block(arrays, np.int32(first))

    def first(self, words: Any) -> dict[str, Any]:
        """Returns the first training batch in the order of a key, `[1, batch_size, ...]`."""
        return self._awaited(lambda pool: replace(self, block=1).training(pool, words, 0))

    def _awaited(self, read: Callable[[Any], tuple[dict[str, Any], int]]) -> dict[str, Any]:
        """Returns the fields that `read` returns, or raises `Stalled` after the timeout."""
        with Threads(self.workers, "jaxnn-read") as pool, Threads(1, "jaxnn-stream") as thread:
            return awaited(thread.submit(read, pool), self.timeout)[0]

    # The feed calls these in a separate thread.

    def training(
        self, pool: Any, words: Any, step: int, rows: Any = slice(None)
    ) -> tuple[dict[str, Any], int]:
        """Returns a block of training batches, and the number of skipped examples.

        Args:
          pool: the threads that read.
          words: the key data of the order.
          step: the step of the first batch.
          rows: the rows of each batch that this process reads.
        """
        size, n = self.batch_size, self.num_examples
        index, epoch = order_on_host(words, step, self.block, size, n)
        index, epoch = index[:, rows], epoch[:, rows]
        fields, skipped = self.fields(pool, index.ravel(), epoch.ravel(), words)
        shape = index.shape
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), fields), skipped

    def evaluation(
        self, pool: Any, first: int, rows: Any = slice(None)
    ) -> tuple[dict[str, Any], int]:
        """Returns a block of batches in order; rows past the end have weight 0."""
        size = min(self.batch_size, self.num_examples)
        place = np.arange(first * size, (first + self.block) * size).reshape(self.block, size)
        place = place[:, rows]
        shape, place = place.shape, place.ravel()
        index = np.minimum(place, self.num_examples - 1)
        fields, skipped = self.fields(pool, index, np.zeros_like(index), (0, 0))
        weights = np.asarray(fields.get("weights", np.ones(len(place))), np.float32)
        inside = (place < self.num_examples).reshape((-1,) + (1,) * (weights.ndim - 1))
        fields["weights"] = np.where(inside, weights, np.float32(0))
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), fields), skipped

    def fields(
        self, pool: Any, index: np.ndarray, epoch: np.ndarray, words: Any
    ) -> tuple[dict[str, Any], int]:
        """Returns examples in storage dtypes with `index`, and the number of skipped examples."""
        for files in _files(self.source):
            files.check()
        # An example that occurs twice is read twice, since its augmentation differs.
        if self.decode is None and hasattr(self.source, "rows") and self.on_error == "raise":
            read, skipped = self._rows(index), 0
        else:
            one = partial(self._example, words)
            examples = pool.map(one, index.tolist(), epoch.tolist())
            skipped = sum(example is None for example in examples)
            read = combined(
                np.stack,
                self._filled(examples, skipped),
                lambda row: words_for(self.source, int(index[row])),
            )
        return {**self._stored(read, index), "index": index.astype(np.int32)}, skipped

    def _stored(self, read: Any, index: np.ndarray) -> dict[str, Any]:
        """Returns examples in storage dtypes; an error names the example."""
        try:
            return stored("stream", read)
        except Invalid:
            for row, one in enumerate(index.tolist()):
                with explained(one, place_of(self.source, one)):
                    stored("stream", jax.tree.map(lambda x, n=row: x[n : n + 1], read))
            raise

    def _rows(self, index: np.ndarray) -> dict[str, Any]:
        try:
            return read_rows(self.source, index)
        except Invalid:
            raise
        except Exception as error:
            for one in index.tolist():  # find the example that cannot be read
                try:
                    read_rows(self.source, np.array([one]))
                except Exception as reason:
                    raise self._unreadable(one, reason) from reason
            raise self._unreadable(int(index[0]), error) from error

    def _example(self, words: Any, index: int, epoch: int) -> Any:
        try:
            example = self.source[index]
            if self.decode is None:
                return example
            return self.decode(example, _random(words, index, epoch))
        except Changed:
            raise
        except Exception as error:
            if self.on_error == "skip":
                return None
            raise self._unreadable(index, error) from error

    def _filled(self, examples: list[Any], skipped: int) -> list[Any]:
        """Adds weights if examples may be skipped; skipped ones become zeros of weight 0."""
        if self.on_error == "raise":
            return examples
        if skipped == len(examples):
            raise InvalidValue(
                "stream",
                "no example of a block can be read",
                got=f"{skipped} skipped examples of {self.source!r}",
                expected="at least one readable example",
                fix="Pass on_error='raise' to see why",
            )
        zero = jax.tree.map(np.zeros_like, next(x for x in examples if x is not None))
        return [
            {"weights": np.float32(1), **x} if x is not None else {"weights": np.float32(0), **zero}
            for x in examples
        ]

    def _unreadable(self, index: int, error: Exception) -> Exception:
        return InvalidValue(
            "stream",
            f"{words_for(self.source, index)} cannot be read",
            got=f"{type(error).__name__}: {error}",
            expected="an example",
            fix="Repair it, or pass on_error='skip' to count such examples and train without them",
        )

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name} {jax.tree.map(lambda x: f'{x.dtype}{list(x.shape[1:])}', tree)}"
            for name, tree in self.examples.items()
            if name != "index"
        )
        return f"Stream({self.num_examples} examples in batches of {self.batch_size}: {fields})"


def stream(
    source: Any,
    *,
    batch_size: int,
    read: Callable[[Any, np.random.Generator], Any] | None = None,
    block: int = 32,
    ahead: int = 2,
    workers: int = 8,
    on_error: OnError = "raise",
    timeout: float = 300.0,
) -> Stream:
    """Returns data that are read from a source during training.

    Args:
      source: an object with `len(source)` and `source[i]`, which returns an example: a dict of
        fields such as `{"inputs": ..., "labels": ...}`. `jaxnn.streams` opens files (`tokens`,
        `arrays`, `images`, `arrow`, `records`), and combines sources (`mix`, `concatenate`).
      batch_size: the number of examples in a batch, over all devices.
      read: `(example, random) -> example`, a function that decodes and augments on the host, in
        threads. `random` is a NumPy generator that depends only on the run's key, the example and
        the epoch.
      block: the number of batches that are put on the device at once.
      ahead: the number of blocks that are prefetched.
      workers: the number of threads that read and decode.
      on_error: what to do if an example cannot be read: `"raise"`, or `"skip"` to give it weight 0.
      timeout: the seconds to wait for a block before raising an error.

    Raises:
      InvalidType: if the source has no random access, or an example is not a dict of numbers.
      InvalidValue: if the source is empty or smaller than a batch, or an argument is out of range.
    """
    sizes = {"batch_size": batch_size, "block": block, "ahead": ahead, "workers": workers}
    for name, value in sizes.items():
        positive_integer("stream", name, value)
    number("stream", "timeout", timeout, low=0, open_low=True)
    choice("stream", "on_error", on_error, get_args(OnError))
    check_source(source)
    return Stream(
        source, int(batch_size), read, block=int(block), ahead=int(ahead), workers=int(workers),
        on_error=on_error, timeout=float(timeout),
    )  # fmt: skip


def _random(words: Any, index: int, epoch: int) -> np.random.Generator:
    low, high = (int(word) for word in words[:2])
    key = np.array([low << 32 | high, index << 32 | epoch], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def _files(source: Any) -> list[Any]:
    """Returns the files of a source, to check that they have not changed."""
    files = getattr(source, "files", [])
    own = files if isinstance(files, list) else [files]
    inner = [file for each in getattr(source, "sources", []) for file in _files(each)]
    return [file for file in own if hasattr(file, "check")] + inner
