"""The focal loss: a cross-entropy that gives less weight to well-classified examples.

>>> import jax.numpy as jnp
>>> batch = {"inputs": jnp.zeros((2, 1)), "labels": jnp.array([1, 1])}
>>> logits = jnp.array([[0.0, 0.0], [0.0, 4.0]])                # uncertain; confident
>>> values, _ = focal(gamma=2.0).loss(logits, batch)
>>> [f"{value:.6f}" for value in values]                        # cross-entropy: 0.693147, 0.018150
['0.173287', '0.000006']
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import metrics as measures
from jaxnn.checks import InvalidValue, number, positive
from jaxnn.metrics.entropy import cross_entropy
from jaxnn.objectives._classification import check_labels, logits_and_labels
from jaxnn.objectives._examples import shield
from jaxnn.objectives._objective import Objective, weights_of
from jaxnn.typing import Number


def focal(*, gamma: Number = 2.0, alpha: Sequence[float] | np.ndarray | None = None) -> Objective:
    """Returns the focal loss, `-alpha[label] * (1 - p)**gamma * log(p)`, in nats.

    `p` is the probability of the label. Outputs are logits `[batch, ..., classes]` with at least
    two classes, and labels are integers `[batch, ...]`. The metric is `accuracy`. For a network
    with one logit `x` per example, use the logits `[0, x]`, so that `p` is the sigmoid of `x`.

    Args:
      gamma: the exponent that reduces the loss of easy examples; 0 is cross-entropy. May be traced.
      alpha: a positive factor for each class, such as the paper's `(0.75, 0.25)` for background and
        object. By default all are 1.

    Raises:
      InvalidValue: if `gamma` is negative, a factor is not positive, labels are out of range, or
        shapes do not match.
      InvalidType: if labels are not integers.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. (5).
    """
    number("focal", "gamma", gamma, low=0.0)
    for factor in () if alpha is None else alpha:
        positive("focal", "alpha", factor)

    def loss(outputs, batch):
        logits, labels = logits_and_labels("focal", outputs, batch)
        classes = logits.shape[-1]
        _check_factors(classes, alpha)
        losses = cross_entropy(logits, labels)
        # log(1 - p), computed from the other logits, since 1 - p itself would round to 0.
        own = jax.nn.one_hot(labels, classes, dtype=bool)
        logits = logits.astype(jnp.float32)
        others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), -1)
        losses = losses * jnp.exp(gamma * (others - jax.nn.logsumexp(logits, -1)))
        if alpha is not None:
            losses = losses * jnp.take(jnp.asarray(alpha, jnp.float32), labels)
        return losses, weights_of(batch, losses)

    def metrics(outputs, batch):
        logits, labels = logits_and_labels("focal", outputs, batch)
        return {"accuracy": measures.accuracy(logits, labels, weights_of(batch, labels))}

    def check(outputs, arrays):
        if "labels" in arrays and arrays["labels"].shape[1:] == outputs.shape[1:-1]:
            check_labels("focal", outputs.shape[-1], arrays)

    return Objective(shield(loss), shield(metrics), check=check)


def _check_factors(classes: int, alpha: Sequence[float] | np.ndarray | None) -> None:
    if classes < 2 or (alpha is not None and len(alpha) != classes):
        raise InvalidValue(
            "focal",
            "the number of outputs does not match the number of classes",
            got=f"{classes} outputs" + (f" and {len(alpha)} factors" if alpha is not None else ""),
            expected="at least two outputs, and one factor for each if alpha is given",
            fix="Give the network one output per class, and alpha one factor per class, such as"
            " alpha=(0.75, 0.25)",
        )
