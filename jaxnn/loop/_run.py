"""A training run is a pure function: `run(learner, state, data, n, window)` does `n` steps.

The state is one pytree, the data an argument, the batch of a step a function of its number. So a
run can be cut anywhere and resumed, bit for bit, and it compiles whole: `n` is an input of the
program, so one executable serves every length. Metrics are summed in a `window`.

The same step runs in two forms. *Looped*, the steps of a chunk are one loop inside the program:
nothing waits on Python. *Stepped*, each is a program of its own, dispatched without waiting. On
GPU and TPU both are equally fast; on CPU a gradient of a native convolution is 5 to
25 times slower in a loop (`layers.conv` has none), so a learner that holds one is stepped.
"""

from functools import partial
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn import metrics as measures
from jaxnn.data._buckets import at_width
from jaxnn.learning._given import given
from jaxnn.learning._learner import Learner
from jaxnn.programs import operations
from jaxnn.typing import Any, Batch

Form = Literal["looped", "stepped"]


@runtime_checkable
class Batches(Protocol):
    """The data of a run: a pytree of arrays that knows the batch of each step, as `Resident`."""

    def batch(self, step: Any) -> Batch:
        """Returns the batch of a step, whose number may be traced."""
        ...


def run(learner: Learner, state: Any, data: Batches, n: Any, window: Any = None) -> tuple[Any, Any]:
    """Does `n` training steps, purely: `run(a + b)` is `run(b)` after `run(a)`, bit for bit.

    Compile it to go fast, `jax.jit(run, static_argnums=0)`, once for all `n`; `train` does.

    Args:
      learner: how parameters change.
      state: where to begin; its `step` says which batch comes next.
      data: such as `Resident`.
      n: the number of steps; may be traced.
      window: metrics of earlier steps, to which those of these steps are added.

    Returns:
      `(state, window)`: the state after the steps, and the sums of the metrics over the window,
      `{name: Metric}`.
    """
    if window is None:
        window = empty_window(trace_step(learner, state, data)[1][1])
    return lax.fori_loop(0, n, lambda _, carry: one_step(learner, data, *carry), (state, window))


def trace_step(learner: Learner, state: Any, data: Batches) -> tuple[Any, tuple[Any, Any]]:
    """Returns the program of a step, and the shapes of the `(state, metrics)` that it returns."""
    program, shapes = jax.make_jaxpr(partial(step, learner), return_shape=True)(state, data)
    return program, shapes


def empty_window(metrics: Any) -> Any:
    """Returns a window with no steps in it, for the shapes of the metrics of a step."""
    return jax.device_put(measures.empty(metrics))


def one_step(learner: Learner, data: Batches, state: Any, window: Any) -> tuple[Any, Any]:
    """Does one training step, and adds its metrics to the window."""
    state, metrics = step(learner, state, data)
    return state, measures.merge(window, metrics)


# Each of these is traced once for a learner and its shapes, whatever programs it is part of.


@partial(jax.jit, static_argnums=0, inline=True)
def initial(learner, key, hparams, data, start=None):
    """Returns the state that a run begins with, from `start` if that is given: params and state."""
    with given(start):
        return learner.init(key, hparams, data.batch(jnp.int32(0)))


@partial(jax.jit, static_argnums=0, inline=True)
def step(learner, state, data):
    """Does the step that comes next; returns the state and the metrics of the step."""
    return at_width(data, data.batch(state.step), partial(learner.step, state))


def best_form(program: Any, platform: str) -> Form:
    """Returns the form for the program of a step: stepped for native convolutions on CPU.

    `platform` is that of the devices that train, whatever the default backend is.
    """
    return "stepped" if platform == "cpu" and _has_native_gradient(program) else "looped"


def _has_native_gradient(jaxpr: Any) -> bool:
    """Whether some convolution has an order of axes that only native gradients have."""
    for equation, _ in operations(jaxpr):
        if equation.primitive.name == "conv_general_dilated":
            numbers = equation.params["dimension_numbers"]
            rank = len(numbers.lhs_spec)
            last = (0, rank - 1, *range(1, rank - 1))
            window = (rank - 1, rank - 2, *range(rank - 2))
            if numbers != (last, window, last) or equation.params["batch_group_count"] != 1:
                return True
    return False
