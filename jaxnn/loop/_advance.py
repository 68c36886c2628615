"""Compiled training steps, for single runs and populations, in both forms.

Each program is compiled once per learner and shapes. State and window are donated, so training
stores one copy of them. Every program also returns a copy of the step number, as a token to wait
for: the state itself may be donated to the next program by then.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.learning._learner import Learner
from jaxnn.loop._population import population, where
from jaxnn.loop._run import Form, one_step, run
from jaxnn.loop.statuses import RUNNING
from jaxnn.loop.unchanged import filled, holes, split
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
    fixed: tuple[int, ...] = (),
) -> tuple[Any, Any, Any]:
    """Dispatches `n` compiled steps asynchronously; `state` and `window` are donated.

    Args:
      learner: the learner to train.
      state: the state of a run, or the stacked states of all members.
      data: the training data.
      n: the number of steps.
      window: the sums of the metrics so far.
      form: `"looped"` or `"stepped"`, see `run`.
      status: the status on the device, if the run may have stopped.
      width: the number of members that train in parallel; `None` for a single run.
      busy: the slots of a stepped population that may still be running; all by default.
      fixed: the leaf indices of a single run's state that no step changes (see `unchanged`). These
        arrays are not donated, and the returned state contains them.

    Returns:
      `(state, window, token)`; the token is ready when the steps are complete.
    """
    if form == "looped" or width is None:
        rest, constants = split(state, fixed if width is None else ())
        if form == "looped":
            arguments = data, status, np.int32(n), constants
            rest, window, token = looped(learner, width, rest, window, *arguments)
        else:
            rest, window, token = _steps(learner, rest, window, data, n, status, constants)
        return filled(rest, constants), window, token
    # Members train one after another, since the stepped form avoids loops inside a program.
    for slot in map(np.int32, range(data.key.shape[0]) if busy is None else busy):
        own, key, own_status = take_rows(((state, window), data.key, status), slot)
        *own, _ = _steps(learner, *own, data.shuffled(key), n, own_status)
        state, window = _put((state, window), tuple(own), slot)
    return state, window, copy_arrays(state.step)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def looped(learner, width, state, window, data, status, n, constants=()):
    """Performs `n` steps of one run or of every member; `constants` fill holes in the state."""
    fixed = holes(state)
    active = None if status is None else status == RUNNING
    state = filled(state, constants)
    if width is None:
        n = n if active is None else jnp.where(active, n, 0)
        state, window = run(learner, state, data, n, window)
    else:
        state, window = population(run, width)(learner, state, data, n, window, active)
    return split(state, fixed)[0], window, state.step + 0


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def stepped(learner, state, window, data, constants=()):
    """Performs one step of a single run; `constants` fill holes in the state."""
    fixed = holes(state)
    state, window = one_step(learner, data, filled(state, constants), window)
    return split(state, fixed)[0], window, state.step + 0


def _steps(learner, state, window, data, n, status, constants=()):
    """Performs `n` steps of a single run, one program each; a stopped run does not change."""
    before = None if status is None else copy_arrays((state, window))
    token = None
    for _ in range(n):
        previous = token
        state, window, token = stepped(learner, state, window, data, constants)
        # With simulated devices, programs with collectives block host threads while they wait for
        # each other. If many are pending, XLA aborts the process. Dispatching one step ahead is
        # enough to keep the devices busy.
        if previous is not None and len(previous.sharding.device_set) > 1:
            jax.block_until_ready(previous)
    if status is not None:
        state, window = _unless_stopped(status, (state, window), before)
    return state, window, token


@partial(jax.jit, donate_argnums=1)
def _unless_stopped(status, after, before):
    return where(status == RUNNING, after, before)


@jax.jit
def copy_arrays(tree):
    """Returns copies of all arrays, which another program may use up."""
    return jax.tree.map(jnp.copy, tree)


@jax.jit
def take_rows(tree, index):
    """Returns the rows `index` of the leading axis of every array."""
    return rows(tree, index)


@partial(jax.jit, donate_argnums=0)
def _put(carry, own, slot):
    return jax.tree.map(lambda x, new: x.at[slot].set(new), carry, own)
