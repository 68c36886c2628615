"""Compiled training steps, for one run and for populations, in both forms.

Each program is compiled once per learner and shapes. State and window are donated, so that training
holds one copy of them. The step is also returned separately, as a token to wait for, since donated
arrays cannot be waited for.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.learning._learner import Learner
from jaxnn.loop._population import population, where
from jaxnn.loop._run import Form, one_step, run
from jaxnn.loop.statuses import RUNNING
from jaxnn.scale.layout import rows
from jaxnn.typing import Any


def advance(
    learner: Learner,
    state: Any,
    data: Any,
    n: int,
    window: Any,
    form: Form,
    *,
    status: Any = None,
    width: int | None = None,
    busy: Any = None,
) -> tuple[Any, Any, Any]:
    """Dispatches `n` compiled steps asynchronously; `state` and `window` are donated.

    Args:
      form: `"looped"` or `"stepped"`, see `run`.
      status: the status on the device, if the run may have stopped.
      width: the number of members that train in parallel; `None` for a single run.
      busy: the slots of a stepped population that may still be running; all by default.

    Returns:
      `(state, window, token)`: the token is ready when the steps are done.
    """
    if form == "looped":
        return looped(learner, width, state, window, data, status, np.int32(n))
    if width is None:
        return _steps(learner, state, window, data, n, status)
    # One member after another: the stepped form must not loop inside the program.
    for slot in map(np.int32, range(data.key.shape[0]) if busy is None else busy):
        own, key, going = _slot((state, window), data.key, status, slot)
        *own, _ = _steps(learner, *own, data.shuffled(key), n, going)
        state, window = _put((state, window), tuple(own), slot)
    return state, window, _copy(state.step)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def looped(learner, width, state, window, data, status, n):
    """Performs `n` steps of one run, or of every member."""
    active = None if status is None else status == RUNNING
    if width is None:
        n = n if active is None else jnp.where(active, n, 0)
        state, window = run(learner, state, data, n, window)
    else:
        state, window = population(run, width)(learner, state, data, n, window, active)
    return state, window, state.step + 0


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def stepped(learner, state, window, data):
    """Performs one step of one run."""
    state, window = one_step(learner, data, state, window)
    return state, window, state.step + 0


def _steps(learner, state, window, data, n, status):
    """Performs `n` steps of one run, and reverts them if the run had stopped."""
    before = None if status is None else _copy((state, window))
    token = None
    for _ in range(n):
        previous = token
        state, window, token = stepped(learner, state, window, data)
        # Programs that exchange messages wait for each other, in the threads of the host where
        # devices are simulated: with many of them pending, XLA aborts the process. One ahead
        # keeps the devices as busy.
        if previous is not None and len(previous.sharding.device_set) > 1:
            jax.block_until_ready(previous)
    if status is not None:
        state, window = _unless_stopped(status, (state, window), before)
    return state, window, token


@partial(jax.jit, donate_argnums=1)
def _unless_stopped(status, after, before):
    return where(status == RUNNING, after, before)


@jax.jit
def _copy(tree):
    return jax.tree.map(jnp.copy, tree)


@jax.jit
def _slot(carry, keys, status, slot):
    return rows((carry, keys, status), slot)


@partial(jax.jit, donate_argnums=0)
def _put(carry, own, slot):
    return jax.tree.map(lambda x, new: x.at[slot].set(new), carry, own)
