"""Objectives for sequences, in which padded positions have weight 0.

>>> from jaxnn.objectives import classification
>>> goal = of_places(classification())
>>> batch = {"inputs": jnp.zeros((1, 3, 2)), "lengths": jnp.array([2])}
>>> batch = goal.prepare(None, {**batch, "labels": jnp.array([[0, 1, -100]])})
>>> outputs = batch["inputs"]                       # as from a network with one output per position
>>> goal.loss(outputs, batch)[1].tolist()
[[1.0, 1.0, 0.0]]
"""

from functools import wraps

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType
from jaxnn.masked import Masked, mask_inputs, mask_of
from jaxnn.objectives._examples import shielded_batch
from jaxnn.objectives._objective import Objective
from jaxnn.typing import Any, Batch


def of_places(base: Objective) -> Objective:
    """Returns an objective that accepts sequences of different lengths.

    `prepare` turns the inputs into `Masked` inputs if the batch has a field such as `lengths`. If
    the outputs are `Masked` too, the loss has a value for each position, with weight 0 for padding.
    If they are arrays, as after pooling over time, the loss has one value per example.
    """

    @wraps(base.prepare)
    def prepare(key, batch):
        return base.prepare(key, mask_inputs(batch))

    @wraps(base.loss)
    def loss(outputs, batch):
        return base.loss(*weigh_places(outputs, batch))

    @wraps(base.metrics)
    def metrics(outputs, batch):
        return base.metrics(*weigh_places(outputs, batch))

    def check(outputs, arrays):
        if isinstance(outputs, Masked):
            mask, shape = mask_of(arrays), np.shape(arrays.get("labels"))
            if mask is not None and mask.shape == shape[:2]:
                arrays = weigh(mask, arrays)
            outputs = outputs.values
        assert base.check is not None
        base.check(outputs, arrays)

    return Objective(loss, metrics, prepare, None if base.check is None else check, base.names)


def weigh_places(outputs: Any, batch: Batch) -> tuple[Any, Batch]:
    """Returns outputs as one array, and the batch with weight 0 at padded positions."""
    if not isinstance(outputs, Masked):
        _refuse_inside(outputs)
        return outputs, batch
    # A user-defined loss is not shielded itself.
    return shielded_batch(outputs.values, weigh(outputs.mask, batch))


def _refuse_inside(outputs: Any) -> None:
    leaves = jax.tree.leaves(outputs, is_leaf=lambda x: isinstance(x, Masked))
    if any(isinstance(x, Masked) for x in leaves):
        raise InvalidType(
            "objective",
            "several outputs contain Masked sequences",
            got=f"a {type(outputs).__name__} that contains Masked outputs",
            expected="one Masked output, or only arrays",
            fix="Combine the outputs with parallel(..., combine=...), or reduce each sequence with"
            " over_time(...)",
        )


def weigh(mask: Any, batch: Batch) -> Batch:
    """Returns the batch with a weight for each position, 0 where the mask is false."""
    weights = jnp.asarray(batch.get("weights", jnp.ones(mask.shape)), jnp.float32)
    rank = max(mask.ndim, weights.ndim)
    mask, weights = (x.reshape(x.shape + (1,) * (rank - x.ndim)) for x in (mask, weights))
    return {**batch, "weights": jnp.where(mask, weights, 0.0)}
