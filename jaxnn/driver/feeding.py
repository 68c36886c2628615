"""The sources of training batches: data on the device, or a stream that is prefetched."""

from collections.abc import Callable
from contextlib import closing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnn.driver.placement import Placed
from jaxnn.learning._learner import ORDER, Learner
from jaxnn.loop._evaluate import add_batches
from jaxnn.scale.layout import Layout
from jaxnn.scale.placement import Placement, on_device
from jaxnn.scale.resident import placed_shapes
from jaxnn.streams._block import Block
from jaxnn.streams._stream import Stream
from jaxnn.streams.feed import Feed, Meter
from jaxnn.streams.ranges import Ranges
from jaxnn.typing import Any

ENDLESS = 1 << 62


class Whole:
    """Data that are stored on every device, and provide all batches at once."""

    def __init__(self, layout: Layout, data: Any):
        self.parts = layout.copies(data)

    def at(
        self, step: int, orders: list[Any], is_idle: Callable[[], bool] = lambda: True
    ) -> tuple[list[Any], int]:
        """Returns data for each device with the batch of a step, and the step after their last.

        Args:
          step: the step of the next batch.
          orders: the key of the data order, or the keys of the members, for each device.
          is_idle: returns whether the devices have completed all dispatched work.
        """
        return [data.shuffled(order) for data, order in zip(self.parts, orders)], ENDLESS

    def close(self) -> None:
        """Stops prefetching."""


class Streamed(Whole):
    """Prefetched blocks of a stream; in a population, members have separate blocks."""

    def __init__(
        self,
        layout: Layout,
        stream: Stream,
        last: int,
        meter: Meter,
        ranges: Ranges | None,
    ):
        self.layout, self.stream, self.ranges = layout, stream, ranges
        self.rows = local_rows(layout, stream.batch_size)
        self.orders: list[Any] = []
        self.words: list[np.ndarray] = []
        self.feed = Feed(self._read, self._put, stream, last, meter)

    def at(self, step, orders, is_idle=lambda: True):
        """See `Whole`."""
        if any(new is not old for new, old in zip(orders, self.orders or [None])):
            words = [np.asarray(jax.random.key_data(order)) for order in orders]
            if self.words and not all(map(np.array_equal, words, self.words)):
                self.feed.forget()  # members have moved to other devices
            self.orders, self.words = orders, words
        return self.feed.at(step, is_idle)

    def close(self):
        """See `Whole`."""
        self.feed.close()

    def _read(self, pool, first):
        """Reads the fields for each device, with an axis of members for a population."""
        parts, skipped = [], 0
        for words in self.words:
            reads = [
                self.stream.training(pool, own, first, self.rows)
                for own in words.reshape(-1, words.shape[-1])
            ]
            skipped += sum(count for _, count in reads)
            fields = [_checked(self.ranges, fields) for fields, _ in reads]
            single = words.ndim == 1
            parts.append(fields[0] if single else jax.tree.map(lambda *xs: np.stack(xs), *fields))
        return parts, skipped

    def _put(self, parts, first):
        places = None if self.layout.members is None else np.arange(len(self.words[0]))
        return put_blocks(self.layout, parts, first, places, self.stream.batch_size)


def _checked(ranges: Ranges | None, fields: Any) -> Any:
    if ranges is not None:
        ranges.check(fields)
    return fields


def local_rows(layout: Layout, size: int) -> Any:
    """Returns the rows of a batch of `size` examples on the devices of this process."""
    if layout.placement is None:
        return slice(None)
    sharding = layout.placement.rows_at(0, (size,))
    if sharding.is_fully_addressable or sharding.is_fully_replicated:
        return slice(None)
    numbers = np.arange(size)
    parts = sharding.addressable_devices_indices_map((size,)).values()
    return np.unique(np.concatenate([numbers[index] for index in parts]))


def are_ready(arrays: Any) -> bool:
    """Returns whether all arrays are computed; random keys are skipped, as they cannot tell."""
    leaves = jax.tree.leaves(arrays)
    return all(leaf.is_ready() for leaf in leaves if hasattr(leaf, "is_ready"))


