"""What a good output is: a loss for every example, metrics to report, and a way to prepare batches.

A loss gives one value per example (or per token), with the weight of each, never the mean: so it is
exact under masks, padding, accumulation and many devices. A loss of your own is one plain function:

    def loss(outputs, batch):                       # [batch, ...] -> [batch]
        return jnp.abs(outputs - batch["labels"])

Hand it to `learner` as it is, or to `objective(loss, metrics=...)` to report more than the loss. A
loss that is defined only over a whole batch says so: `batchwise(loss)`.

    >>> import jax.numpy as jnp
    >>> batch = {"labels": jnp.array([1, 0])}
    >>> values, weights = classification().loss(jnp.zeros((2, 4)), batch)
    >>> values.round(3).tolist(), weights.tolist()           # log(4) nats, twice
    ([1.38600003..., 1.38600003...], [1.0, 1.0])
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import metrics as measures
from jaxnn.checks import InvalidType, InvalidValue, is_concrete, number, positive_integer
from jaxnn.typing import Any, Array, Batch, Callable, Float, Number


def _no_metrics(outputs: Any, batch: Batch) -> dict[str, measures.Metric]:
    return {}


def _unprepared(key: Any, batch: Batch) -> Batch:
    return batch


def _unchecked(outputs: Any, arrays: Batch) -> None:
    return None


class Objective(NamedTuple):
    """What a good output is.

    Attributes:
      loss: `(outputs, batch) -> (values, weights)`, of one shape, `[batch, ...]`. The learner
        minimizes `sum(values * weights) / sum(weights)`.
      metrics: `(outputs, batch) -> {name: Metric}`, reported beside the loss.
      prepare: `(key, batch) -> batch`, before anything else: augmentation, masking, noise. As
        everywhere, a key means training and `None` inference; randomness about an example comes
        from `example_keys`, so that it does not depend on how examples were batched.
      check: `(outputs, arrays) -> None`, once before anything compiles, with the shapes of outputs
        and the whole data; raises on data that nothing can be learned from.
    """

    loss: Callable[[Any, Batch], tuple[Any, Any]]
    metrics: Callable[[Any, Batch], dict[str, measures.Metric]] = _no_metrics
    prepare: Callable[[Any, Batch], Batch] = _unprepared
    check: Callable[[Any, Batch], None] = _unchecked


def objective(
    loss: Callable[[Any, Batch], Any],
    *,
    metrics: Callable[[Any, Batch], dict[str, measures.Metric]] = _no_metrics,
    prepare: Callable[[Any, Batch], Batch] = _unprepared,
) -> Objective:
    """Makes an objective of a plain loss.

    Args:
      loss: `(outputs, batch) -> values`, one for each example, `[batch, ...]`, or a pair
        `(values, weights)`. Values alone are weighted by the batch's `weights`, if it has any.
      metrics: as in `Objective`.
      prepare: as in `Objective`.

    Raises:
      InvalidValue: when traced, if the values do not begin with the batch's axis.
    """

    def weighted(outputs, batch):
        result = loss(outputs, batch)
        if isinstance(result, tuple):
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

    return Objective(weighted, metrics, prepare)


def batchwise(loss: Callable[[Any, Batch], Any]) -> Objective:
    """Makes an objective of a loss over a whole batch, `(outputs, batch) -> scalar`.

    Such as a contrastive loss, where each example is compared with the others. The scalar stands
    for all the examples of the batch. It cannot be split into micro-batches, and of a padded batch
    the loss itself must mind `batch["weights"]`.
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

    return Objective(weighted)


def classification(*, label_smoothing: Number = 0.0, top_k: int | Sequence[int] = ()) -> Objective:
    """Cross-entropy (nats) between logits and whole-number labels, and the accuracy.

    Outputs are logits `[batch, ..., classes]`, labels integers `[batch, ...]` from 0 to
    `classes - 1`. Reports `accuracy`, and `top_5` for `top_k=5`.

    Args:
      label_smoothing: the share of each label's probability that is spread evenly over all
        classes, in [0, 1). May be traced. It is part of the loss in evaluation too.
      top_k: one or several numbers of guesses allowed.

    Raises:
      InvalidValue: if labels are out of range, or shapes do not match.
      InvalidType: if labels are not integers.

    Source: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7.
    """
    number("classification", "label_smoothing", label_smoothing, low=0.0, high=1.0)
    guesses = (top_k,) if isinstance(top_k, int) else tuple(top_k)
    for k in guesses:
        positive_integer("classification", "top_k", k)
    smooth = not is_concrete(label_smoothing) or label_smoothing != 0

    def loss(outputs, batch):
        logits, labels = _logits_and_labels(outputs, batch)
        logits = logits.astype(jnp.float32)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
        if smooth:
            even = jax.nn.logsumexp(logits, -1) - jnp.mean(logits, -1)
            losses = (1.0 - label_smoothing) * losses + label_smoothing * even
        return losses, weights_of(batch, losses)

    def metrics(outputs, batch):
        logits, labels = _logits_and_labels(outputs, batch)
        weights = weights_of(batch, labels)
        found = {"accuracy": measures.accuracy(logits, labels, weights)}
        return found | {f"top_{k}": measures.top_k(logits, labels, weights, k) for k in guesses}

    def check(outputs, arrays):
        classes = outputs.shape[-1]
        for k in guesses:
            positive_integer("classification", "top_k", k, at_most=classes)
        if "labels" not in arrays or arrays["labels"].shape != outputs.shape[:-1]:
            return  # `prepare` makes the labels
        labels = np.asarray(arrays["labels"])
        counted = np.asarray(arrays.get("weights", np.ones(len(labels)))) != 0
        counted = counted.reshape(counted.shape + (1,) * (labels.ndim - counted.ndim))
        outside = ((labels < 0) | (labels >= classes)) & counted
        if outside.any():
            place = tuple(int(i) for i in np.argwhere(outside)[0])
            raise InvalidValue(
                "classification",
                "labels are out of range",
                got=f"labels[{', '.join(map(str, place))}]={labels[place]} with {classes} outputs",
                expected=f"whole numbers from 0 to {classes - 1}",
                fix="Number the classes from 0, and give the network an output for each",
            )

    return Objective(loss, metrics, check=check)


