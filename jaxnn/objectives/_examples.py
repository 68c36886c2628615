"""Two laws of losses: weight 0 excludes an example, and examples are independent of each other.

Multiplying a loss by weight 0 does not exclude it, since 0 times an infinite gradient is NaN. So
`shield` replaces the values of such an example by zeros before anything is computed from them.

    >>> import jax, jax.numpy as jnp
    >>> plain = lambda outputs, batch: jnp.sum(batch["weights"] * jnp.log(outputs))
    >>> batch = {"weights": jnp.array([1.0, 0.0])}
    >>> [jax.grad(f)(jnp.array([2.0, 0.0]), batch).tolist() for f in (plain, shield(plain))]
    [[0.5, nan], [0.5, 0.0]]
"""

from functools import partial, wraps
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import metrics as measures
from jaxnn.checks import Invalid, InvalidValue
from jaxnn.metrics.metric import check_metrics
from jaxnn.typing import Any, Batch, Callable

# The number of rows searched for the second example of a trial.
_ROWS = 64
# Fields with one value for each position of a sequence.
_VALUES = ("labels", "teacher")

Function = TypeVar("Function", bound=Callable[[Any, Batch], Any])


def shield(function: Function) -> Function:
    """Wraps a function of `(outputs, batch)` so that it receives zeros where the weight is 0."""

    @wraps(function)
    def shielded(outputs, batch):
        return function(*shielded_batch(outputs, batch))

    return cast(Function, shielded)


def shielded_batch(outputs: Any, batch: Batch) -> tuple[Any, Batch]:
    """Returns outputs and batch with zeros where the weight is 0.

    Outputs and labels are zeroed at each position of weight 0; other fields only for examples whose
    positions all have weight 0. `weights` and `index` are unchanged.
    """
    if "weights" not in batch:
        return outputs, batch
    present = jnp.asarray(batch["weights"]) != 0
    rows = present.any(range(1, present.ndim))

    def of(tree, present):
        return jax.tree.map(partial(_shielded, present), tree)

    fields = {
        name: field
        if name in ("weights", "index")
        else of(field, present if name in _VALUES else rows)
        for name, field in batch.items()
    }
    return of(outputs, present), fields


def _shielded(present: Any, x: Any) -> Any:
    shape = jnp.shape(x)
    axes = 0
    while axes < min(present.ndim, len(shape)) and shape[axes] == present.shape[axes]:
        axes += 1
    if axes == 0 or not jnp.issubdtype(x.dtype, np.generic):  # no axis of examples, or PRNG keys
        return x
    present = present.any(range(axes, present.ndim))
    return jnp.where(present.reshape(present.shape + (1,) * (len(shape) - axes)), x, _zero(x))


def _zero(x: Any) -> Any:
    return jnp.zeros((), x.dtype)


def try_examples(objective: Any, outputs: Any, arrays: Batch, batch_size: int) -> None:
    """Checks on two examples of the data that the loss treats examples independently.

    Evaluates loss and metrics for both examples together and for each alone, with random outputs
    from 0.1 to 0.9. Does nothing if the leading axis of the outputs is not the batch, for example
    if there are several views of each example.

    Args:
      objective: the objective to check.
      outputs: the shapes of the outputs for a batch.
      arrays: the whole data.
      batch_size: the size of that batch.

    Raises:
      InvalidValue: if the loss does not give one value for each example, or a loss, weight or
        metric of an example depends on the others.
    """
    leaves = jax.tree.leaves(outputs)
    if not leaves or any(leaf.shape[:1] != (batch_size,) for leaf in leaves):
        return
    draw, batch = np.random.default_rng(0), _two(arrays)
    drawn = jax.tree.map(
        lambda x: draw.uniform(0.1, 0.9, (2, *x.shape[1:])).astype(x.dtype), outputs
    )
    with_batch = drawn, batch
    pairs = [with_batch, *(jax.tree.map(lambda x, i=i: x[i : i + 1], with_batch) for i in (0, 1))]
    try:
        shapes = jax.eval_shape(partial(_try, objective), pairs)[0]
    except Invalid:
        raise
    except Exception as error:
        # An error that a whole batch raises too has another cause, and is raised unchanged.
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype), batch
        )
        jax.eval_shape(partial(_evaluate, objective), outputs, shapes)
        raise _mixed(
            "the loss of an example", "a batch of examples", f"an error ({error})"
        ) from error
    _check_shapes([losses.shape for losses, _ in shapes[:2]])
    (together, *alone), metrics = jax.device_get(_tried(objective, pairs))
    for place, one in enumerate(alone):
        for name, both, single in zip(("loss", "weight"), together, one):
            if not _close(both[place], single[0]):
                raise _mixed(f"the {name} of an example", both[place], single[0])
    for name, (whole, merged) in metrics.items():
        if not _close(whole, merged):
            raise _mixed(f"the metric {name!r} of two examples", whole, merged)


