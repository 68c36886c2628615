"""How good predicted numbers and probabilities are: explained variance, perplexity, bits per byte.

>>> import jax.numpy as jnp
>>> logits, labels = jnp.zeros((3, 4)), jnp.array([0, 1, 3])        # four tokens, all alike
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
    """The share of the targets' variance that the predictions explain, R^2 = 1 - SSE / SST.

    Of several targets, the mean of their R^2 (as scikit-learn's `r2_score` does). At most 1, and
    below 0 where the mean of the targets is the better prediction. NaN where the targets do not
    vary, or by less than a thousandth of their size, which float32 sums cannot tell: bring targets
    whose mean is a hundred deviations away from 0 to mean 0 first.
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
    """The exponential of the mean cross-entropy: as unsure as a choice among so many, all alike.

    From 1 for certainty; `classes` for one who knows nothing. A geometric mean over examples, so
    the perplexity of two batches is not the mean of theirs: it is that of their summed losses.
    """
    return Metric(_cross_entropy(logits, labels, weights).sums, _exponential, "lower")


def bits_per_byte(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
    *,
    bytes_per_token: float = 1.0,
) -> Metric:
    """The mean cross-entropy in bits, for each byte of the text: what compressing it would take.

    Args:
      logits: of the next token, `[..., tokens]`.
      labels: the tokens that came.
      weights: of each.
      bytes_per_token: the mean length of a token in bytes, 1 for bytes and plain characters. Of
        longer tokens the value is bits per token unless their length is given; with it, values
        can be compared between vocabularies.

    Raises:
      InvalidValue: if `bytes_per_token` is not above zero.
    """
    positive("bits_per_byte", "bytes_per_token", bytes_per_token)
    loss, weight = _cross_entropy(logits, labels, weights).sums
    return Metric((loss / (log(2) * bytes_per_token), weight), ratio, "lower")


def _cross_entropy(logits: Any, labels: Any, weights: Any) -> Metric:
    logits, labels = logits.astype(jnp.float32), labels.astype(jnp.int32)
    return mean(optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels), weights)


def _exponential(sums: tuple[Any, Any]) -> Any:
    return jnp.exp(ratio(sums))