def put_blocks(layout: Layout, parts: list[Any], first: int, places: Any, size: int) -> list[Block]:
    """Puts a block on each device, or on a mesh a single block whose rows are sharded.

    Args:
      layout: the layout of the devices.
      parts: the fields for each device; on a mesh, only the rows `local_rows` of each batch.
      first: the number of the first batch.
      places: the indices of the members, if members have separate batches; else `None`.
      size: the batch size.
    """
    placement = layout.placement
    if placement is None:
        return layout.put([Block(fields, np.int32(first), places) for fields in parts])
    axis, rows = 1 if places is None else 2, local_rows(layout, size)

    def divided(x: Any) -> Any:
        if isinstance(rows, slice):
            return on_device(x, placement.rows_at(axis, x.shape))
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])

        def local(index):
            start, stop, _ = index[axis].indices(size)
            first, last = np.searchsorted(rows, (start, stop))
            return x[(*index[:axis], slice(first, last), *index[axis + 1 :])]

        return jax.make_array_from_callback(shape, placement.rows_at(axis, shape), local)

    return [Block(jax.tree.map(divided, fields), np.int32(first), places) for fields in parts]


def first_batches(data: Any, key: Any, slots: Any, members: int | None) -> Any:
    """Returns the first batch of a stream for the members in some slots; `None` for other data.

    Under `jax.eval_shape`, no batch is read, and the result has the right shapes.
    """
    if not isinstance(data, Stream):
        return None
    if members is not None:
        member = jnp.minimum(slots, members - 1)
        key = jnp.broadcast_to(key, (members,))[member]
    orders = jax.vmap(_order)(key) if key.shape else _order(key)
    if isinstance(orders, Tracer):
        shapes = data.shapes().arrays
        zeros = jax.tree.map(lambda x: np.zeros((1, *x.shape[1:]), x.dtype), shapes)
        batches = [zeros] * orders.size
    else:
        words = np.asarray(jax.random.key_data(orders))
        batches = [data.first(own) for own in words.reshape(-1, words.shape[-1])]
    return batches[0] if members is None else jax.tree.map(lambda *xs: np.stack(xs), *batches)


def _order(key: Any) -> Any:
    return jax.random.fold_in(key, ORDER)


def traced(data: Any, order: Any = None, placement: Placement | None = None) -> Any:
    """Returns the data argument of the program of a step; for a stream, the shapes of a block.

    Args:
      data: the training data.
      order: the key of the data order, or the keys of the members.
      placement: the placement of a run on a mesh, to include shardings.
    """
    if not isinstance(data, Stream):
        data = data if placement is None else placed_shapes(placement, data)
        return data if order is None else data.shuffled(order)
    block = data.shapes()
    if placement is not None:
        arrays = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                x.shape, x.dtype, sharding=placement.rows_at(1, x.shape)
            ),
            block.arrays,
        )
        return Block(arrays, block.first)
    if order is None or not order.shape:
        return block
    (members,) = order.shape
    arrays = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), block.arrays
    )
    return Block(arrays, block.first, jax.ShapeDtypeStruct((members,), np.int32))


def traced_in_order(data: Any) -> Any:
    """Returns the data argument of the program of an evaluation; for a stream, the shapes."""
    if not isinstance(data, Stream):
        return data
    block = data.shapes(min(data.batch_size, data.num_examples))
    like = block.arrays.get("weights", block.arrays["index"])
    weights = jax.ShapeDtypeStruct(like.shape, np.float32)
    return Block({**block.arrays, "weights": weights}, block.first)


def sums_of(
    learner: Learner,
    placed: Placed,
    data: Stream,
    shapes: Any,
    meter: Meter,
    ranges: Ranges | None,
) -> list[dict[str, Any]]:
    """Evaluates on a stream; returns the sums of the metrics on each device.

    Args:
      learner: the learner that computes the metrics.
      placed: the trials to evaluate.
      data: the evaluation data.
      shapes: the shapes of the metrics of a batch.
      meter: accumulates the cost of reading.
      ranges: the range checks of the data.
    """
    layout, states = placed.layout, [trial.state for trial in placed.parts]

    def put(fields, first):
        return put_blocks(layout, [fields] * len(states), first, None, size)

    def read(pool, first):
        fields, skipped = data.evaluation(pool, first, local_rows(layout, size))
        return _checked(ranges, fields), skipped

    size = min(data.batch_size, data.num_examples)
    members = () if layout.members is None else (layout.slots // len(states),)
    empty = jax.tree.map(lambda x: np.zeros((*members, *x.shape), x.dtype), shapes)
    sums, number = layout.put([empty] * len(states)), 0
    with closing(Feed(read, put, data, data.num_batches, meter)) as blocks:
        while number < data.num_batches:
            # The states may still be in computation by the training steps.
            parts, end = blocks.at(number, partial(are_ready, (states, sums)))
            count = np.int32(min(end, data.num_batches) - number)
            sums = [
                add_batches(learner, layout.width, *each, count)
                for each in zip(sums, states, parts)
            ]
            number = end
    return sums
