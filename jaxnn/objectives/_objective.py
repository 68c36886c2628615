"""The `Objective` type: a loss for every example, metrics, and a function that prepares batches.

`objective(loss)` and `batchwise(loss)` create one from a plain function, and `augment` from another
objective. `weights_of`, `example_keys` and `labels_of` are helpers for custom losses.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxnn import metrics as measures
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.masked import Masked, put_back, values_of
from jaxnn.objectives._examples import shield
from jaxnn.programs import needed
from jaxnn.typing import Any, Array, Batch, Callable, Float


@runtime_checkable
class Loss(Protocol):
    """Returns losses and weights of the same shape, `[batch, ...]`."""

    def __call__(self, outputs: Any, batch: Batch) -> tuple[Any, Any]: ...


@runtime_checkable
class Measure(Protocol):
    """Returns metrics by name, reported in addition to the loss."""

    def __call__(self, outputs: Any, batch: Batch) -> dict[str, measures.Metric]: ...


@runtime_checkable
class Prepare(Protocol):
    """Returns the batch as the network and the loss read it; `key` is `None` in inference."""

    def __call__(self, key: Any, batch: Batch) -> Batch: ...


@runtime_checkable
class CheckData(Protocol):
    """Raises on invalid data, given the shapes of the outputs and all arrays of the data."""

    def __call__(self, outputs: Any, arrays: Batch) -> None: ...


def _no_metrics(outputs: Any, batch: Batch) -> dict[str, measures.Metric]:
    return {}


def _unprepared(key: Any, batch: Batch) -> Batch:
    return batch


def no_check(outputs: Any, arrays: Batch) -> None:
    """The `check` of an objective that needs no check and no trial on examples."""
    return None


class Objective(NamedTuple):
    """A loss with its metrics and its preparation of batches.

    Attributes:
      loss: `(outputs, batch) -> (values, weights)`, both of the same shape, `[batch, ...]`. The
        learner minimizes `sum(values * weights) / sum(weights)`. Examples of weight 0 are passed to
        it as zeros.
      metrics: `(outputs, batch) -> {name: Metric}`, reported in addition to the loss.
      prepare: `(key, batch) -> batch`, applied first: augmentation, masking, noise. A key means
        training and `None` inference. Derive the randomness of an example from `example_keys`, so
        that it does not depend on batching. Fields have a row for each example; leave other arrays,
        such as a table of class weights, in the function.
      check: `(outputs, arrays) -> None`, called once before training with the shapes of the outputs
        and the whole data; raises on invalid data. Without a check, loss and metrics are tried on
        two examples, to verify that the results for one do not depend on the other. A loss over a
        whole batch has a check of its own, or `no_check`.
      names: the name of each output, a class or a token, for reports; `()` if unknown.
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
    """Returns an objective for a loss function.

    Args:
      loss: `(outputs, batch) -> values`, one value for each example, `[batch, ...]`, or a pair
        `(values, weights)`. Without weights, the values are weighted by the batch's `weights`, if
        any.
      metrics: as in `Objective`.
      prepare: as in `Objective`.

    Raises:
      InvalidType: if an argument is not a function.
      InvalidValue: when traced, if the leading axis of the values is not the batch; before
        training, if the value of an example depends on other examples.
    """
    for name, function in {"loss": loss, "metrics": metrics, "prepare": prepare}.items():
        if not callable(function):
            raise InvalidType(
                "objective",
                f"{name} is not a function",
                got=f"{name}={function!r}",
                expected=f"a function of ({'key' if name == 'prepare' else 'outputs'}, batch)",
                fix="Pass a function" + ("" if name == "loss" else f", or leave out {name}"),
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
    """Returns an objective for a loss over a whole batch, `(outputs, batch) -> scalar`.

    An example is a contrastive loss, which compares each example with the others. The scalar is
    weighted by the number of examples. It cannot be accumulated over micro-batches.

    Only the loss itself can exclude padding, by applying `batch["weights"]`. If it does not read
    them, a batch with padding does not count: the evaluation is over all full batches.

    Raises:
      InvalidValue: if the loss does not read `batch["weights"]`: before training, if the data have
        weights; when traced, if there are places of sequences, whose weights are 0 where a place is
        empty. When traced, if the value is not a scalar.
    """

    def check(outputs, arrays):
        count = jax.tree.leaves(outputs)[0].shape[0]
        batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype), dict(arrays)
        )
        if "weights" in batch and not _reads_weights(loss, outputs, batch):
            raise InvalidValue(
                "batchwise",
                "the data have weights, and the loss does not read them",
                got=f"weights {list(jnp.shape(arrays['weights']))}",
                expected="a loss in which an example of weight 0 counts for nothing",
                fix='Weigh what is summed by batch["weights"], or leave out the weights',
            )

    def weighted(outputs, batch):
        of_places = isinstance(batch["inputs"], Masked) and jnp.ndim(batch.get("weights", 0)) > 1
        if of_places and not _reads_weights(loss, outputs, batch):
            raise InvalidValue(
                "batchwise",
                "the loss does not read the weights, so that empty places of sequences would count",
                got=f"outputs and weights of places, {list(jnp.shape(batch['weights']))}",
                expected="a loss in which a place of weight 0 counts for nothing",
                fix='Weigh what is summed by batch["weights"]',
            )
        value = jnp.asarray(loss(outputs, batch))
        if value.shape != ():
            raise InvalidValue(
                "batchwise",
                "the loss must give one value for the whole batch",
                got=f"a value of shape {value.shape}",
                expected="shape ()",
                fix="Return values.mean(), or pass the loss without batchwise",
            )
        if "weights" not in batch:
            return value, jnp.float32(jax.tree.leaves(batch["inputs"])[0].shape[0])
        total = jnp.sum(batch["weights"])
        if not _reads_weights(loss, outputs, batch):
            total = jnp.where(jnp.all(batch["weights"] != 0), total, 0.0)
        return value, total

    return Objective(of_whole_batch(weighted), check=check)


