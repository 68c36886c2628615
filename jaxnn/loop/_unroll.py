"""Training as a differentiable function: gradients reach what came before it, through every step.

`unroll(learner, steps)` is `run` for a number of steps that is known, as a function whose gradient
can be taken: by the hyper-parameters, the initial parameters, the data, or what a network of your
own makes of any of them. So a learning rate can be learned, or parameters from which few steps
lead far (`experiments/learn_the_learning_rate.py`, `experiments/maml_sine.py`). Take the gradient
by floats, as here: a state also holds its step and its key, which have none.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jaxnn.data import resident
    >>> from jaxnn.layers import linear
    >>> from jaxnn.learning import learner
    >>> from jaxnn.objectives import regression
    >>> data = resident({"inputs": [[1.0]], "labels": [[2.0]]}, batch_size=1)
    >>> line = learner(linear(1, bias=False), regression(), lambda h: optax.sgd(h["learning_rate"]))
    >>> def left(rate):                           # of an error each step leaves 1 - 2 * rate
    ...     state = line.init(jax.random.key(0), {"learning_rate": rate}, data.in_order(0))
    ...     state = state._replace(params={"weight": jnp.ones((1, 1))})
    ...     state, _ = unroll(line, 3)(state, data)
    ...     return state.params["weight"][0, 0] - 2.0
    >>> [float(x) for x in jax.value_and_grad(left)(0.25)]         # -(1 - 2r)^3, 6 (1 - 2r)^2
    [-0.125, 1.5]

Optimizers that divide by a root have no slope where a gradient has always been 0, as behind a dead
relu or a black pixel: `optax.adam(rate, eps_root=1e-8)` has, and without it such a gradient is NaN.
"""

from math import isqrt

import jax
from jax import lax

from jaxnn.checks import kind, positive_integer
from jaxnn.learning._learner import Learner
from jaxnn.loop._run import Batches, empty_window, one_step, trace_step
from jaxnn.typing import Any, Callable


def unroll(learner: Learner, steps: int) -> Callable[[Any, Batches], tuple[Any, Any]]:
    """Makes `(state, data) -> (state, window)`: the steps of `run`, differentiable.

    `data` is anything that has `batch(step)`, such as `Resident`. States and metrics are those of
    `run` but for rounding, most often to the bit.

    The gradient stores only every n-th state, with n about the square root of the steps, and
    the steps between are done again when it comes to them, each of them alone: memory grows with
    the square root of the steps, by states and not by what a step computes. A gradient takes the
    time of three runs and of their derivatives.

    Raises:
      InvalidType: if `learner` is none, or `steps` is traced.
      InvalidValue: if `steps` is not a whole number above zero.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, section 4;
    https://arxiv.org/abs/1604.06174.
    """
    fix = "Pass learner(network, objective, optimizer)"
    kind("unroll", "learner", learner, Learner, fix=fix)
    steps = positive_integer("unroll", "steps", steps)
    length = isqrt(steps)
    rest = steps % length if length > 1 else steps

    def unrolled(state: Any, data: Batches) -> tuple[Any, Any]:
        def step(carry, _):
            return one_step(learner, data, *carry), None

        def part(carry, _):
            return lax.scan(alone, carry, length=length)

        # A loop keeps what its body is given: prevent_cse is for what is not in a loop.
        alone = jax.checkpoint(step, prevent_cse=False)
        window = empty_window(trace_step(learner, state, data)[1][1])
        carry = state, window
        if length > 1:
            stored = jax.checkpoint(part, prevent_cse=False)
            carry, _ = lax.scan(stored, carry, length=steps // length)
        if rest:
            carry, _ = lax.scan(alone, carry, length=rest)
        return carry

    return unrolled
