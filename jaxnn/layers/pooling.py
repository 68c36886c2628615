"""Pooling: each output is the largest, or the mean, of a window of inputs.

>>> import jax.numpy as jnp
>>> image = jnp.arange(16.0).reshape(1, 4, 4, 1)
>>> max_pool(2).apply({}, {}, image)[0][0, :, :, 0].tolist()
[[5.0, 7.0], [13.0, 15.0]]
>>> avg_pool(2).apply({}, {}, image)[0][0, :, :, 0].tolist()
[[2.5, 4.5], [10.5, 12.5]]
"""

import functools
import operator

import jax.numpy as jnp
from jax import lax

from jaxnn.checks import floating
from jaxnn.layers.convolution import Padding, Sizes, check_fit, explicit_padding, per_axis
from jaxnn.network import Network, describe, stateless


def max_pool(window: Sizes, *, strides: Sizes | None = None, padding: Padding = "VALID") -> Network:
    """Takes the largest number of each window: `[batch, *space, c] -> [batch, *smaller, c]`.

    Args:
      window: its size, one number for all axes of space or one for each.
      strides: the distance of windows; that of the window by default, so that they do not overlap.
      padding: `"VALID"` (none), `"SAME"`, or pairs (before, after). Padding is never the largest.

    Raises:
      InvalidValue: if a size is not positive, or, when traced, if no window fits in the inputs.
    """
    return _pool("max_pool", window, strides, padding, jnp.maximum, -jnp.inf, mean=False)


def avg_pool(window: Sizes, *, strides: Sizes | None = None, padding: Padding = "VALID") -> Network:
    """Takes the mean of each window: `[batch, *space, c] -> [batch, *smaller, c]`.

    Padding counts as zeros in the mean, as in Flax's default. The arguments and errors are those
    of `max_pool`.
    """
    return _pool("avg_pool", window, strides, padding, operator.add, 0.0, mean=True)


def _pool(kind, window, strides, padding, merge, neutral, mean):
    strides = window if strides is None else strides
    per_axis(kind, "window", window)
    per_axis(kind, "strides", strides)

    def apply(params, inputs):
        floating(kind, inputs)
        space = inputs.ndim - 2
        sizes = per_axis(kind, "window", window, space)
        steps = per_axis(kind, "strides", strides, space)
        ones = (1,) * space
        pads = explicit_padding(kind, padding, inputs.shape[1:-1], sizes, steps, ones)
        border = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
        x = lax.pad(inputs, jnp.asarray(neutral, inputs.dtype), border)
        for length, size in zip(x.shape[1:-1], sizes):
            check_fit(kind, length, size, inputs)
        # One axis at a time, as shifted slices: on CPU a gradient step of a small convnet takes
        # half the time that it takes with lax.reduce_window, whose gradient is a scatter.
        for axis, (size, step) in enumerate(zip(sizes, steps), start=1):
            last = x.shape[axis] - size
            slices = [
                lax.slice_in_dim(x, start, last + start + 1, step, axis) for start in range(size)
            ]
            x = functools.reduce(merge, slices)
            x = x / size if mean else x
        return x

    return describe(stateless(apply), kind, window=window)
