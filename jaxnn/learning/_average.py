"""An averaged learner predicts with the mean of the parameters it has had, not with the last ones.

Steps on batches jump about the bottom of a valley; their mean lies lower. Training continues from
the last parameters, as ever; evaluation and prediction use the mean, which is stored beside them.

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
from jaxnn.typing import Number


def average(learner: Learner, *, decay: Number = 0.999) -> Learner:
    """Makes a learner that evaluates and predicts with an average of its parameters.

    The average is `average + (params - average) * max(1 - decay, 1 / steps)` after every step: a
    plain mean at first, so that where training began does not count, and then one in which what
    was `1 / (1 - decay)` steps ago counts a third. It is in `state.extra["average"]`, float32 at
    least. Statistics of the network are those of the last step.

    Args:
      learner: one whose state has `params` and `extra`, as `TrainState` has.
      decay: a number in (0, 1], not a hyper-parameter; at 1 it is the mean over all steps.

    Raises:
      InvalidType: when traced, if the state has no `extra`.
      InvalidValue: if `decay` is out of range, or, when traced, if it has an average already.

    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992 (the
    mean); Tarvainen and Valpola, Mean Teachers, NIPS 2017, section 2 (the decay, and its start).
    """
    share("average", "decay", decay)

    def init(key, hparams, batch):
        state = learner.init(key, hparams, batch)
        # A copy, since training uses up the arrays of its state, each once.
        average = jax.tree.map(lambda x: jnp.array(x, at_least_float32(x.dtype)), state.params)
        return add_extra("average", state, average=average)

    @wraps(learner.update)  # which keeps the mark of `guard`
    def update(state, batch, gradients):
        after, metrics = learner.update(state, batch, gradients)
        weight = jnp.maximum(1 - decay, 1 / after.step.astype(jnp.float32))

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
