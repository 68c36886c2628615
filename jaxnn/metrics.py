"""A metric is a pytree of sums: exact however the examples were cut into batches.

Adding the sums of two batches gives the sums of both together; `value()` finishes them. So a mean
over an epoch, an evaluation in padded batches and one over eight devices are all the same number,
and none needs the predictions to be kept. Every sum is weighted: padding has weight 0.

    >>> import jax.numpy as jnp
    >>> first = mean(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0]))
    >>> second = mean(jnp.array([6.0, 99.0]), jnp.array([1.0, 0.0]))
    >>> float(merge(first, second).value())
    3.0
"""

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp

from jaxnn.checks import positive_integer
from jaxnn.typing import Any, Array, Callable, Float, Int, Shaped


@partial(jax.tree_util.register_dataclass, data_fields=["sums"], meta_fields=["finish"])
@dataclass(frozen=True)
class Metric:
    """Sums over examples, and the function that makes a value of them.

    Attributes:
      sums: a pytree of arrays that are summed over examples.
      finish: `(sums) -> value`, a scalar; defined at the top level of a module, so that the
        metrics of two batches are pytrees of one structure.
    """

    sums: Any
    finish: Callable[[Any], Any] = field(repr=False)

    def value(self) -> Any:
        """Returns the metric's value, a scalar; NaN where no example had any weight."""
        return self.finish(self.sums)


def merge(left: Any, right: Any) -> Any:
    """Returns the metrics of both: leafwise addition, of one `Metric` or a dict of them."""
    return jax.tree.map(jnp.add, left, right)


def values(metrics: dict[str, Metric]) -> dict[str, Any]:
    """Returns the value of each metric."""
    return {name: metric.value() for name, metric in metrics.items()}


def lower_is_better(name: str) -> bool:
    """Whether a metric of this name is good when it is low, as losses and errors are.

    >>> lower_is_better("test/loss"), lower_is_better("test/accuracy")
    (True, False)
    """
    return name.rsplit("/", 1)[-1].endswith(_LOW)


_LOW = ("loss", "error", "mae", "mse", "rmse", "perplexity", "bits_per_byte")


def mean(numbers: Shaped[Array, "*shape"], weights: Float[Array, "*shape"]) -> Metric:
    """The weighted mean: `sum(weights * numbers) / sum(weights)`."""
    # A number of weight 0 may be anything, even NaN: it is a padded or masked place.
    counted = jnp.where(weights != 0, numbers.astype(jnp.float32), 0.0)
    return Metric((jnp.sum(counted * weights), jnp.sum(weights)), ratio)


def ratio(sums: tuple[Any, Any]) -> Any:
    """Finishes a mean: the sum of the numbers over the sum of the weights."""
    return sums[0] / sums[1]


def accuracy(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
) -> Metric:
    """The share of examples whose largest logit is that of the label."""
    return mean(jnp.argmax(logits, -1) == labels, weights)


def top_k(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
    k: int,
) -> Metric:
    """The share of examples whose label is among the `k` largest logits; of equals the first."""
    _, best = jax.lax.top_k(logits, k)
    return mean(jnp.any(best == labels[..., None].astype(best.dtype), -1), weights)


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
    return Metric(jax.tree.map(lambda x: jnp.sum(x, 0), sums), _explained)


def _explained(sums: Any) -> Any:
    count, total, squares, errors = sums
    spread = squares - total**2 / count
    return jnp.mean(jnp.where(spread > 1e-6 * squares, 1.0 - errors / spread, jnp.nan))


def calibration_error(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
    *,
    bins: int = 15,
) -> Metric:
    """The expected calibration error: how far confidence is from the share that is right.

    Confidence is the probability of the likeliest class. Examples are put in `bins` parts of
    equal width, ((k - 1) / bins, k / bins], by their confidence; of each part, the mean confidence
    and the accuracy differ by a gap, and the error is the mean of the gaps, weighted by the
    examples in them. From 0 to 1, lower is better. It depends on `bins`: compare like with like.

    Raises:
      InvalidValue: if `bins` is not a whole number above zero.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. (3).
    """
    positive_integer("calibration_error", "bins", bins)
    confidence = jnp.max(jax.nn.softmax(logits.astype(jnp.float32), -1), -1)
    right = jnp.argmax(logits, -1) == labels
    gaps = jnp.where(right, 1.0 - confidence, -confidence)
    # Clipped, so that what is not a number is in some part, and seen in the error.
    part = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    # Confidence and accuracy of a part have one denominator, so that their difference is one sum.
    counted = jnp.where(weights != 0, weights * gaps, 0.0)
    parted = jnp.where(jax.nn.one_hot(part, bins, dtype=bool), counted[..., None], 0.0)
    return Metric((jnp.sum(parted, range(labels.ndim)), jnp.sum(weights)), _calibration)


def _calibration(sums: tuple[Any, Any]) -> Any:
    gaps, weight = sums
    return jnp.sum(jnp.abs(gaps)) / weight


def disagreement(
    logits: Float[Array, "members *shape classes"], weights: Float[Array, "*shape"]
) -> Metric:
    """How much the members of an ensemble disagree: what knowing the member tells of the class.

    The mutual information between the prediction and the member, in nats: the entropy of the mean
    of the members' probabilities, less the mean of their entropies; of the examples, the weighted
    mean. From 0, where members say the same (however unsure they are), to log(members) or
    log(classes), whichever is less, where each is sure of another class.

    Source: Houlsby et al., Bayesian Active Learning for Classification, 2011, eq. (2).
    """
    each = jax.nn.softmax(logits.astype(jnp.float32), -1)
    # The same number as the difference of entropies, without its cancellation.
    apart = jax.scipy.special.rel_entr(each, jnp.mean(each, 0, keepdims=True))
    return mean(jnp.mean(jnp.sum(apart, -1), 0), weights)
