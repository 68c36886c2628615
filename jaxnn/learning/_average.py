"""Parameter averaging: evaluates and predicts with an average of the parameters over training.

Noisy steps oscillate about a minimum; their mean has a lower loss. Training itself is unchanged.
Evaluation and prediction use the average, which is stored next to the parameters.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jaxnn.layers import linear
    >>> from jaxnn.learning import learner
    >>> from jaxnn.objectives import regression
    >>> line = average(learner(linear(1, bias=False), regression(), optax.sgd(0.5)), decay=1.0)
    >>> batch = {"inputs": jnp.array([[1.0]]), "labels": jnp.array([[2.0]])}
    >>> state = line.init(jax.random.key(0), {}, batch)
    >>> state = state._replace(params={"weight": jnp.array([[4.0]])})
    >>> for _ in range(2):                                # the weight goes from 4 to 0 and to 4
    ...     state, _ = line.step(state, batch | {"labels": jnp.array([[0.0]]) + 4 * state.step})
    >>> state.params["weight"].item(), line.predict(state, batch["inputs"]).item()
    (4.0, 2.0)
"""

from functools import wraps

import jax
import jax.numpy as jnp

from jaxnn.checks import share
from jaxnn.layers._linear import at_least_float32
from jaxnn.learning._learner import Learner, add_extra
from jaxnn.typing import Any, Array, Int, Number


def average(learner: Learner, *, decay: Number = 0.999) -> Learner:
    """Returns a learner that evaluates and predicts with an average of its parameters.

    Every step updates `average <- average + (params - average) * max(1 - decay, 1 / steps)`. At
    first this is the plain mean, so the initial parameters have no weight; later it is an
    exponential moving average with a time constant of `1 / (1 - decay)` steps. Steps that `guard`
    skips do not count, whether it is applied before or after. The average is stored in
    `state.extra["average"]`, in float32 or wider. Running statistics of the network are not
    averaged.

    Args:
      learner: a learner whose state has `params` and `extra`, such as `TrainState`.
      decay: a number in (0, 1], not a hyper-parameter. With 1, the average is the mean over all
        steps.

    Raises:
      InvalidType: when traced, if the state has no `extra`.
      InvalidValue: if `decay` is out of range, or, when traced, if the learner is averaged already.

    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992 (the
    mean); Tarvainen and Valpola, Mean Teachers, NIPS 2017, section 2 (the decay, and its start).
    """
    share("average", "decay", decay)

    def init(key, hparams, batch):
        state = learner.init(key, hparams, batch)
        # A copy, since training donates the arrays of its state, each only once.
        average = jax.tree.map(lambda x: jnp.array(x, at_least_float32(x.dtype)), state.params)
        return add_extra("average", state, average=average)

    @wraps(learner.update)  # copies the mark of `guard`
    def update(state, batch, gradients):
        after, metrics = learner.update(state, batch, gradients)
        steps = _taken(after)
        weight = jnp.maximum(1 - decay, 1 / jnp.maximum(steps, 1).astype(jnp.float32))
        if "skipped" in after.extra:
            weight = jnp.where(steps > _taken(state), weight, 0.0)

        def moved(average, params):
            return average + (params.astype(average.dtype) - average) * weight.astype(average.dtype)

        average = jax.tree.map(moved, state.extra["average"], after.params)
        return after._replace(extra={**after.extra, "average": average}), metrics

    def averaged(state):
        return state._replace(params=changed.eval_params(state))

    changed = learner._replace(
        init=init,
        update=update,
        evaluate=lambda state, batch: learner.evaluate(averaged(state), batch),
        predict=lambda state, inputs: learner.predict(averaged(state), inputs),
        eval_path="extra/average",
    )
    return changed


def _taken(state: Any) -> Int[Array, ""]:
    """Returns the number of steps that were not skipped."""
    return state.step - state.extra.get("skipped", 0)
