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
