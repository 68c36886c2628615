"""A training run is a pure function: `run(learner, state, data, n, window)` performs `n` steps.

The state is one pytree, the data are an argument, and the batch is a function of the step number.
So a run can stop anywhere and resume bit for bit. The whole run compiles to one program: `n` is an
input, so one executable serves every length. Metrics are summed in a `window`.

Steps execute in one of two forms. In the *looped* form, the steps of a chunk are one loop inside
the program and never wait for Python. In the *stepped* form, each step is a separate program,
dispatched asynchronously. On GPU and TPU both are equally fast. On CPU the gradient of a native
convolution is 5 to 25 times slower inside a loop (`layers.conv` avoids it), so learners with one
use the stepped form.
"""

from functools import partial
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn import metrics as measures
from jaxnn.data._buckets import at_width
from jaxnn.data._no_data import as_data
from jaxnn.learning._given import given
from jaxnn.learning._learner import Learner
from jaxnn.programs import operations
from jaxnn.typing import Any, Batch

Form = Literal["looped", "stepped"]


@runtime_checkable
class Batches(Protocol):
    """The data of a run: a pytree of arrays with a batch for each step, such as `Resident`."""

    def batch(self, step: Any) -> Batch:
        """Returns the batch of a step; the step number may be traced."""
        ...


def run(
    learner: Learner, state: Any, data: Batches | None, n: Any, window: Any = None
) -> tuple[Any, Any]:
    """Performs `n` training steps as a pure function.

    Running `a` steps and then `b` steps equals running `a + b` steps, bit for bit. Compile it for
    speed with `jax.jit(run, static_argnums=0)`; one executable serves all `n`. `train` does so.

    Args:
      learner: the learner to train.
      state: the initial state; its `step` determines the next batch.
      data: the training data, such as `Resident`; `None` for a learner that generates its own.
      n: the number of steps; may be traced.
      window: the sums of metrics over earlier steps; the metrics of these steps are added.

    Returns:
      A pair `(state, window)`: the state after the steps, and the sums of the metrics over the
      window, `{name: Metric}`.
    """
    if window is None:
        window = empty_window(trace_step(learner, state, data)[1][1])
    return lax.fori_loop(0, n, lambda _, carry: one_step(learner, data, *carry), (state, window))


def trace_step(learner: Learner, state: Any, data: Batches | None) -> tuple[Any, tuple[Any, Any]]:
    """Traces one step; returns its jaxpr and the shapes of the `(state, metrics)` it returns."""
    program, shapes = jax.make_jaxpr(partial(step, learner), return_shape=True)(state, data)
    return program, shapes


def empty_window(metrics: Any) -> Any:
    """Returns an empty window, given the shapes of the metrics of a step."""
    return jax.device_put(measures.empty(metrics))


def one_step(learner: Learner, data: Batches | None, state: Any, window: Any) -> tuple[Any, Any]:
    """Performs one training step and adds its metrics to the window."""
    state, metrics = step(learner, state, data)
    return state, measures.merge(window, metrics)


# Each of these is traced once for a learner and its shapes, regardless of the calling program.


@partial(jax.jit, static_argnums=0, inline=True)
def initial(learner, key, hparams, data, start=None):
    """Returns the initial state of a run; `start`, if given, is a pair `(params, state)`."""
    with given(start):
        return learner.init(key, hparams, as_data(data).batch(jnp.int32(0)))


@partial(jax.jit, static_argnums=0, inline=True)
def step(learner, state, data):
    """Performs the next step; returns the state and the metrics of the step."""
    data = as_data(data)
    return at_width(data, data.batch(state.step), partial(learner.step, state))


def best_form(program: Any, platform: str) -> Form:
    """Returns the fastest form of a step: stepped for native convolutions on CPU, else looped.

    `platform` is the platform of the training devices, which may differ from the default backend.
    """
    return "stepped" if platform == "cpu" and _has_native_gradient(program) else "looped"


def _has_native_gradient(jaxpr: Any) -> bool:
    """Returns whether a convolution has a layout that only native gradients have."""
    for equation, _ in operations(jaxpr):
        if equation.primitive.name == "conv_general_dilated":
            numbers = equation.params["dimension_numbers"]
            rank = len(numbers.lhs_spec)
            last = (0, rank - 1, *range(1, rank - 1))
            window = (rank - 1, rank - 2, *range(rank - 2))
            if numbers != (last, window, last) or equation.params["batch_group_count"] != 1:
                return True
    return False
