"""Dropout: in training, some numbers are dropped by chance; in inference, none are.

>>> import jax, jax.numpy as jnp
>>> layer = dropout(0.5)
>>> layer.apply({}, {}, jnp.ones((1, 4)))[0].tolist()                   # no key: inference
[[1.0, 1.0, 1.0, 1.0]]
>>> sorted(set(layer.apply({}, {}, jnp.ones((1, 64)), key=jax.random.key(0))[0][0].tolist()))
[0.0, 2.0]
"""

import jax
import jax.numpy as jnp

from jaxnn.checks import rate as check_rate
from jaxnn.network import Network, Parts
from jaxnn.typing import Callable, Number

# 16 random bits decide about a number: half the cost of 32, and a rate is met within 1e-5.
_LEVELS = 1 << 16


def dropout(rate: Number) -> Network:
    """Sets a share of the inputs to zero and divides the rest by `1 - rate`.

    Args:
      rate: the probability of being dropped (not of staying), in [0, 1); rounded to a multiple
        of 2**-16. May be traced.

    Raises:
      InvalidValue: if `rate` is outside [0, 1).

    Source: Srivastava et al., Dropout, JMLR 2014, section 4; scaled in training, as everyone does.
    """
    return _dropping("dropout", rate, lambda shape: shape)


def stochastic_depth(rate: Number) -> Network:
    """Sets a share of the examples to zero and divides the rest by `1 - rate`.

    It goes at the end of the branch inside `residual`: in training each example skips the branch
    with that probability.

    Args:
      rate: the probability of being dropped (not of surviving), as in `dropout`.

    Raises:
      InvalidValue: if `rate` is outside [0, 1).

    Source: Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, section 3,
    https://arxiv.org/abs/1603.09382; there a whole batch is dropped, and inference is scaled.
    """
    return _dropping("stochastic_depth", rate, lambda shape: (*shape[:1], *(1 for _ in shape[1:])))


def _dropping(
    kind: str, rate: Number, alike: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> Network:
    """Drops at random, a decision for each place of a shape that broadcasts to the inputs'."""
    check_rate(kind, "rate", rate)

    def apply(params, state, inputs, *, key=None):
        if key is None or is_zero(rate):
            return inputs, state
        # At least one level remains, so that a traced rate close to 1 does not divide by zero.
        level = jnp.maximum(jnp.round((1.0 - rate) * _LEVELS), 1.0)
        keep = jax.random.bits(key, alike(inputs.shape), jnp.uint16).astype(jnp.float32) < level
        scale = (_LEVELS / level).astype(inputs.dtype)
        return jnp.where(keep, inputs * scale, jnp.zeros_like(inputs)), state

    shown = rate if isinstance(rate, int | float) else "traced"
    return Network(lambda key, inputs: ({}, {}), apply, Parts(kind, (("rate", shown),)))


def is_zero(rate: Number) -> bool:
    """Returns whether a rate is known to be 0, so that dropout at it can be left out."""
    return isinstance(rate, int | float) and rate == 0
