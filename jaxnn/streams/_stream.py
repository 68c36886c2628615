"""Data that need not fit into memory: read while they are trained on, in the order of `Resident`.

Which examples make the batch of a step is the same function of `(key, step)` as for `Resident`, but
computed on the host, which reads them and puts blocks of batches on the device ahead of time. So
nothing is remembered: a run that resumes at any step reads on from there at once.

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
from jaxnn.streams.source import check_source, fingerprint, place_of, read_rows, stacked
from jaxnn.streams.threads import Threads
from jaxnn.typing import Any, Batch

OnError = Literal["raise", "skip"]
_SAMPLE = 256  # examples that stand for all, where all are looked at


@partial(jax.tree_util.register_dataclass, data_fields=["arrays", "first", "key"], meta_fields=[])
@dataclass(frozen=True)
class Block:
    """Batches that follow one another, on the device.

    Attributes:
      arrays: the fields and `index`, `[batches, batch_size, ...]`, or with an axis of members
        before that.
      first: the number of the first batch.
      key: `None`; or the places of the members, `[members]`, each of which has batches of its own.
    """

    arrays: dict[str, Any]
    first: Any
    key: Any = None

    def batch(self, step: Any) -> Batch:
        """Returns the batch of a step that is in the block."""
        return jax.tree.map(lambda x: x[step - self.first], self.arrays)

    in_order = batch

    def shuffled(self, key: Any) -> "Block":
        """Returns the batches of the member at this place."""
        if self.key is None:
            return self
        return replace(self, arrays=jax.tree.map(lambda x: x[key], self.arrays), key=None)


@dataclass(frozen=True, repr=False)
class Stream:
    """Examples that are read from a source while they are trained on.

    Attributes:
      source: what is read.
      batch_size: examples in a batch, over all devices together.
      decode: `(example, random) -> example`, or `None`.
      block: batches that are put on the device at once.
      ahead: blocks that are read before they are needed.
      workers: threads that read and decode.
      on_error: what to do about an example that cannot be read.
      timeout: seconds after which a block that does not come is an error.
      key: chooses the order of training batches.
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
        """The number of batches that hold all examples once, the last one perhaps in part."""
        return -(-self.num_examples // self.batch_size)

    @property
    def examples(self) -> Batch:
        """Some examples from all over the source, `[examples, ...]` each, on the host."""
        return self._sampled

    @cached_property
    def _sampled(self) -> Batch:
        count = min(self.num_examples, _SAMPLE)
        return self.take(np.arange(count) * self.num_examples // count)

    def shuffled(self, key: Any) -> "Stream":
        """Returns the same data with the order of training batches chosen by `key`."""
        return replace(self, key=key)

    def fingerprint(self) -> str:
        """Returns a short text that changes when the examples do, as far as is seen."""
        return fingerprint(self.source)

    def take(self, index: Any) -> Batch:
        """Returns the examples with these numbers, as they are decoded in epoch 0, and `index`."""
        index = np.asarray(index)
        with Threads(self.workers, "jaxnn-read") as pool:
            fields, _ = self.fields(pool, index, np.zeros_like(index), (0, 0))
        return fields

    def shapes(self, batch_size: int | None = None) -> Block:
        """Returns the shapes of a block, of training unless the size of a batch is given."""
        size = self.batch_size if batch_size is None else batch_size
        arrays = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.block, size, *x.shape[1:]), x.dtype),
            dict(self.examples),
        )
        return Block(arrays, jax.ShapeDtypeStruct((), np.int32))

    def read(self, step: int) -> Block:
        """Returns the block of training batches that begins with that of a step."""
        words = np.asarray(jax.random.key_data(self.key))
        with Threads(self.workers, "jaxnn-read") as pool:
            arrays, _ = self.training(pool, words, step)
        return Block(arrays, np.int32(step))

    def read_in_order(self, first: int) -> Block:
        """Returns the block of batches in order that begins with this one."""
        with Threads(self.workers, "jaxnn-read") as pool:
            arrays, _ = self.evaluation(pool, first)
        return Block(arrays, np.int32(first))

    def first(self, words: Any) -> dict[str, Any]:
        """Returns the first training batch in some order, `[1, batch_size, ...]`."""
        with Threads(self.workers, "jaxnn-read") as pool:
            return replace(self, block=1).training(pool, words, 0)[0]

    # What the feed asks for, in a thread of its own.

    def training(
        self, pool: Any, words: Any, step: int, rows: Any = slice(None)
    ) -> tuple[dict[str, Any], int]:
        """Returns the training batches from a step on, and how many examples were skipped.

        Args:
          pool: the threads that read.
          words: of the key of the order.
          step: of the first batch.
          rows: those of a batch that are read; the others are read by other processes.
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
        """Returns batches in order from a number on; what is past the end has weight 0."""
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
        """Returns examples as `Resident` stores them, with `index`, and how many were skipped."""
        for files in _files(self.source):
            files.check()
        # An example that occurs twice is read twice: its augmentation is another.
        if self.decode is None and hasattr(self.source, "rows") and self.on_error == "raise":
            read, skipped = self._rows(index), 0
        else:
            one = partial(self._example, words)
            examples = pool.map(one, index.tolist(), epoch.tolist())
            skipped = sum(example is None for example in examples)
            read = stacked(self._filled(examples, skipped))
        read = stored("stream", read)
        return {**read, "index": index.astype(np.int32)}, skipped

    def _rows(self, index: np.ndarray) -> dict[str, Any]:
        try:
            return read_rows(self.source, index)
        except Invalid:
            raise
        except Exception as error:
            for one in index.tolist():  # only one of them may be the reason
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
        except Exception as error:
            if self.on_error == "skip":
                return None
            raise self._unreadable(index, error) from error

    def _filled(self, examples: list[Any], skipped: int) -> list[Any]:
        """Returns the examples, where some may be skipped with weights: 0 for those that were."""
        if self.on_error == "raise":
            return examples
        if skipped == len(examples):
            raise InvalidValue(
                "stream",
                "not one example of a block can be read",
                got=f"{skipped} that were skipped, of {self.source!r}",
                expected="some that can be read",
                fix="Pass on_error='raise' to see why",
            )
        zero = jax.tree.map(np.zeros_like, next(x for x in examples if x is not None))
        return [
            {"weights": np.float32(1), **x}
            if x is not None
            else {"weights": np.float32(1), **zero} | {"weights": np.float32(0)}
            for x in examples
        ]

    def _unreadable(self, index: int, error: Exception) -> Exception:
        return InvalidValue(
            "stream",
            f"example {index}{place_of(self.source, index)} cannot be read",
            got=f"{type(error).__name__}: {error}",
            expected="an example",
            fix="Mend it, or pass on_error='skip', which counts such examples and trains without"
            " them",
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
    """Returns data that are read from a source while they are trained on.

    Args:
      source: anything with `len(source)` and `source[i]`, an example: a dict of fields such as
        `{"inputs": ..., "labels": ...}`. `jaxnn.streams` opens files: `tokens`, `arrays`, `images`,
        `arrow`, `records`; `mix` and `concatenate` make one of many.
      batch_size: examples in a batch, over all devices together.
      read: `(example, random) -> example`, decodes and augments on the host, in threads; `random`
        is a NumPy generator that depends on the run's key, the example and the epoch alone.
      block: batches that are put on the device at once.
      ahead: blocks that are read before they are needed.
      workers: threads that read and decode.
      on_error: what to do about an example that cannot be read: raise, or skip: it has weight 0.
      timeout: seconds after which a block that does not come is an error.

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
    """Returns the files of a source, to check that they are as they were."""
    files = getattr(source, "files", [])
    own = files if isinstance(files, list) else [files]
    inner = [file for each in getattr(source, "sources", []) for file in _files(each)]
    return [file for file in own if hasattr(file, "check")] + inner
