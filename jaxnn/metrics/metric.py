"""The `Metric` type, merging of metrics, and the weighted mean.

>>> import jax.numpy as jnp
>>> parts = [mean(jnp.array(numbers), jnp.ones(len(numbers))) for numbers in ([1.0, 2.0], [6.0])]
>>> float(merge(*parts).value())
3.0
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.metrics.pairs import add
from jaxnn.typing import Any, Array, Callable, Float, Shaped

Better = Literal["lower", "higher"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["sums", "compensation"],
    meta_fields=["finish", "better", "exact"],
)
@dataclass(frozen=True)
class Metric:
    """Sums over examples, and a function that computes a value from them.

    Attributes:
      sums: a pytree of float32 arrays that are summed over examples.
      finish: `sums -> value`, a scalar. It must be defined at the top level of a module, so that
        the metrics of two batches have the same tree structure.
      better: the direction of the metric, `"lower"` or `"higher"`; `None` if unknown.
      compensation: the rounding errors of the sums; by default 0, as for a single batch.
      exact: whether `finish` receives both, `(sums, compensation) -> value`.
    """

    sums: Any
    finish: Callable[..., Any] = field(repr=False)
    better: Better | None = None
    compensation: Any = field(default=None, repr=False)
    exact: bool = field(default=False, repr=False)

    def __post_init__(self):
        if self.compensation is None:
            object.__setattr__(self, "compensation", jax.tree.map(jnp.zeros_like, self.sums))

    def value(self) -> Any:
        """Returns the value of the metric, a scalar; NaN if all weights are 0."""
        return self.finish(self.sums, *([self.compensation] if self.exact else []))


def merge(left: Any, right: Any) -> Any:
    """Merges two metrics, or two dicts of metrics, by adding their sums.

    The addition is compensated for rounding errors, so that any number of merges is as exact as
    one. (A plain float32 count would stop at 2**24.)
    """
    return jax.tree.map(_merged, left, right, is_leaf=lambda x: isinstance(x, Metric))


def _merged(left: Any, right: Any) -> Any:
    if not isinstance(left, Metric):
        return jnp.add(left, right)
    ours, theirs = ((metric.sums, metric.compensation) for metric in (left, right))
    pairs = jax.tree.map(lambda a, low, b, lower: add((a, low), (b, lower)), *ours, *theirs)
    sums, compensation = jax.tree.transpose(
        jax.tree.structure(left.sums), jax.tree.structure((0, 0)), pairs
    )
    return replace(left, sums=sums, compensation=compensation)


def empty(metrics: Any) -> Any:
    """Returns empty metrics with zero sums, on the host, given metrics or their shapes."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), metrics)


def values(metrics: dict[str, Metric]) -> dict[str, Any]:
    """Returns the value of each metric."""
    return {name: metric.value() for name, metric in metrics.items()}


def check_metrics(where: str, what: str, metrics: Any) -> None:
    """Raises `InvalidType` unless `metrics` is a dict of a `Metric` for each name.

    The sums must be in float32 or float64: integers would overflow, and half precision would round.
    """
    named = isinstance(metrics, Mapping)
    wrong = [name for name in metrics if not isinstance(metrics[name], Metric)] if named else []
    if wrong or not named:
        value = metrics[wrong[0]] if wrong else metrics
        kind = f"array {list(value.shape)}" if hasattr(value, "shape") else type(value).__name__
        raise InvalidType(
            where,
            f"{what} are not metrics by name",
            got=f"{wrong[0]!r} with a value of type {kind}" if wrong else f"a value of type {kind}",
            expected="a dict with a Metric for each name",
            fix="Return {'error': jaxnn.metrics.mean(values, weights)}",
        )
    for name, metric in metrics.items():
        dtypes = {str(jnp.result_type(x)) for x in jax.tree.leaves(metric.sums)}
        if other := dtypes - {"float32", "float64"}:
            raise InvalidType(
                where,
                f"the sums of metric {name!r} have the wrong dtype",
                got=", ".join(sorted(other)),
                expected="float32, in which sums over any number of batches are exact",
                fix="Convert them, as in jnp.sum(is_right, dtype=jnp.float32)",
            )


def has_value(metric: Metric) -> Any:
    """Returns whether the value of a metric is finite, or all weights are 0."""
    value = metric.value()
    leaves = jax.tree.leaves(metric.sums)
    empty = jnp.all(jnp.array([jnp.all(x == 0) for x in leaves], bool))
    return jnp.isfinite(value).all() | empty


def lower_is_better(name: str) -> bool:
    """Returns whether lower is better for a metric of this name, as for losses and errors.

    >>> lower_is_better("test/loss"), lower_is_better("test/accuracy")
    (True, False)
    """
    return name.rsplit("/", 1)[-1].endswith(_LOW)


_LOW = (
    "loss", "error", "mae", "mse", "rmse", "perplexity", "bits_per_byte",
    "kl", "skipped", "disagreement",
)  # fmt: skip


def mean(
    numbers: Shaped[Array, "..."],
    weights: Float[Array, "..."],
    *,
    better: Better | None = None,
) -> Metric:
    """Returns the weighted mean, `sum(weights * numbers) / sum(weights)`, as a `Metric`.

    Args:
      numbers: one number for each example, or for each position.
      weights: the weight of each number; numbers of weight 0 are ignored, even NaN.
      better: the direction of the metric, `"lower"` or `"higher"`.

    Raises:
      InvalidValue: if numbers and weights differ in shape, since broadcasting would mix examples.
    """
    numbers, weights = jnp.asarray(numbers), jnp.asarray(weights)
    if numbers.shape != weights.shape:
        raise InvalidValue(
            "mean",
            "numbers and weights differ in shape",
            got=f"numbers of shape {numbers.shape} and weights of shape {weights.shape}",
            expected="one weight for each number",
            fix="Compare outputs and labels of one shape, labels[:, None] for a network with one"
            " output, and get the weights from weights_of(batch, numbers)",
        )
    counted = jnp.where(weights != 0, numbers.astype(jnp.float32), 0.0)
    weights = weights.astype(jnp.float32)
    return Metric((jnp.sum(counted * weights), jnp.sum(weights)), ratio, better)


def ratio(sums: tuple[Any, Any]) -> Any:
    """Divides the first sum by the second; the `finish` function of a mean."""
    return sums[0] / sums[1]
