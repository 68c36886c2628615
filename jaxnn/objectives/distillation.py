"""Distillation: trains a network on the outputs of another network, in addition to the labels.

>>> import jax.numpy as jnp
>>> from jaxnn.objectives import classification
>>> goal = distill(classification(), lambda inputs: 2 * inputs, share=1.0)
>>> batch = goal.prepare(None, {"inputs": jnp.array([[1.0, 0.0]]), "labels": jnp.array([0])})
>>> goal.loss(jnp.array([[2.0, 0.0]]), batch)[0].tolist()       # equal to the teacher
[0.0]
"""

import jax
import jax.numpy as jnp

from jaxnn import metrics as measures
from jaxnn.checks import InvalidValue, number, positive
from jaxnn.masked import values_of
from jaxnn.objectives._examples import shield
from jaxnn.objectives._objective import Objective, weights_of
from jaxnn.typing import Any, Callable, Number


def distill(
    base: Objective,
    teacher: Callable[[Any], Any],
    *,
    temperature: Number = 2.0,
    share: Number = 0.5,
) -> Objective:
    """Adds to an objective the divergence of the outputs from those of a teacher.

    The loss is `(1 - share) * base + share * temperature**2 * KL(teacher || student)`, in nats, of
    the softmax of logits divided by the temperature. (The paper uses the cross-entropy instead of
    the divergence. The gradient is the same, but the divergence is 0 where both agree.) The metrics
    are those of `base`, and `agreement`, the fraction of examples for which both predict the same
    class.

    Args:
      base: the objective for the labels; its outputs are logits `[batch, ..., classes]`.
      teacher: `inputs -> logits`, such as `lambda inputs: learner.predict(state, inputs)`. It reads
        the same inputs as the student, including augmentation. Its arrays are constants of the
        compiled program, without gradients.
      temperature: values above 1 give more weight to the wrong classes. May be traced.
      share: the weight of the teacher in the loss, from 0 to 1. May be traced.

    Raises:
      InvalidValue: if a number is out of range, or, when traced, the teacher's logits do not have
        the shape of the outputs, or `base` does not return a loss for each prediction.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    positive("distill", "temperature", temperature)
    number("distill", "share", share, low=0.0, high=1.0 + 1e-6)

    def prepare(key, batch):
        batch = base.prepare(key, batch)
        # The teacher's outputs for a sequence have the same positions as the student's.
        logits = values_of(teacher(batch["inputs"]))
        return {**batch, "teacher": jax.lax.stop_gradient(logits)}

    def loss(outputs, batch):
        _check_shapes(outputs, batch["teacher"])
        losses, weights = base.loss(outputs, batch)
        ours, theirs = (
            jax.nn.log_softmax(logits.astype(jnp.float32) / temperature, -1)
            for logits in (outputs, batch["teacher"])
        )
        apart = jnp.sum(jnp.exp(theirs) * (theirs - ours), -1)
        _check_losses(losses, apart)
        return (1.0 - share) * losses + share * temperature**2 * apart, weights

    def metrics(outputs, batch):
        same = jnp.argmax(outputs, -1) == jnp.argmax(batch["teacher"], -1)
        agreement = measures.mean(same, weights_of(batch, same), better="higher")
        others = base.metrics(outputs, batch)
        if "agreement" in others:
            raise InvalidValue(
                "distill",
                "the base objective has a metric with a reserved name",
                got="a metric named 'agreement'",
                expected="another name",
                fix="Name it, say, 'own_agreement'",
            )
        return {**others, "agreement": agreement}

    return Objective(shield(loss), shield(metrics), prepare, base.check, base.names)


def _check_shapes(outputs: Any, teacher: Any) -> None:
    shapes = [getattr(x, "shape", "of a tree") for x in (outputs, teacher)]
    if shapes[0] != shapes[1] or isinstance(shapes[0], str):
        raise InvalidValue(
            "distill",
            "the teacher's logits do not have the shape of the outputs",
            got=f"outputs of shape {shapes[0]} and a teacher's of shape {shapes[1]}",
            expected="equal shapes [batch, ..., classes]",
            fix="Give both networks an output for each class, in the same order",
        )


def _check_losses(losses: Any, apart: Any) -> None:
    if jnp.shape(losses) != apart.shape:
        raise InvalidValue(
            "distill",
            "the base objective does not return a loss for each prediction",
            got=f"losses of shape {jnp.shape(losses)} and divergences of shape {apart.shape}",
            expected="equal shapes [batch, ...]",
            fix="Leave out the mean in the base objective, and batchwise(loss), which returns one"
            " value for the whole batch",
        )
