"""Multi-label classification: an independent sigmoid probability for each label.

>>> import jax.numpy as jnp
>>> batch = {"inputs": jnp.zeros((1, 1)), "labels": jnp.array([[1.0, 0.0]])}
>>> multi_label().loss(jnp.zeros((1, 2)), batch)[0].round(3).tolist()      # log(2) nats for each
[0.693...]
"""

import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import metrics as measures
from jaxnn.checks import InvalidValue, first_place
from jaxnn.objectives._examples import shield
from jaxnn.objectives._objective import Objective, labels_of, weights_of
from jaxnn.typing import Any, Batch


def multi_label() -> Objective:
    """Returns the objective for multi-label classification: binary cross-entropy in nats.

    Outputs are logits `[batch, labels]`. Labels are floating-point numbers of the same shape: 1 if
    a label applies, 0 if it does not, or a probability. The loss of an example is the mean over its
    labels. The metrics are `accuracy`, the fraction of correct labels, `exact_match`, the fraction
    of examples whose labels are all correct, and `f1`, micro-averaged over all labels.

    Raises:
      InvalidValue: if labels are outside [0, 1], or outputs and labels have different shapes.
      InvalidType: if labels are not floating-point numbers.
    """

    def loss(outputs, batch):
        logits, labels = _logits_and_labels(outputs, batch)
        losses = optax.losses.sigmoid_binary_cross_entropy(logits, labels).mean(-1)
        return losses, weights_of(batch, losses)

    def metrics(outputs, batch):
        logits, labels = _logits_and_labels(outputs, batch)
        answers, truth = logits > 0, labels > 0.5
        right = answers == truth
        weights = weights_of(batch, right)
        both = jnp.where(answers & truth, weights, 0.0)
        either = jnp.where(answers, weights, 0.0) + jnp.where(truth, weights, 0.0)
        return {
            "accuracy": measures.mean(right, weights, better="higher"),
            "exact_match": measures.mean(right.all(-1), weights[..., 0], better="higher"),
            "f1": measures.Metric((2.0 * jnp.sum(both), jnp.sum(either)), measures.ratio, "higher"),
        }

    def check(outputs, arrays):
        labels = np.asarray(arrays.get("labels", ()))
        outside = ~((labels >= 0) & (labels <= 1))
        weights = np.asarray(arrays.get("weights", np.ones(len(labels))))
        outside &= (weights != 0).reshape(weights.shape + (1,) * (labels.ndim - weights.ndim))
        if outside.any():
            place = first_place(outside)
            raise InvalidValue(
                "multi_label",
                "labels are out of range",
                got=f"labels[{', '.join(map(str, place))}]={labels[place]}",
                expected="0, 1, or a probability between them",
                fix="Write 1.0 where a label applies, and 0.0 elsewhere",
            )

    return Objective(shield(loss), shield(metrics), check=check)


def _logits_and_labels(outputs: Any, batch: Batch) -> tuple[Any, Any]:
    fix = "Convert labels with .astype(np.float32), or use classification() for one class each"
    labels = labels_of("multi_label", outputs, batch, jnp.floating, "floating-point numbers", fix)
    if outputs.shape != labels.shape or labels.ndim < 2:
        raise InvalidValue(
            "multi_label",
            "outputs and labels have different shapes, or are not matrices",
            got=f"outputs of shape {outputs.shape} and labels of shape {labels.shape}",
            expected="[batch, labels] for both",
            fix="Give the network one output for each possible label, and labels one column for"
            " each",
        )
    return outputs.astype(jnp.float32), labels.astype(jnp.float32)
