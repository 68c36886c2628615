"""Prediction of classes: the cross-entropy between logits and whole-number labels.

>>> import jax.numpy as jnp
>>> batch = {"inputs": jnp.zeros((2, 1)), "labels": jnp.array([1, 0])}
>>> values, weights = classification().loss(jnp.zeros((2, 4)), batch)
>>> values.round(3).tolist()                                        # log(4) nats, twice
[1.38600003..., 1.38600003...]
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import metrics as measures
from jaxnn.checks import InvalidValue, is_concrete, number, positive_integer
from jaxnn.objectives.objective import Objective, labels_of, weights_of
from jaxnn.typing import Any, Batch, Number


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


def _logits_and_labels(outputs: Any, batch: Batch) -> tuple[Any, Any]:
    fix = "Convert labels with .astype(np.int32), or use regression() for real numbers"
    labels = labels_of("classification", outputs, batch, jnp.integer, "class numbers", fix)
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