def absolute_error(predictions: Any, targets: Any) -> Any:
    """The absolute difference, elementwise; for `regression`, beside those of `optax.losses`."""
    return jnp.abs(predictions - targets)


def regression(
    error: Callable[[Any, Any], Any] = optax.losses.squared_error,
) -> Objective:
    """Prediction of real numbers: an error for each, and R^2 and the mean absolute error.

    Outputs and labels have one shape, `[batch]` or `[batch, ...]`; the loss of an example is the
    mean of its errors. Reports `r2` and `mae`, in the units of the labels.

    Args:
      error: `(predictions, targets) -> errors`, elementwise: `optax.losses.squared_error`,
        `absolute_error`, `optax.losses.huber_loss`, or your own.

    Raises:
      InvalidValue: when traced, if outputs and labels have different shapes.
      InvalidType: when traced, if labels are not floating-point numbers.
    """

    def loss(outputs, batch):
        predictions, targets = _predictions_and_targets(outputs, batch)
        errors = error(predictions.astype(jnp.float32), targets)
        # With a weight for each value, [batch, time], there is a loss for each.
        weighted = batch["weights"].ndim if "weights" in batch else 1
        losses = errors.mean(tuple(range(weighted, errors.ndim)))
        return losses, weights_of(batch, losses)

    def metrics(outputs, batch):
        predictions, targets = _predictions_and_targets(outputs, batch)
        predictions = predictions.astype(jnp.float32)
        weights = weights_of(batch, targets)
        return {
            "r2": measures.r_squared(predictions, targets, weights),
            "mae": measures.mean(absolute_error(predictions, targets), weights),
        }

    return Objective(loss, metrics)


def augmented(base: Objective, augment: Callable[[Any, Any], Any]) -> Objective:
    """Changes every training input at random, inside the compiled program; evaluation is as it was.

    Args:
      base: the objective whose batches are augmented.
      augment: `(key, inputs) -> inputs` for one example, with a key of its own at every step.
    """

    def prepare(key, batch):
        if key is None:
            return base.prepare(None, batch)
        # A key for each, or an augmentation of an augmented objective would repeat its draws.
        own, rest = jax.random.split(key)
        inputs = jax.vmap(augment)(example_keys(own, batch), batch["inputs"])
        return base.prepare(rest, {**batch, "inputs": inputs})

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


def _logits_and_labels(outputs: Any, batch: Batch) -> tuple[Any, Any]:
    fix = "Convert labels with .astype(np.int32), or use regression() for real numbers"
    labels = _labels("classification", outputs, batch, jnp.integer, "class numbers", fix)
    if outputs.shape[:-1] != labels.shape:
        raise InvalidValue(
            "classification",
            "outputs and labels do not fit together",
            got=f"outputs of shape {outputs.shape} and labels of shape {labels.shape}",
            expected="outputs [batch, ..., classes] for labels [batch, ...]",
            fix="Pass labels as class numbers (not one-hot: labels.argmax(-1)), and give the"
            " network one output per class",
        )
    return outputs, labels.astype(jnp.int32)


def _predictions_and_targets(outputs: Any, batch: Batch) -> tuple[Any, Any]:
    fix = "Convert labels with .astype(np.float32), or use classification() for classes"
    labels = _labels("regression", outputs, batch, jnp.floating, "floating-point numbers", fix)
    if outputs.shape != labels.shape:
        raise InvalidValue(
            "regression",
            "outputs and labels have different shapes",
            got=f"outputs of shape {outputs.shape} and labels of shape {labels.shape}",
            expected="equal shapes",
            fix="Pass labels[:, None] for a network with one output"
            if outputs.shape == (*labels.shape, 1)
            else "Give the network one output for each number to predict",
        )
    return outputs, labels.astype(jnp.float32)


def _labels(where: str, outputs: Any, batch: Batch, kind: Any, numbers: str, fix: str) -> Any:
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
