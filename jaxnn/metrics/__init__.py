"""A metric is a pytree of sums, so its value does not depend on how examples are batched.

Metrics of two batches merge by adding their sums, and `value()` computes the final value. So an
epoch, an evaluation in padded batches and one over eight devices give the same number, and
predictions need not be stored. Sums are weighted, and padding has weight 0. They use compensated
summation, so that they stay exact for any number of examples.

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
