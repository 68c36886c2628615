"""Metrics of predicted numbers and probabilities: R^2, perplexity and bits per byte.

>>> import jax.numpy as jnp
>>> logits, labels = jnp.zeros((3, 4)), jnp.array([0, 1, 3])        # four equally likely tokens
>>> sums = logits, labels, jnp.ones(3)
>>> float(perplexity(*sums).value()), float(bits_per_byte(*sums).value())
(4.0, 2.0)
"""

from math import log

import jax.numpy as jnp

from jaxnn.checks import positive
from jaxnn.metrics.entropy import cross_entropy
from jaxnn.metrics.metric import Metric, mean, ratio
from jaxnn.metrics.pairs import Pair, add, multiply
from jaxnn.typing import Any, Array, Float, Int


def r_squared(
    predictions: Float[Array, "batch *features"],
    targets: Float[Array, "batch *features"],
    weights: Float[Array, "batch *features"],
) -> Metric:
    """Returns the coefficient of determination, R^2 = 1 - SSE / SST.

    For several targets, the value is the mean of their R^2, as in scikit-learn's `r2_score`. It is
    at most 1, and negative if the mean of the targets would be a better prediction. It is NaN if
    the targets do not vary, or by less than a hundred-thousandth of their size.
    """

    def total(values):
        return jnp.sum(weights * jnp.where(weights != 0, values, 0.0), 0)

    # The squares of targets far from 0 hide how they vary. So sums are taken about the mean of the
    # batch, and only moved to 0, where those of all batches can be added, with twice the digits.
    weight = jnp.sum(weights, 0)
    center = total(targets) / jnp.where(weight > 0, weight, 1.0)
    apart = targets - center[None]
    first = _pair(total(apart))
    moved = add(multiply(_pair(weight), center), first)
    squares = add(_pair(total(apart**2)), multiply(add(moved, first), center))
    errors = _pair(total(jnp.where(weights != 0, targets - predictions, 0.0) ** 2))
    sums, compensation = zip(_pair(weight), moved, squares, errors)
    return Metric(sums, _explained, "higher", compensation, exact=True)


def _pair(number: Any) -> Pair:
    return number, jnp.zeros_like(number)


def _negative(pair: Pair) -> Pair:
    return -pair[0], -pair[1]


def _explained(sums: Any, compensation: Any) -> Any:
    count, total, squares, errors = zip(sums, compensation)
    safe = jnp.where(count[0] > 0, count[0], 1.0)
    mean = total[0] / safe
    rest = add(total, _negative(multiply(count, mean)))[0] / safe  # what the mean was rounded by
    product = add(multiply(total, mean), _pair(total[0] * rest))
    spread = add(squares, _negative(product))[0]
    varies = spread > 1e-10 * squares[0]
    explained = 1.0 - errors[0] / jnp.where(varies, spread, 1.0)
    return jnp.mean(jnp.where(varies, explained, jnp.nan))


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
    return mean(cross_entropy(logits, labels), weights)


def _exponential(sums: tuple[Any, Any]) -> Any:
    return jnp.exp(ratio(sums))
