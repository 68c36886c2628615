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
from jaxnn.layers._windows import Padding, Sizes, pad, per_axis, place_windows
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
    per_axis(kind, window=window, strides=strides)

    def apply(params, inputs):
        floating(kind, inputs)
        sizes, steps, pads, _ = place_windows(kind, inputs, window, strides, padding)
        x = pad(inputs, pads, neutral)
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
