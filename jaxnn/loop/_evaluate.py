"""Evaluation and prediction over any number of examples, including a partial last batch."""

from functools import partial

import jax
import numpy as np
from jax import lax

from jaxnn import metrics as measures
from jaxnn.checks import InvalidType, kind, positive_integer
from jaxnn.data._buckets import at_width
from jaxnn.data._no_data import as_data
from jaxnn.data._resident import stored
from jaxnn.data.protocol import Data
from jaxnn.learning._learner import Learner
from jaxnn.loop._population import in_blocks
from jaxnn.scale.placement import collected, copied
from jaxnn.scale.resident import placed_data
from jaxnn.streams._stream import Stream
from jaxnn.typing import Any, Callable


@partial(jax.jit, static_argnums=0)
def evaluation(learner: Learner, state: Any, data: Any) -> dict[str, Any]:
    """Dispatches the evaluation of a dataset; returns the metrics as arrays on the device."""

    def add(number, sums):
        return measures.merge(sums, evaluated(learner, state, data, number))

    sums = jax.eval_shape(partial(evaluated, learner), state, data, 0)
    return measures.values(lax.fori_loop(0, data.num_batches, add, measures.empty(sums)))


@partial(jax.jit, static_argnums=0, inline=True)
def evaluated(learner, state, data, number):
    """Evaluates a batch; traced once for a learner, regardless of the calling program."""
    return at_width(data, data.in_order(number), partial(learner.evaluate, state))


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def add_batches(learner, width, sums, state, block, count):
    """Adds the metrics of the first `count` batches of a block, for `width` members in parallel."""

    def one(sums, state):
        def add(number, sums):
            return measures.merge(sums, evaluated(learner, state, block, block.first + number))

        return lax.fori_loop(0, count, add, sums)

    return in_blocks(jax.vmap(one) if (width or 1) > 1 else one, width)(sums, state)


def evaluate(learner: Learner, state: Any, data: Data | None) -> dict[str, float]:
    """Returns every metric over a dataset, `{"loss": ..., "accuracy": ...}`.

    The last batch is padded with examples of weight 0, so that the result does not depend on the
    batch size.

    Args:
      learner: the learner that computes the metrics.
      state: the state to evaluate.
      data: the evaluation data, such as `Resident` or `Stream`; with `None`, the learner generates
        its own, and evaluates one empty batch.

    Raises:
      InvalidType: if the state is that of a population.
    """
    fix = "Pass resident({'inputs': inputs, 'labels': labels}, batch_size=1024)"
    data = as_data(data)
    kind("evaluate", "data", data, Data, fix=fix)
    if np.ndim(state.step):
        raise InvalidType(
            "evaluate",
            "the state is that of a population",
            got=f"the states of {len(state.step)} members",
            expected="the state of one of them",
            fix="Pass jax.tree.map(lambda x: x[member], state) for each member",
        )
    if not isinstance(data, Stream):
        if learner.placement is not None:
            data = placed_data(learner.placement, data)
        return {name: float(value) for name, value in evaluation(learner, state, data).items()}
    sums: Any = None
    for first in range(0, data.num_batches, data.block):
        block = copied(learner, data.read_in_order(first))
        if sums is None:
            shapes = jax.eval_shape(partial(evaluated, learner), state, block, first)
            sums = measures.empty(shapes)
        count = np.int32(min(data.block, data.num_batches - first))
        sums = add_batches(learner, None, sums, state, block, count)
    return {name: float(value) for name, value in measures.values(sums).items()}


@partial(jax.jit, static_argnums=0)
def _predict(learner, state, inputs):
    if state.step.ndim:
        outputs = lax.map(lambda member: learner.predict(member, inputs), state)
    else:
        outputs = learner.predict(state, inputs)
    return collected(learner, outputs)


def predict(learner: Learner, state: Any, inputs: Any, *, batch_size: int = 1024) -> Any:
    """Returns the outputs for any number of inputs, as NumPy arrays `[examples, ...]`.

    For a population, outputs are `[members, examples, ...]`.

    Args:
      learner: the learner that computes the outputs.
      state: the state with the trained parameters.
      inputs: an array `[examples, ...]`, or a pytree of them.
      batch_size: the maximum number of examples that are computed at once.

    Raises:
      InvalidValue: if there are no examples, or a number is not finite.
    """
    inputs = stored("predict", {"inputs": inputs})["inputs"]

    def outputs(batch: Any) -> Any:
        return _predict(learner, state, copied(learner, batch))

    return in_batches(outputs, inputs, batch_size, axis=np.ndim(state.step))


def in_batches(
    function: Callable[[Any], Any], inputs: Any, batch_size: int, *, axis: int = 0, full=False
) -> Any:
    """Applies a function to any number of examples batch by batch; returns NumPy arrays.

    Args:
      function: maps a batch of inputs to a batch of outputs.
      inputs: a pytree of arrays `[examples, ...]`.
      batch_size: the maximum batch size.
      axis: the axis of examples in the outputs.
      full: whether every batch is padded to `batch_size`, even if there are fewer inputs.
    """
    positive_integer("predict", "batch_size", batch_size)
    count = jax.tree.leaves(inputs)[0].shape[0]
    # The last batch is padded with copies of the last example, and the size of a single batch is
    # rounded up to a power of two, so that different numbers of inputs share a program.
    size = batch_size if full else min(batch_size, 1 << (count - 1).bit_length())
    outputs = []
    for start in range(0, count, size):
        place = np.minimum(np.arange(start, start + size), count - 1)
        outputs.append(function(jax.tree.map(lambda x, p=place: x[p], inputs)))
    whole = jax.tree.map(lambda *parts: np.concatenate(parts, axis), *outputs)
    return jax.tree.map(lambda x: x[(slice(None),) * axis + (slice(count),)], whole)
