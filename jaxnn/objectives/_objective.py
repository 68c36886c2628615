"""The noun: a loss for every example, metrics to report, and a way to prepare batches.

`objective(loss)` and `batchwise(loss)` make one of a plain function, `augment(base, augment)` one
of another. `weights_of`, `example_keys` and `labels_of` are what a loss of your own may need.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxnn import metrics as measures
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.masked import put_back, values_of
from jaxnn.objectives._examples import shield
from jaxnn.typing import Any, Array, Batch, Callable, Float


@runtime_checkable
class Loss(Protocol):
    """Returns values and weights of one shape, `[batch, ...]`."""

    def __call__(self, outputs: Any, batch: Batch) -> tuple[Any, Any]: ...


@runtime_checkable
class Measure(Protocol):
    """Returns metrics by name, reported beside the loss."""

    def __call__(self, outputs: Any, batch: Batch) -> dict[str, measures.Metric]: ...


@runtime_checkable
class Prepare(Protocol):
    """Returns the batch as network and loss read it; without a key it is that of inference."""

    def __call__(self, key: Any, batch: Batch) -> Batch: ...


@runtime_checkable
class CheckData(Protocol):
    """Raises on data that nothing can be learned from: shapes of outputs, and all arrays."""

    def __call__(self, outputs: Any, arrays: Batch) -> None: ...


def _no_metrics(outputs: Any, batch: Batch) -> dict[str, measures.Metric]:
    return {}


def _unprepared(key: Any, batch: Batch) -> Batch:
    return batch


def no_check(outputs: Any, arrays: Batch) -> None:
    """The `check` of an objective that needs none, not even a trial of its examples."""
    return None


class Objective(NamedTuple):
    """What a good output is.

    Attributes:
      loss: `(outputs, batch) -> (values, weights)`, of one shape, `[batch, ...]`. The learner
        minimizes `sum(values * weights) / sum(weights)`. Of examples of weight 0 it is given zeros.
      metrics: `(outputs, batch) -> {name: Metric}`, reported beside the loss.
      prepare: `(key, batch) -> batch`, before anything else: augmentation, masking, noise. As
        everywhere, a key means training and `None` inference; randomness about an example comes
        from `example_keys`, so that it does not depend on how examples were batched.
      check: `(outputs, arrays) -> None`, once before training, with the shapes of outputs and the
        whole data; raises on data that nothing can be learned from. Without one, loss and metrics
        are tried on two examples of the data: what is computed of the one may not depend on the
        other. A loss over a whole batch has `no_check`, as `batchwise` gives it.
      names: of what each output stands for, a class or a token, for pages; `()` if unknown.
    """

    loss: Loss
    metrics: Measure = _no_metrics
    prepare: Prepare = _unprepared
    check: CheckData | None = None
    names: tuple[str, ...] = ()


def objective(
    loss: Callable[[Any, Batch], Any],
    *,
    metrics: Measure = _no_metrics,
    prepare: Prepare = _unprepared,
) -> Objective:
    """Makes an objective of a plain loss.

    Args:
      loss: `(outputs, batch) -> values`, one for each example, `[batch, ...]`, or a pair
        `(values, weights)`. Values alone are weighted by the batch's `weights`, if it has any.
      metrics: as in `Objective`.
      prepare: as in `Objective`.

    Raises:
      InvalidType: if one of them is not a function.
      InvalidValue: when traced, if the values do not begin with the batch's axis; before training,
        if what is computed of an example depends on the others.
    """
    for name, function in {"loss": loss, "metrics": metrics, "prepare": prepare}.items():
        if not callable(function):
            raise InvalidType(
                "objective",
                f"{name} is not a function",
                got=f"{name}={function!r}",
                expected=f"a function of ({'key' if name == 'prepare' else 'outputs'}, batch)",
                fix="Pass a function of your own"
                + ("" if name == "loss" else f", or leave out {name}"),
            )

    def weighted(outputs, batch):
        result = loss(outputs, batch)
        if isinstance(result, tuple):
            _check_pair(getattr(loss, "__name__", "loss"), result)
            return result
        examples = jax.tree.leaves(batch["inputs"])[0].shape[0]
        if jnp.shape(result)[:1] != (examples,):
            raise InvalidValue(
                getattr(loss, "__name__", "loss"),
                "the loss must give one value for each example",
                got=f"values of shape {jnp.shape(result)} for a batch of {examples}",
                expected=f"shape ({examples},) or ({examples}, ...)",
                fix="Leave out the mean over the batch, or pass batchwise(loss) for a loss"
                " that is defined over a whole batch only",
            )
        return result, weights_of(batch, result)

    return Objective(shield(weighted), shield(metrics), prepare)


def _check_pair(where: str, pair: tuple[Any, ...]) -> None:
    shapes = [jnp.shape(x) for x in pair if hasattr(x, "shape")]
    if len(pair) != 2 or len(shapes) != 2 or shapes[0] != shapes[1]:
        raise InvalidValue(
            where,
            "the loss must give one value and one weight for each example",
            got=f"{len(pair)} values, of shapes {', '.join(map(str, shapes)) or 'unknown'}",
            expected="a pair (values, weights) of one shape",
            fix="Return values, weights_of(batch, values)",
        )


def batchwise(loss: Callable[[Any, Batch], Any]) -> Objective:
    """Makes an objective of a loss over a whole batch, `(outputs, batch) -> scalar`.

    Such as a contrastive loss, where each example is compared with the others. The scalar stands
    for all the examples of the batch. It cannot be split into micro-batches, and of a padded batch
    the loss itself must mind `batch["weights"]`; in training it is given zeros where they are 0.
    """

    def weighted(outputs, batch):
        value = jnp.asarray(loss(outputs, batch))
        if value.shape != ():
            raise InvalidValue(
                "batchwise",
                "the loss must give one value for the whole batch",
                got=f"a value of shape {value.shape}",
                expected="shape ()",
                fix="Return values.mean(), or pass the loss without batchwise",
            )
        examples = jax.tree.leaves(batch["inputs"])[0].shape[0]
        return value, jnp.sum(batch["weights"]) if "weights" in batch else jnp.float32(examples)

    return Objective(weighted, check=no_check)


def augment(base: Objective, augment: Callable[[Any, Any], Any]) -> Objective:
    """Changes every training input at random, inside the compiled program; evaluation is as it was.

    Args:
      base: the objective whose batches are augmented.
      augment: `(key, inputs) -> inputs` for one example, with a key of its own at every step. Of a
        `Masked` sequence it is given the values, `[time, ...]`, and its empty places stay empty.
    """

    def prepare(key, batch):
        if key is None:
            return base.prepare(None, batch)
        # A key for each, or an augmentation of an augmented objective would repeat its draws.
        own, rest = jax.random.split(key)
        values = values_of(batch["inputs"])
        changed = jax.vmap(augment)(example_keys(own, batch), values)
        return base.prepare(rest, {**batch, "inputs": put_back(batch["inputs"], changed)})

    return base._replace(prepare=prepare)


def example_keys(key: Any, batch: Batch) -> Any:
    """Returns a key for each example, `[batch]`, that depends only on `key` and its `index`.

    Without a key (inference) a fixed one stands in, so that noise that belongs to the objective is
    the same at every evaluation, however the examples are batched.
    """
    key = jax.random.key(0) if key is None else key
    return jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])


def weights_of(batch: Batch, values: Any) -> Float[Array, "..."]:
    """Returns the batch's `weights` in the shape of `values`; ones where it has none.

    `weights` may have fewer axes than `values`, `[batch]` for `[batch, time]`: it is repeated.
    """
    if "weights" not in batch:
        return jnp.ones(jnp.shape(values))
    weights = batch["weights"].astype(jnp.float32)
    shape = jnp.shape(values)
    if weights.shape != shape[: weights.ndim]:
        raise InvalidValue(
            "weights",
            "the batch's weights do not fit the values of the loss",
            got=f"weights of shape {weights.shape} and values of shape {shape}",
            expected="the leading axes of the values",
            fix="Give one weight per example, [batch], or one per value",
        )
    return jnp.broadcast_to(
        weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape
    )


def labels_of(where: str, outputs: Any, batch: Batch, kind: Any, numbers: str, fix: str) -> Any:
    """Returns the labels, if they hold numbers of that kind and the outputs are one array."""
    if "labels" not in batch:
        raise InvalidValue(
            where,
            "the batch has no labels",
            got="fields " + ", ".join(sorted(batch)),
            expected="a field 'labels' beside 'inputs'",
            fix="Add the known outcomes to the data under the name 'labels'",
        )
    labels = batch["labels"]
    for name, given in (("outputs", outputs), ("labels", labels)):
        if not hasattr(given, "shape"):
            raise InvalidType(
                where,
                f"{name} are not one array",
                got=f"a {type(given).__name__} of {len(jax.tree.leaves(given))} arrays",
                expected="one array for the batch",
                fix="Combine them into one, or write a loss of your own for all of them",
            )
    if not jnp.issubdtype(labels.dtype, kind):
        raise InvalidType(
            where,
            f"labels are not {numbers}",
            got=f"labels of dtype {labels.dtype} and shape {labels.shape}",
            expected="an integer dtype" if kind is jnp.integer else "float32",
            fix=fix,
        )
    return labels