def _try(objective: Any, pairs: Any) -> Any:
    """Evaluates each `(outputs, batch)`; pairs metrics of the first with the others' merged."""
    losses, (whole, *parts) = zip(*(_evaluate(objective, *pair) for pair in pairs))
    merged = measures.values(measures.merge(*parts))
    return losses, {name: (metric.value(), merged[name]) for name, metric in whole.items()}


def _evaluate(objective: Any, outputs: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
    """Returns `((losses, weights), metrics)` of a batch."""
    outputs, batch = shielded_batch(outputs, objective.prepare(None, batch))
    losses, metrics = objective.loss(outputs, batch), objective.metrics(outputs, batch)
    check_metrics("objective", "the results of the function metrics", metrics)
    return losses, metrics


_tried = jax.jit(_try, static_argnums=0)


def _check_shapes(shapes: list[tuple[int, ...]]) -> None:
    both, one = shapes
    if both[:1] != (2,) or one[:1] != (1,) or both[1:] != one[1:]:
        raise InvalidValue(
            "loss",
            "the loss must give one value for each example, and mixes them",
            got=f"values of shape {both} for 2 examples and {one} for 1",
            expected="shapes (2, ...) and (1, ...), equal except for the first axis",
            fix="Compare outputs and labels of one shape, labels[:, None] for a network with one"
            " output, or pass batchwise(loss) for a loss over a whole batch",
        )


def _mixed(what: str, together: Any, alone: Any) -> InvalidValue:
    return InvalidValue(
        "loss",
        f"{what} depends on the other examples of the batch",
        got=f"{_figure(together)} for two examples together and {_figure(alone)} for each alone",
        expected="the same value, regardless of padding, accumulation and sharding",
        fix="Compare outputs and labels of one shape, labels[:, None] for a network with one"
        " output, or pass batchwise(loss) for a loss over a whole batch",
    )


def _figure(value: Any) -> str:
    return value if isinstance(value, str) else np.array2string(np.asarray(value), precision=4)


def _two(arrays: Batch) -> Batch:
    """Returns two examples, with different labels if the first rows contain any."""

    def first(x):
        # Arrays on a CPU are not copied.
        return np.asarray(x if getattr(x, "nbytes", 0) < 1 << 27 else x[:_ROWS])[:_ROWS]

    head = jax.tree.map(first, {name: field for name, field in arrays.items() if name != "index"})
    count = len(jax.tree.leaves(head)[0])
    differs = np.zeros(count, bool)
    for x in jax.tree.leaves(head.get("labels", ())):
        differs |= (x != x[:1]).reshape(count, -1).any(1)
    rows = [0, int(differs.argmax()) or min(1, count - 1)]
    batch = jax.tree.map(lambda x: x[rows], head)
    weights = {"weights": np.ones_like(batch["weights"])} if "weights" in batch else {}
    return {**batch, **weights, "index": np.array([0, 1], np.int32)}


def is_own(function: Callable[..., Any]) -> bool:
    """Returns whether a function is user-defined, so that it may mix examples."""
    return not getattr(function, "__module__", "").startswith(("jaxnn.", "optax."))


def _close(a: Any, b: Any) -> bool:
    return np.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)
