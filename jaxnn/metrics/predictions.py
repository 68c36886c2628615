"""Metrics of predicted numbers and probabilities: R^2, perplexity and bits per byte.

>>> import jax.numpy as jnp
>>> logits, labels = jnp.zeros((3, 4)), jnp.array([0, 1, 3])        # four equally likely tokens
>>> sums = logits, labels, jnp.ones(3)
>>> float(perplexity(*sums).value()), float(bits_per_byte(*sums).value())
(4.0, 2.0)
"""

from math import log

import jax
import jax.numpy as jnp
import optax

from jaxnn.checks import positive
from jaxnn.metrics.metric import Metric, mean, ratio
from jaxnn.typing import Any, Array, Float, Int


def r_squared(
    predictions: Float[Array, "batch *features"],
    targets: Float[Array, "batch *features"],
    weights: Float[Array, "batch *features"],
) -> Metric:
    """Returns the coefficient of determination, R^2 = 1 - SSE / SST.

    For several targets, the value is the mean of their R^2, as in scikit-learn's `r2_score`. It is
    at most 1, and negative if the mean of the targets would be a better prediction. It is NaN if
    the targets do not vary, or by less than a thousandth of their size, which float32 sums cannot
    resolve. So center targets whose mean is a hundred standard deviations or more away from 0.
    """
    known = jnp.where(weights != 0, targets, 0.0)
    errors = jnp.where(weights != 0, targets - predictions, 0.0)
    sums = (weights, weights * known, weights * known**2, weights * errors**2)
    return Metric(jax.tree.map(lambda x: jnp.sum(x, 0), sums), _explained, "higher")


def _explained(sums: Any) -> Any:
    count, total, squares, errors = sums
    spread = squares - total**2 / count
    return jnp.mean(jnp.where(spread > 1e-6 * squares, 1.0 - errors / spread, jnp.nan))


def perplexity(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
) -> Metric:
    """Returns the perplexity, the exponential of the mean cross-entropy.

    It is 1 for certain and correct predictions, and `classes` for uniform ones. It is a geometric
    mean over examples, so perplexities of batches must be merged, not averaged.
    """
    return Metric(_cross_entropy(logits, labels, weights).sums, _exponential, "lower")


def bits_per_byte(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
    *,
    bytes_per_token: float = 1.0,
) -> Metric:
    """Returns the mean cross-entropy in bits per byte: the compression rate of the model.

    Args:
      logits: the logits of the next token, `[..., tokens]`.
      labels: the next tokens, `[...]`.
      weights: their weights, `[...]`.
      bytes_per_token: the mean length of a token in bytes, which makes values comparable between
        vocabularies. With the default of 1, the value is bits per token.

    Raises:
      InvalidValue: if `bytes_per_token` is not positive.
    """
    positive("bits_per_byte", "bytes_per_token", bytes_per_token)
    loss, weight = _cross_entropy(logits, labels, weights).sums
    return Metric((loss / (log(2) * bytes_per_token), weight), ratio, "lower")


def _cross_entropy(logits: Any, labels: Any, weights: Any) -> Metric:
    logits, labels = logits.astype(jnp.float32), labels.astype(jnp.int32)
    return mean(optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels), weights)


def _exponential(sums: tuple[Any, Any]) -> Any:
    return jnp.exp(ratio(sums))
