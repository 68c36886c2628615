"""Objectives of places: those of a sequence that are empty weigh nothing.

>>> from jaxnn.objectives import classification
>>> goal = of_places(classification())
>>> batch = {"inputs": jnp.zeros((1, 3, 2)), "lengths": jnp.array([2])}
>>> batch = goal.prepare(None, {**batch, "labels": jnp.array([[0, 1, -100]])})
>>> outputs = batch["inputs"]                                 # those of a network, at each place
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
    """Returns an objective that makes `Masked` inputs of the field of a batch that says so.

    Where the outputs are `Masked` too, each place has a loss, and each that exists counts the same
    but for `weights`. Where they are not, as after pooling over time, there is one for an example.
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
    """Returns outputs as one array, and the batch with a weight of 0 for each empty place."""
    if not isinstance(outputs, Masked):
        _refuse_inside(outputs)
        return outputs, batch
    # A loss written by hand has no shield of its own.
    return shielded_batch(outputs.values, weigh(outputs.mask, batch))


def _refuse_inside(outputs: Any) -> None:
    leaves = jax.tree.leaves(outputs, is_leaf=lambda x: isinstance(x, Masked))
    if any(isinstance(x, Masked) for x in leaves):
        raise InvalidType(
            "objective",
            "the outputs are several, and some are sequences with empty places",
            got=f"a {type(outputs).__name__} that holds Masked outputs",
            expected="one Masked output, or arrays alone",
            fix="Combine them into one, parallel(..., combine=...), or reduce each sequence by"
            " over_time(...)",
        )


def weigh(mask: Any, batch: Batch) -> Batch:
    """Returns the batch with a weight for each place, 0 where it is empty."""
    weights = jnp.asarray(batch.get("weights", jnp.ones(mask.shape)), jnp.float32)
    rank = max(mask.ndim, weights.ndim)
    mask, weights = (x.reshape(x.shape + (1,) * (rank - x.ndim)) for x in (mask, weights))
    return {**batch, "weights": jnp.where(mask, weights, 0.0)}
