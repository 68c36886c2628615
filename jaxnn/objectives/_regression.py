"""Regression: an elementwise error between predictions and real-valued labels.

>>> import jax.numpy as jnp
>>> batch = {"inputs": jnp.zeros((2, 1)), "labels": jnp.array([1.0, 2.0])}
>>> regression(absolute_error).loss(jnp.array([1.0, 5.0]), batch)[0].tolist()
[0.0, 3.0]
"""

import jax.numpy as jnp
import optax

from jaxnn import metrics as measures
from jaxnn.checks import InvalidValue
from jaxnn.objectives._examples import is_own, shield
from jaxnn.objectives._objective import Objective, labels_of, no_check, weights_of
from jaxnn.typing import Any, Batch, Callable


def absolute_error(predictions: Any, targets: Any) -> Any:
    """Returns the elementwise absolute difference, an `error` for `regression`."""
    return jnp.abs(predictions - targets)


def regression(error: Callable[[Any, Any], Any] = optax.losses.squared_error) -> Objective:
    """Returns the objective for regression: the mean of an elementwise error.

    Outputs and labels have the same shape, `[batch]` or `[batch, ...]`. Outputs may have an
    additional last axis of length 1, so that labels `[batch]` suit a network with one output. The
    loss of an example is the mean of its errors. The metrics are `r2`, and `mae` in the units of
    the labels.

    Args:
      error: an elementwise function `(predictions, targets) -> errors`, such as
        `optax.losses.squared_error`, `absolute_error` or `optax.losses.huber_loss`.

    Raises:
      InvalidValue: when traced, if outputs and labels have different shapes, or `error` is not
        elementwise; before training, if a custom `error` mixes examples.
      InvalidType: when traced, if labels are not floating-point numbers.
    """

    def loss(outputs, batch):
        predictions, targets = _predictions_and_targets(outputs, batch)
        errors = error(predictions.astype(jnp.float32), targets)
        _check_elementwise(error, errors, targets)
        # Weights [batch, time] give a loss for each position.
        weighted = batch["weights"].ndim if "weights" in batch else 1
        losses = errors.mean(tuple(range(weighted, errors.ndim)))
        return losses, weights_of(batch, losses)

    def metrics(outputs, batch):
        predictions, targets = _predictions_and_targets(outputs, batch)
        predictions = predictions.astype(jnp.float32)
        weights = weights_of(batch, targets)
        given = predictions, targets, weights
        if "weights" in batch and 1 < batch["weights"].ndim < targets.ndim:
            # Each position of a sequence counts as an example of the same targets.
            axes = batch["weights"].ndim
            given = tuple(x.reshape(-1, *x.shape[axes:]) for x in given)
        return {
            "r2": measures.r_squared(*given),
            "mae": measures.mean(absolute_error(predictions, targets), weights, better="lower"),
        }

    return Objective(shield(loss), shield(metrics), check=None if is_own(error) else no_check)


def _check_elementwise(error: Callable[[Any, Any], Any], errors: Any, targets: Any) -> None:
    if jnp.shape(errors) != targets.shape:
        raise InvalidValue(
            "regression",
            "the error is not elementwise",
            got=f"{getattr(error, '__name__', 'error')} of shape {jnp.shape(errors)} for targets of"
            f" shape {targets.shape}",
            expected="one error for each target",
            fix="Leave out the mean: regression averages the errors of each example itself",
        )


def _predictions_and_targets(outputs: Any, batch: Batch) -> tuple[Any, Any]:
    fix = "Convert labels with .astype(np.float32), or use classification() for classes"
    labels = labels_of("regression", outputs, batch, jnp.floating, "floating-point numbers", fix)
    if outputs.shape == (*labels.shape, 1):
        labels = labels[..., None]
    if outputs.shape != labels.shape:
        raise InvalidValue(
            "regression",
            "outputs and labels have different shapes",
            got=f"outputs of shape {outputs.shape} and labels of shape {labels.shape}",
            expected="equal shapes, or labels [batch] for outputs [batch, 1]",
            fix="Give the network one output for each number to predict",
        )
    return outputs, labels.astype(jnp.float32)
