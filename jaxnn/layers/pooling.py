"""Pooling: the maximum or the mean of each window of the inputs, or of a whole sequence.

>>> import jax.numpy as jnp
>>> image = jnp.arange(16.0).reshape(1, 4, 4, 1)
>>> max_pool(2).apply({}, {}, image)[0][0, :, :, 0].tolist()
[[5.0, 7.0], [13.0, 15.0]]
>>> avg_pool(2).apply({}, {}, image)[0][0, :, :, 0].tolist()
[[2.5, 4.5], [10.5, 12.5]]
>>> sequences = jnp.array([[1.0, 3.0, 0.0], [4.0, 0.0, 0.0]])[..., None]
>>> over_time("mean").apply({}, {}, Masked.from_lengths(sequences, jnp.array([2, 1])))[0].tolist()
[[2.0], [4.0]]
"""

import functools
import math
import operator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn.checks import InvalidValue, choice, floating
from jaxnn.layers._platforms import by_platform
from jaxnn.layers._windows import Padding, Sizes, over_masked, pad, per_axis, place_windows
from jaxnn.masked import Masked, values_of
from jaxnn.network import Network, Parts, describe, stateless
from jaxnn.typing import Any


def max_pool(window: Sizes, *, strides: Sizes | None = None, padding: Padding = "VALID") -> Network:
    """Returns max pooling: `[batch, *space, c] -> [batch, *smaller, c]`.

    Each output is the maximum of a window of one channel. Empty positions of `Masked` sequences
    count as padding.

    Args:
      window: the size of the window, one number for all spatial axes or one for each.
      strides: the distance between neighbouring windows; by default the size of the window, so that
        windows do not overlap.
      padding: `"VALID"` (none), `"SAME"`, or a pair (before, after) for each spatial axis. Padding
        is never the maximum.

    Raises:
      InvalidValue: if a size is not positive; at trace time, if the window exceeds the inputs.
    """
    return _pool("max_pool", window, strides, padding)


def avg_pool(window: Sizes, *, strides: Sizes | None = None, padding: Padding = "VALID") -> Network:
    """Returns average pooling: `[batch, *space, c] -> [batch, *smaller, c]`.

    Each output is the mean of a window of one channel. Padding counts as zeros, as by default in
    Flax. The arguments and errors are those of `max_pool`.
    """
    return _pool("avg_pool", window, strides, padding)


def _pool(kind, window, strides, padding):
    strides = window if strides is None else strides
    per_axis(kind, window=window, strides=strides)

    def apply(params, inputs):
        floating(kind, inputs)
        sizes, steps, pads, _ = place_windows(kind, inputs, window, strides, padding)
        given = {"kind": kind, "sizes": sizes, "steps": steps, "pads": pads}
        return by_platform(
            inputs, cpu=partial(_by_slices, **given), default=partial(_by_windows, **given)
        )

    empty = -jnp.inf if kind == "max_pool" else 0.0
    layer = over_masked(stateless(apply), kind, window, strides, padding, empty=empty)
    return describe(layer, kind, window=window)


# One of the two implementations is lowered, but both are differentiated: jit traces each once.
_STATIC = ("kind", "sizes", "steps", "pads")


@partial(jax.jit, static_argnames=_STATIC)
def _by_slices(x: Any, *, kind: str, sizes, steps, pads) -> Any:
    """Pools one axis after another, by combining shifted slices.

    On CPU, a training step of a small convnet takes half as long as with `lax.reduce_window`.
    """
    merge, neutral = (jnp.maximum, -jnp.inf) if kind == "max_pool" else (operator.add, 0.0)
    x = pad(x, pads, neutral)
    for axis, (size, step) in enumerate(zip(sizes, steps), start=1):
        last = x.shape[axis] - size
        slices = [lax.slice_in_dim(x, start, last + start + 1, step, axis) for start in range(size)]
        x = functools.reduce(merge, slices)
        x = x / size if kind == "avg_pool" else x
    return x


@partial(jax.jit, static_argnames=_STATIC)
def _by_windows(x: Any, *, kind: str, sizes, steps, pads) -> Any:
    """Pools by `lax.reduce_window`, which moves a quarter of the bytes of the slices on TPU.

    The gradient of equal maxima goes to the first of them; in `_by_slices` they share it.
    """
    reducer, neutral = (lax.max, -np.inf) if kind == "max_pool" else (lax.add, 0.0)
    ends = ((0, 0), *pads, (0, 0))
    first = np.asarray(neutral, x.dtype)
    x = lax.reduce_window(x, first, reducer, (1, *sizes, 1), (1, *steps, 1), ends)
    return x / math.prod(sizes) if kind == "avg_pool" else x


def over_time(how: str = "mean") -> Network:
    """Returns a layer that reduces the time axis: `[batch, time, ...] -> [batch, ...]`.

    Padding of `Masked` sequences is ignored; a sequence that is all padding yields zeros.

    Args:
      how: `"mean"`, `"sum"`, `"max"`, or `"first"` or `"last"` for the values at that position.

    Raises:
      InvalidValue: if `how` is unknown; at trace time, if the inputs have no time axis, or a row
        holds several sequences.
    """
    choice("over_time", "how", how, _OVER_TIME)

    def apply(params, state, inputs, *, key=None):
        x = values_of(inputs)
        segments = isinstance(inputs, Masked) and inputs.segments is not None
        if x.ndim < 2 or segments:
            raise InvalidValue(
                "over_time",
                "a row holds several sequences" if segments else "the inputs have no time axis",
                got="Masked inputs with segments" if segments else f"inputs of shape {x.shape}",
                expected="one sequence in each row, [batch, time, ...]",
                fix="Pad the sequences, each in its own row, instead of packing them"
                if segments
                else "Use over_time where the inputs still have a time axis",
            )
        if isinstance(inputs, Masked):
            mask = inputs.mask.reshape(inputs.mask.shape + (1,) * (x.ndim - 2))
            return _OVER_TIME[how](x, mask), state
        return _OVER_TIME[how](x, None), state

    return Network(lambda key, inputs: ({}, {}), apply, Parts("over_time", (("how", how),)))


def _mean(x: Any, mask: Any) -> Any:
    if mask is None:
        return x.mean(1)
    return x.sum(1) / jnp.maximum(mask.sum(1), 1).astype(x.dtype)


def _max(x: Any, mask: Any) -> Any:
    if mask is None:
        return x.max(1)
    lowest = (
        jnp.finfo(x.dtype).min if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    )
    most = jnp.where(mask, x, lowest).max(1)
    return jnp.where(mask.any(1), most, jnp.zeros_like(most))


def _at(edge: int) -> Any:
    def pick(x, mask):
        if mask is None:
            return x[:, edge]
        index = jnp.argmax(mask if edge == 0 else mask[:, ::-1], axis=1, keepdims=True)
        place = index if edge == 0 else x.shape[1] - 1 - index
        # All values of a sequence that is all padding are 0, so any position will do.
        return jnp.take_along_axis(x, place, axis=1)[:, 0]

    return pick


_OVER_TIME = {
    "mean": _mean,
    "sum": lambda x, mask: x.sum(1),
    "max": _max,
    "first": _at(0),
    "last": _at(-1),
}
