"""The sums themselves: what they are, how they merge, and the mean that most metrics are.

>>> import jax.numpy as jnp
>>> parts = [mean(jnp.array(numbers), jnp.ones(len(numbers))) for numbers in ([1.0, 2.0], [6.0])]
>>> float(merge(*parts).value())
3.0
"""

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp

from jaxnn.typing import Any, Array, Callable, Float, Shaped


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


_LOW = (
    "loss", "error", "mae", "mse", "rmse", "perplexity", "bits_per_byte",
    "kl", "skipped", "disagreement",
)  # fmt: skip


def mean(numbers: Shaped[Array, "*shape"], weights: Float[Array, "*shape"]) -> Metric:
    """The weighted mean: `sum(weights * numbers) / sum(weights)`."""
    # A number of weight 0 may be anything, even NaN: it is a padded or masked place.
    counted = jnp.where(weights != 0, numbers.astype(jnp.float32), 0.0)
    return Metric((jnp.sum(counted * weights), jnp.sum(weights)), ratio)


def ratio(sums: tuple[Any, Any]) -> Any:
    """Finishes a mean: the sum of the numbers over the sum of the weights."""
    return sums[0] / sums[1]