def _reads_weights(loss: Callable[[Any, Batch], Any], outputs: Any, batch: Batch) -> bool:
    def of(weights: Any, outputs: Any, batch: Batch) -> Any:
        return loss(outputs, {**batch, "weights": weights})

    _, ((reads_weights,), _, _), _ = needed(of, batch["weights"], outputs, batch)
    return reads_weights


def of_whole_batch(loss: Any) -> Any:
    """Marks a loss for which a batch cannot be split, since it compares the examples."""
    loss.of_whole_batch = True  # functions that wrap the loss have the mark as well
    return loss


def augment(base: Objective, augment: Callable[[Any, Any], Any]) -> Objective:
    """Augments training inputs at random, inside the compiled program; evaluation is unchanged.

    Args:
      base: the objective whose batches are augmented.
      augment: `(key, inputs) -> inputs` for one example, with a new key at every step. For a
        `Masked` sequence it receives the values, `[time, ...]`; padding remains padding.
    """

    def prepare(key, batch):
        if key is None:
            return base.prepare(None, batch)
        # Split, or nested augmentations would repeat the same draws.
        own, rest = jax.random.split(key)
        values = values_of(batch["inputs"])
        changed = jax.vmap(augment)(example_keys(own, batch), values)
        return base.prepare(rest, {**batch, "inputs": put_back(batch["inputs"], changed)})

    return base._replace(prepare=prepare)


def example_keys(key: Any, batch: Batch) -> Any:
    """Returns a key for each example, `[batch]`, that depends only on `key` and its `index`.

    In inference, when `key` is `None`, a fixed key is used, so that noise in the objective is the
    same at every evaluation, regardless of batching.
    """
    key = jax.random.key(0) if key is None else key
    return jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])


def weights_of(batch: Batch, values: Any) -> Float[Array, "..."]:
    """Returns the batch's `weights` broadcast to the shape of `values`, or ones.

    `weights` may have fewer axes than `values`, such as `[batch]` for `[batch, time]`.
    """
    if "weights" not in batch:
        return jnp.ones(jnp.shape(values))
    weights = batch["weights"].astype(jnp.float32)
    shape = jnp.shape(values)
    if weights.shape != shape[: weights.ndim]:
        raise InvalidValue(
            "weights",
            "the batch's weights do not match the values of the loss",
            got=f"weights of shape {weights.shape} and values of shape {shape}",
            expected="the leading axes of the values",
            fix="Give one weight per example, [batch], or one per value",
        )
    return jnp.broadcast_to(
        weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape
    )


def labels_of(where: str, outputs: Any, batch: Batch, kind: Any, numbers: str, fix: str) -> Any:
    """Returns the labels after validating their dtype, and that the outputs are one array."""
    if "labels" not in batch:
        raise InvalidValue(
            where,
            "the batch has no labels",
            got="fields " + ", ".join(sorted(batch)),
            expected="a field 'labels' in addition to 'inputs'",
            fix="Add the labels to the data: {'inputs': inputs, 'labels': labels}",
        )
    labels = batch["labels"]
    for name, given in (("outputs", outputs), ("labels", labels)):
        if not hasattr(given, "shape"):
            raise InvalidType(
                where,
                f"{name} are not one array",
                got=f"a {type(given).__name__} of {len(jax.tree.leaves(given))} arrays",
                expected="one array for the batch",
                fix="Combine them into one array, or write a custom loss for all of them",
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
