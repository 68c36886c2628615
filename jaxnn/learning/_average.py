"""An averaged learner predicts with the mean of the parameters it has had, not with the last ones.

Steps on batches jump about the bottom of a valley; their mean lies lower. Training goes on from the
last parameters, as ever; evaluation and prediction use the mean, which is kept beside them.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jaxnn.layers import linear
    >>> from jaxnn.learning._learner import learner
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

from functools import lru_cache

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidValue
from jaxnn.layers._linear import at_least_float32
from jaxnn.learning._learner import Halves, Learner, halves_of, joined


@lru_cache(64)
def average(learner: Learner, *, decay: float = 0.999) -> Learner:
    """Makes a learner that evaluates and predicts with an average of its parameters.

    The average is `average + (params - average) * max(1 - decay, 1 / steps)` after every step: a
    plain mean at first, so that where training began does not count, and then one in which what
    was `1 / (1 - decay)` steps ago counts a third. It is in `state.extra["average"]`, float32 at
    least. Statistics of the network are those of the last step.

    Args:
      learner: one with halves.
      decay: a float in (0, 1], not a hyper-parameter; at 1 it is the mean over all steps.

    Raises:
      InvalidType: if the learner's step is one piece.
      InvalidValue: if `decay` is out of range.

    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992 (the
    mean); Tarvainen and Valpola, Mean Teachers, NIPS 2017, section 2 (the decay, and its start).
    """
    if not 0 < decay <= 1:
        raise InvalidValue(
            "average",
            "decay is out of range",
            got=f"decay={decay!r}",
            expected="a number above 0 and at most 1",
            fix="Pass decay=0.999, or 1.0 for the mean over all steps",
        )
    halves = halves_of("average", learner)

    def init(key, hparams, batch):
        state = learner.init(key, hparams, batch)
        # A copy, since training uses up the arrays of its state, each once.
        average = jax.tree.map(lambda x: jnp.array(x, at_least_float32(x.dtype)), state.params)
        return state._replace(extra={**state.extra, "average": average})

    def update(state, batch, gradients):
        after, metrics = halves.update(state, batch, gradients)
        share = jnp.maximum(1 - decay, 1 / after.step.astype(jnp.float32))

        def moved(average, params):
            return average + (params.astype(average.dtype) - average) * share.astype(average.dtype)

        average = jax.tree.map(moved, state.extra["average"], after.params)
        return after._replace(extra={**after.extra, "average": average}), metrics

    def seen(state):
        """Returns the state with the average in the place of the parameters."""
        params = jax.tree.map(
            lambda average, x: average.astype(x.dtype), state.extra["average"], state.params
        )
        return state._replace(params=params)

    changed = learner._replace(
        init=init,
        evaluate=lambda state, batch: learner.evaluate(seen(state), batch),
        predict=lambda state, inputs: learner.predict(seen(state), inputs),
        parts=learner.parts and learner.parts._replace(params=lambda state: seen(state).params),
    )
    return joined(changed, Halves(halves.gradients, update, halves.guarded))
