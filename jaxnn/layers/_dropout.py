"""Dropout, which sets random inputs to zero in training and is the identity in inference.

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
from jaxnn.masked import per_place
from jaxnn.network import Network, Parts
from jaxnn.typing import Callable, Number

# 16 random bits per number cost half as much as 32, and round the rate by less than 1e-5.
_LEVELS = 1 << 16


def dropout(rate: Number) -> Network:
    """Returns a layer that zeroes random inputs in training, and divides the rest by `1 - rate`.

    Without a key, in inference, it is the identity. Inputs may have any shape.

    Args:
      rate: the probability of dropping (not of keeping), in [0, 1), rounded to a multiple of
        2**-16. May be traced.

    Raises:
      InvalidValue: if `rate` is outside [0, 1).

    Source: Srivastava et al., Dropout, JMLR 2014, section 4. The paper scales in inference; this
    layer scales in training, as Flax and PyTorch do.
    """
    return _dropout("dropout", rate, lambda shape: shape)


def stochastic_depth(rate: Number) -> Network:
    """Returns a layer that zeroes random examples in training, and divides the rest by `1 - rate`.

    Put it at the end of the branch of a `residual`: in training, each example then skips the
    branch with probability `rate`. Inputs are `[batch, ...]`.

    Args:
      rate: the probability of dropping (not of keeping), as in `dropout`.

    Raises:
      InvalidValue: if `rate` is outside [0, 1).

    Source: Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, section 3,
    https://arxiv.org/abs/1603.09382. The paper drops whole batches, and scales in inference.
    """
    return _dropout("stochastic_depth", rate, lambda shape: (*shape[:1], *(1 for _ in shape[1:])))


def _dropout(
    kind: str, rate: Number, noise_shape: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> Network:
    """Builds a dropout layer whose mask has the shape `noise_shape(inputs.shape)`, broadcast."""
    check_rate(kind, "rate", rate)

    def apply(params, state, inputs, *, key=None):
        if key is None or is_zero(rate):
            return inputs, state
        # At least one level remains, so that a traced rate close to 1 does not divide by zero.
        level = jnp.maximum(jnp.round((1.0 - rate) * _LEVELS), 1.0)
        bits = jax.random.bits(key, noise_shape(inputs.shape), jnp.uint16)
        keep = bits.astype(jnp.float32) < level
        scale = (_LEVELS / level).astype(inputs.dtype)
        return jnp.where(keep, inputs * scale, jnp.zeros_like(inputs)), state

    shown = rate if isinstance(rate, int | float) else "traced"
    return per_place(Network(lambda key, inputs: ({}, {}), apply, Parts(kind, (("rate", shown),))))


def is_zero(rate: Number) -> bool:
    """Returns whether a rate is known to be 0, so that the dropout layer can be left out."""
    return isinstance(rate, int | float) and rate == 0
