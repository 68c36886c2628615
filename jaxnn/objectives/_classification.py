"""Classification: the cross-entropy between logits and integer labels.

>>> import jax.numpy as jnp
>>> batch = {"inputs": jnp.zeros((2, 1)), "labels": jnp.array([1, 0])}
>>> values, weights = classification().loss(jnp.zeros((2, 4)), batch)
>>> values.round(3).tolist()                                        # log(4) nats, twice
[1.38600003..., 1.38600003...]
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import metrics as measures
from jaxnn.checks import InvalidValue, first_place, number, positive_integer
from jaxnn.metrics.entropy import cross_entropy
from jaxnn.objectives._examples import is_own, shield, try_examples
from jaxnn.objectives._objective import Objective, labels_of, weights_of
from jaxnn.typing import Any, Batch, Callable, Number


def classification(
    *,
    label_smoothing: Number = 0.0,
    top_k: int | Sequence[int] = (),
    metrics: Mapping[str, Callable[[Any, Any, Any], measures.Metric]] | None = None,
    names: Sequence[str] = (),
) -> Objective:
    """Returns the objective for classification: cross-entropy (nats), and the accuracy.

    Outputs are logits `[batch, ..., classes]`, and labels are integers `[batch, ...]` from 0 to
    `classes - 1`. The metrics are `accuracy`, and for example `top_5` for `top_k=5`.

    Args:
      label_smoothing: the fraction of each label's probability that is spread evenly over all
        classes, in [0, 1). May be traced. It applies in evaluation too.
      top_k: one or several values of k, for top-k accuracy.
      metrics: additional metrics by name, each `(logits, labels, weights) -> Metric` with a scalar
        value, such as `{"f1": jaxnn.metrics.f1}`.
      names: the names of the classes, for reports.

    Raises:
      InvalidValue: if labels are out of range, shapes do not match, the value of a metric is not
        a scalar, its name is already used, or the number of `names` is not the number of classes.
      InvalidType: if labels are not integers.

    Source: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7.
    """
    number("classification", "label_smoothing", label_smoothing, low=0.0, high=1.0)
    guesses = (top_k,) if isinstance(top_k, int) else tuple(top_k)
    for k in guesses:
        positive_integer("classification", "top_k", k)
    own = dict(metrics or {})
    for name in own.keys() & {"accuracy", *(f"top_{k}" for k in guesses)}:
        raise InvalidValue(
            "classification",
            "a metric has the name of a built-in metric",
            got=f"metrics with {name!r}",
            expected="another name",
            fix=f"Name it, say, 'own_{name}'",
        )

    def loss(outputs, batch):
        logits, labels = logits_and_labels("classification", outputs, batch)
        losses = cross_entropy(logits, labels, label_smoothing)
        return losses, weights_of(batch, losses)

    def measured(outputs, batch):
        logits, labels = logits_and_labels("classification", outputs, batch)
        weights = weights_of(batch, labels)
        return {
            "accuracy": measures.accuracy(logits, labels, weights),
            **{f"top_{k}": measures.top_k(logits, labels, weights, k) for k in guesses},
            **{name: measure(logits, labels, weights) for name, measure in own.items()},
        }

    def check(outputs, arrays):
        classes = outputs.shape[-1]
        if names and len(names) != classes:
            raise InvalidValue(
                "classification",
                "the number of names must equal the number of classes",
                got=f"{len(names)} names and {classes} classes",
                expected=f"{classes} names",
                fix="Give the network an output for each class, or leave out names",
            )
        for k in guesses:
            positive_integer("classification", "top_k", k, at_most=classes)
        for name, measure in own.items():
            _check_one_number(name, measure, outputs)
        if any(map(is_own, own.values())):
            try_examples(Objective(loss, measured), outputs, arrays, outputs.shape[0])
        if "labels" in arrays and arrays["labels"].shape[1:] == outputs.shape[1:-1]:
            check_labels("classification", classes, arrays)  # or `prepare` makes the labels

    return Objective(shield(loss), shield(measured), check=check, names=tuple(names))


def logits_and_labels(where: str, outputs: Any, batch: Batch) -> tuple[Any, Any]:
    """Validates outputs `[batch, ..., classes]` and labels `[batch, ...]`, and returns both.

    Raises:
      InvalidValue: if there are no labels, or shapes do not match.
      InvalidType: if labels are not integers.
    """
    fix = "Convert labels with .astype(np.int32), or use regression() for real numbers"
    labels = labels_of(where, outputs, batch, jnp.integer, "class numbers", fix)
    if outputs.shape[:-1] != labels.shape:
        raise InvalidValue(
            where,
            "outputs and labels have shapes that do not match",
            got=f"outputs of shape {outputs.shape} and labels of shape {labels.shape}",
            expected="outputs [batch, ..., classes] for labels [batch, ...]",
            fix="Pass labels as class numbers (not one-hot: labels.argmax(-1)), and give the"
            " network one output per class",
        )
    return outputs, labels.astype(jnp.int32)


def check_labels(where: str, classes: int, arrays: Batch, field: str = "labels") -> None:
    """Raises `InvalidValue` if a label with nonzero weight is not a class number."""
    labels = np.asarray(arrays[field])
    outside = (labels < 0) | (labels >= classes)
    weights = np.asarray(arrays.get("weights", np.ones(len(labels))))
    if weights.shape == labels.shape[: weights.ndim]:
        outside &= (weights != 0).reshape(weights.shape + (1,) * (labels.ndim - weights.ndim))
    if outside.any():
        place = first_place(outside)
        raise InvalidValue(
            where,
            f"{'labels' if field == 'labels' else 'tokens'} are out of range",
            got=f"{field}[{', '.join(map(str, place))}]={labels[place]} with {classes} outputs",
            expected=f"integers from 0 to {classes - 1}",
            fix=f"Number {'the classes' if field == 'labels' else 'tokens'} from 0, and give the"
            " network an output for each",
        )


def _check_one_number(name: str, measure: Callable[..., measures.Metric], logits: Any) -> None:
    labels = jax.ShapeDtypeStruct(logits.shape[:-1], jnp.int32)
    weights = jax.ShapeDtypeStruct(logits.shape[:-1], jnp.float32)
    shape = jax.eval_shape(lambda *a: measure(*a).value(), logits, labels, weights).shape
    if shape != ():
        raise InvalidValue(
            "classification",
            f"the metric {name!r} is not a scalar",
            got=f"a value of shape {shape}",
            expected="shape (), for reports",
            fix="Compute it after training, from the logits that jaxnn.predict returns",
        )
