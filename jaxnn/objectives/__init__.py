"""Objectives: a loss for every example, metrics to report, and a function that prepares batches.

A loss returns one value and one weight per example (or per token), never the mean. So it is exact
under masks, padding, gradient accumulation and sharding. A custom loss is one plain function:

    def loss(outputs, batch):                       # [batch, ...] -> [batch]
        return jnp.abs(outputs - batch["labels"])

Pass it to `learner` directly, or to `objective(loss, metrics=...)` to report metrics too. Wrap a
loss that is defined only over a whole batch in `batchwise(loss)`.

    >>> import jax.numpy as jnp
    >>> batch = {"labels": jnp.array([1, 0])}
    >>> values, weights = classification().loss(jnp.zeros((2, 4)), batch)
    >>> values.round(3).tolist(), weights.tolist()           # log(4) nats, twice
    ([1.38600003..., 1.38600003...], [1.0, 1.0])
"""

from jaxnn.objectives._classification import classification
from jaxnn.objectives._focal import focal
from jaxnn.objectives._multi_label import multi_label
from jaxnn.objectives._next_token import next_token
from jaxnn.objectives._objective import (
    Objective,
    augment,
    batchwise,
    example_keys,
    objective,
    weights_of,
)
from jaxnn.objectives._reconstruction import elbo, reconstruction
from jaxnn.objectives._regression import absolute_error, regression
from jaxnn.objectives.contrastive import info_nce
from jaxnn.objectives.distillation import distill

__all__ = [
    "Objective",
    "absolute_error",
    "augment",
    "batchwise",
    "classification",
    "distill",
    "elbo",
    "example_keys",
    "focal",
    "info_nce",
    "multi_label",
    "next_token",
    "objective",
    "reconstruction",
    "regression",
    "weights_of",
]
