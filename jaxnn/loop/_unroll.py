"""Differentiable training: backpropagates through every step of a run.

`unroll(learner, steps)` is `run` with a static number of steps, as a differentiable function. Its
gradient can be taken with respect to the hyper-parameters, the initial parameters, the data, or the
inputs of a network that computes any of them. This allows learning a learning rate, or initial
parameters from which a few steps suffice (`experiments/learn_the_learning_rate.py`,
`experiments/maml_sine.py`). Differentiate with respect to floats, as here, not a whole state: its
step and key have no gradient.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jaxnn.data import resident
    >>> from jaxnn.layers import linear
    >>> from jaxnn.learning import learner
    >>> from jaxnn.objectives import regression
    >>> data = resident({"inputs": [[1.0]], "labels": [[2.0]]}, batch_size=1)
    >>> line = learner(linear(1, bias=False), regression(), lambda h: optax.sgd(h["learning_rate"]))
    >>> def error(rate):                          # each step multiplies the error by 1 - 2 * rate
    ...     state = line.init(jax.random.key(0), {"learning_rate": rate}, data.in_order(0))
    ...     state = state._replace(params={"weight": jnp.ones((1, 1))})
    ...     state, _ = unroll(line, 3)(state, data)
    ...     return state.params["weight"][0, 0] - 2.0
    >>> [float(x) for x in jax.value_and_grad(error)(0.25)]         # -(1 - 2r)^3, 6 (1 - 2r)^2
    [-0.125, 1.5]

Optimizers that divide by a square root are not differentiable where a gradient has always been 0,
as behind a dead ReLU or a black pixel: the gradient through them is NaN. Use
`optax.adam(rate, eps_root=1e-8)`.
"""

from math import isqrt

import jax
from jax import lax

from jaxnn.checks import kind, positive_integer
from jaxnn.learning._learner import Learner
from jaxnn.loop._run import Batches, empty_window, one_step, trace_step
from jaxnn.typing import Any, Callable


def unroll(learner: Learner, steps: int) -> Callable[[Any, Batches | None], tuple[Any, Any]]:
    """Returns a differentiable function `(state, data) -> (state, window)` that runs the steps.

    Its results equal those of `run` up to rounding, and usually bit for bit.

    The backward pass stores only every n-th state, with n about the square root of `steps`, and
    recomputes the steps in between, one at a time. So memory grows with the square root of the
    steps, in units of one state, and not with the activations of a step. A gradient takes about the
    time of three runs plus their derivatives.

    Args:
      learner: the learner to train.
      steps: the number of steps, a static integer.

    Returns:
      A function `(state, data) -> (state, window)`. `data` is anything with `batch(step)`, such as
      `Resident`; `None` for a learner that generates its own.

    Raises:
      InvalidType: if `learner` is not a `Learner`, or `steps` is traced.
      InvalidValue: if `steps` is not a positive integer.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, section 4;
    https://arxiv.org/abs/1604.06174.
    """
    fix = "Pass learner(network, objective, optimizer)"
    kind("unroll", "learner", learner, Learner, fix=fix)
    steps = positive_integer("unroll", "steps", steps)
    length = isqrt(steps)
    rest = steps % length if length > 1 else steps

    def unrolled(state: Any, data: Batches | None) -> tuple[Any, Any]:
        def step(carry, _):
            return one_step(learner, data, *carry), None

        def part(carry, _):
            return lax.scan(alone, carry, length=length)

        # Inside scan, CSE cannot undo the checkpointing, so prevent_cse is not needed.
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
