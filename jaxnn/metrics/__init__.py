"""A metric is a pytree of sums: exact however the examples were cut into batches.

Adding the sums of two batches gives the sums of both together; `value()` finishes them. So a mean
over an epoch, an evaluation in padded batches and one over eight devices are all the same number,
and none needs the predictions to be stored. Every sum is weighted: padding has weight 0. Sums are
compensated, so that they stay exact for any number of examples.

    >>> import jax.numpy as jnp
    >>> first = mean(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0]))
    >>> second = mean(jnp.array([6.0, 99.0]), jnp.array([1.0, 0.0]))
    >>> float(merge(first, second).value())
    3.0
"""

from jaxnn.metrics.answers import (
    accuracy,
    auc,
    calibration_error,
    confusion,
    disagreement,
    f1,
    top_k,
)
from jaxnn.metrics.metric import (
    Metric,
    empty,
    has_value,
    lower_is_better,
    mean,
    merge,
    ratio,
    values,
)
from jaxnn.metrics.predictions import bits_per_byte, perplexity, r_squared

__all__ = [
    "Metric",
    "accuracy",
    "auc",
    "bits_per_byte",
    "calibration_error",
    "confusion",
    "disagreement",
    "empty",
    "f1",
    "has_value",
    "lower_is_better",
    "mean",
    "merge",
    "perplexity",
    "r_squared",
    "ratio",
    "top_k",
    "values",
]
