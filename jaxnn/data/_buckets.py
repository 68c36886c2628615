"""Padded sequences in buckets: batches of sequences of similar length, cut to a narrower width.

When lengths vary much, a random batch is mostly padding. Here the examples are sorted by length, a
batch is a slice of the sorted examples, and a step computes with the narrowest of a few widths that
holds the batch. One compiled program contains all widths.

    >>> import numpy as np
    >>> data = buckets({"inputs": np.ones((6, 9)), "lengths": [1, 9, 2, 2, 8, 3]}, batch_size=2,
    ...                count=2)
    >>> data
    Buckets(6 examples in batches of 2, of 3 or 9 places: inputs float32[9], lengths int32[])
    >>> at_width(data, data.in_order(0), lambda batch: batch["inputs"].sum()).item()
    3.0
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn.checks import InvalidValue, positive_integer
from jaxnn.data._resident import Resident, resident
from jaxnn.data.order import permute
from jaxnn.typing import Any, Batch, Callable

# The number of positions in the sorted examples at which a bucket may begin.
_CANDIDATES = 64


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays", "key"],
    meta_fields=["batch_size", "padding", "widths", "starts"],
)
@dataclass(frozen=True, repr=False)
class Buckets(Resident):
    """Padded sequences on the device, sorted by length; a kind of `Resident`.

    Attributes:
      widths: the possible widths of a batch in increasing order; the last is that of the arrays.
      starts: the index of the first example of each bucket, a multiple of the batch size.
    """

    widths: tuple[int, ...]
    starts: tuple[int, ...]

    def batch(self, step: Any) -> Batch:
        """Returns the training batch of a step, whose examples come from one bucket.

        An epoch consists of all batches of all buckets in random order. Examples are shuffled
        within their bucket, and the last batch is filled with examples drawn at random.
        """
        n, size = self.num_examples, self.batch_size
        batches = jnp.uint32(self.num_batches)
        step = jnp.asarray(step).astype(jnp.uint32)
        epoch = step // batches
        number = permute(self.key, epoch, step % batches, self.num_batches)
        place = number * jnp.uint32(size) + lax.iota(jnp.uint32, size)
        starts = jnp.array(self.starts, jnp.uint32)
        ends = jnp.array([*self.starts[1:], n], jnp.uint32)
        bucket = jnp.sum(starts <= number * jnp.uint32(size)) - 1
        first, length = starts[bucket], ends[bucket] - starts[bucket]
        inner, drawn = (jax.random.fold_in(self.key, i) for i in (1, 2))
        epochs = jnp.full(size, epoch)
        inside = first + permute(inner, epochs, (place - first) % length, length)
        others = permute(drawn, epochs, place % jnp.uint32(n), n)
        return self.take(jnp.where(place < n, inside, others).astype(jnp.int32))

    def __repr__(self) -> str:
        fields = super().__repr__().partition(": ")[2]
        return (
            f"Buckets({self.num_examples} examples in batches of {self.batch_size}, of"
            f" {' or '.join(map(str, self.widths))} places: {fields}"
        )


def buckets(fields: Mapping[str, Any], *, batch_size: int, count: int = 4) -> Buckets:
    """Puts padded sequences on the device, in buckets of similar lengths.

    Results equal those of `resident` except for the order of the batches, since padding never
    affects them. The time of a step depends on the width of its batch, and compilation takes as
    long as for one step per bucket. Members that train in parallel on a device compute every step
    at every width.

    Args:
      fields: the fields that `pad` returns: `inputs` `[examples, time, ...]`, `lengths`
        `[examples]` and others. Fields of shape `[examples, time, ...]` are cut like the inputs.
      batch_size: as in `resident`.
      count: the maximum number of buckets; their bounds are chosen to minimize padding.

    Raises:
      InvalidValue: as `resident`, or if there are no lengths.
      InvalidType: as `resident`.
    """
    positive_integer("buckets", "count", count)
    if not isinstance(fields, Mapping) or "lengths" not in fields or "inputs" not in fields:
        raise InvalidValue(
            "buckets",
            "there are no lengths",
            got=f"fields {', '.join(map(str, fields))}"
            if isinstance(fields, Mapping)
            else f"a {type(fields).__name__}",
            expected="inputs [examples, time, ...] and lengths [examples]",
            fix="Pass what pad(sequences) returns",
        )
    data = resident(fields, batch_size=batch_size)
    lengths = np.asarray(data.arrays["lengths"])
    order = np.argsort(lengths, kind="stable")
    arrays = jax.tree.map(lambda x: x[order], data.arrays)
    time = data.arrays["inputs"].shape[1]
    widths, starts = _bounds(lengths[order], data.batch_size, time, count)
    return Buckets(arrays, data.key, data.batch_size, widths=widths, starts=starts)


def at_width(data: Any, batch: Batch, function: Callable[[Batch], Any]) -> Any:
    """Calls a function with a batch cut to the narrowest width that holds its sequences.

    Batches of other data are not cut. The shapes of the outputs must not depend on the width.
    """
    widths = data.widths if isinstance(data, Buckets) else ()
    if len(widths) < 2:
        return function(batch)
    full = widths[-1]

    def cut(width, batch):
        return function(
            jax.tree.map(lambda x: x[:, :width] if x.shape[1:2] == (full,) else x, batch)
        )

    longest = jnp.max(batch["lengths"])
    index = jnp.sum(jnp.array(widths[:-1], jnp.int32) < longest)
    return lax.switch(index, [partial(cut, width) for width in widths], batch)


def _bounds(lengths: Any, size: int, time: int, count: int) -> tuple[Any, Any]:
    """Returns the widths and starts of the buckets that minimize padding, for sorted lengths."""
    batches = -(-len(lengths) // size)
    edges = np.unique(np.linspace(0, batches, min(batches, _CANDIDATES) + 1).astype(int))
    starts = edges * size
    ends = np.minimum(starts[1:], len(lengths))
    widths = np.maximum(lengths[ends - 1], 1)
    widths[-1] = time
    # `cost[i]` is the least cost of the first `i` pieces; `begins` where their last bucket begins.
    cost, begins = np.full(len(edges), np.inf), []
    cost[0] = 0.0
    for _ in range(min(count, len(widths))):
        total = cost[:, None] + np.full((len(edges), len(edges)), np.inf)
        for i in range(1, len(edges)):
            total[:i, i] = cost[:i] + (edges[i] - edges[:i]) * widths[i - 1]
        begins.append(np.argmin(total, 0))
        cost = np.min(total, 0)
    pieces, end = [], len(edges) - 1
    for begin in reversed(begins):
        pieces.append((int(widths[end - 1]), int(starts[begin[end]])))
        end = int(begin[end])
    merged = dict(reversed(pieces))  # in case several buckets have the same width
    first = {w: min(s for x, s in pieces if x == w) for w in merged}
    return tuple(first), tuple(first.values())
