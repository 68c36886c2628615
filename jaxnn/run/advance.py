"""Compiled training steps, for one run and for many, in both forms.

Each program is compiled once per learner and shapes, for every driver. State and window are
donated: training holds one copy of them. The step is returned apart, as something to wait for
after donation.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn.learner import Learner
from jaxnn.run.population import population, where
from jaxnn.run.run import Form, one_step, run
from jaxnn.typing import Any


def advance(
    learner: Learner,
    state: Any,
    data: Any,
    n: int,
    window: Any,
    form: Form,
    *,
    active: Any = None,
    width: int | None = None,
) -> tuple[Any, Any, Any]:
    """Dispatches `n` compiled steps without waiting for them; `state` and `window` are used up.

    Args:
      learner: how parameters change.
      state: where to begin.
      data: has `batch(step)`.
      n: the number of steps.
      window: metrics of earlier steps.
      form: `"looped"` or `"stepped"`, see `run`.
      active: whether to do anything, known on the device; always, by default.
      width: of a population, how many members train at once; `None` for one run.

    Returns:
      `(state, window, token)`: the token is ready when the steps are done.
    """
    if form == "looped":
        return looped(learner, width, state, window, data, active, np.int32(n))
    token = None
    if width is None:
        for _ in range(n):
            state, window, token = stepped(learner, state, window, data, active)
        return state, window, token
    # Member after member, since a loop inside the program is what this form is there to avoid.
    for member in range(data.key.shape[0]):
        for _ in range(n):
            state, window, token = _member(learner, state, window, data, active, np.int32(member))
    return state, window, token


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def looped(learner, width, state, window, data, active, n):
    """Does `n` steps of one run, or of every member."""
    if width is not None:
        state, window = population(run, width)(learner, state, data, n, window, active)
    else:
        n = n if active is None else jnp.where(active, n, 0)
        state, window = run(learner, state, data, n, window)
    return state, window, state.step + 0


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def stepped(learner, state, window, data, active):
    """Does one step of one run."""
    state, window = _unless_stopped(learner, data, state, window, active)
    return state, window, state.step + 0


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def _member(learner, states, windows, data, active, member):
    """Does one step of one member."""
    own, key, going = jax.tree.map(
        lambda x: lax.dynamic_index_in_dim(x, member, keepdims=False),
        ((states, windows), data.key, active),
    )
    after = _unless_stopped(learner, data.shuffled(key), *own, going)
    states, windows = jax.tree.map(
        lambda x, new: lax.dynamic_update_index_in_dim(x, new, member, 0), (states, windows), after
    )
    return states, windows, states.step + 0


def _unless_stopped(learner, data, state, window, active):
    after = one_step(learner, data, state, window)
    return after if active is None else where(active, after, (state, window))
