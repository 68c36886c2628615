"""Convolutions: the same nodes applied to every window of an image, a signal or a volume.

>>> import jax, jax.numpy as jnp
>>> def outputs(layer, inputs):
...     params, state = layer.init(jax.random.key(0), inputs)
...     return params["weight"].shape, layer.apply(params, state, inputs)[0].shape
>>> outputs(conv(8, 3, strides=2), jnp.ones((1, 28, 28, 1)))
((3, 3, 1, 8), (1, 14, 14, 8))
>>> outputs(depthwise_conv(3, multiplier=2), jnp.ones((1, 28, 28, 4)))
((3, 3, 1, 8), (1, 28, 28, 8))
>>> outputs(conv_transpose(8, 3, strides=2), jnp.ones((1, 7, 7, 4)))
((3, 3, 4, 8), (1, 14, 14, 8))
"""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.checks import InvalidValue, floating, multiple, positive, positive_integer
from jaxnn.layers._convolve import convolve, dimensions
from jaxnn.layers._linear import at_least_float32, initial_weight
from jaxnn.layers._platforms import by_platform
from jaxnn.layers._windows import Padding, Sizes, over_masked, pad, per_axis, place_windows
from jaxnn.network import Network, describe, stateless
from jaxnn.typing import Any, Callable, Number


def conv(
    features: int,
    window: Sizes,
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    scale: Number = 1.0,
) -> Network:
    """Returns a convolution: `[batch, *space, c] -> [batch, *space, features]`.

    Each of the `features` nodes is applied to every window of the inputs. The inputs determine the
    number of spatial axes: one for signals, two for images, three for volumes. The first spatial
    axis of `Masked` sequences is time; their empty positions count as padding.

    Args:
      features: the number of nodes, or output channels.
      window: the size of the window, one number for all spatial axes or one for each.
      strides: the distance between neighbouring windows.
      padding: `"SAME"`, `"VALID"` (none), or a pair (before, after) for each spatial axis.
      dilation: the distance between neighbouring inputs inside a window.
      groups: the number of groups that the channels are divided into, each with its own nodes.
      bias: whether each node adds a bias, initially 0.
      scale: multiplies the initial weights, as in `linear`; may be traced.

    Raises:
      InvalidValue: if a size or `scale` is not positive, or `groups` does not divide `features`;
        at trace time, if `groups` does not divide the channels, or the inputs have no spatial axis
        or do not fit the weights.
    """
    positive_integer("conv", "features", features)
    positive_integer("conv", "groups", groups)
    multiple("conv", "features", features, "groups", groups)
    per_axis("conv", window=window, strides=strides, dilation=dilation)

    def apply(inputs, weight):
        sizes = weight.shape[:-2]
        _, steps, pads, gaps = place_windows("conv", inputs, sizes, strides, padding, dilation)
        return convolve(inputs, weight, steps, pads, (1,) * len(sizes), gaps, groups)

    layer = _layer("conv", window, bias, scale, apply, lambda channels: (groups, features))
    layer = over_masked(layer, "conv", window, strides, padding, dilation)
    return describe(layer, "conv", features=features, window=window)


def depthwise_conv(
    window: Sizes,
    *,
    multiplier: int = 1,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    bias: bool = True,
    scale: Number = 1.0,
) -> Network:
    """Returns a depthwise convolution: `[batch, *space, c] -> [batch, *space, c * multiplier]`.

    Each channel has `multiplier` nodes of its own, whose outputs are adjacent. The layer equals
    `conv` with one group for each channel; the other arguments and errors are those of `conv`.
    Followed by `conv(features, 1)`, which mixes the channels, it is a depthwise separable
    convolution, with a small fraction of the weights and operations of an ordinary one.

    Source: Howard et al., MobileNets, 2017, section 3.1, https://arxiv.org/abs/1704.04861.
    """
    positive_integer("depthwise_conv", "multiplier", multiplier)
    per_axis("depthwise_conv", window=window, strides=strides, dilation=dilation)

    def apply(inputs, weight):
        _, steps, pads, gaps = place_windows(
            "depthwise_conv", inputs, weight.shape[:-2], strides, padding, dilation
        )
        given = {"steps": steps, "pads": pads, "gaps": gaps}
        return by_platform(
            inputs, weight, cpu=partial(_by_shifts, **given), default=partial(_by_groups, **given)
        )

    def nodes(channels):
        return channels, channels * multiplier

    layer = _layer("depthwise_conv", window, bias, scale, apply, nodes)
    layer = over_masked(layer, "depthwise_conv", window, strides, padding, dilation)
    return describe(layer, "depthwise_conv", window=window, multiplier=multiplier)


# One of the two implementations is lowered, but both are differentiated: jit traces each once.
_STATIC = ("steps", "pads", "gaps")


@partial(jax.jit, static_argnames=_STATIC)
def _by_shifts(inputs: Any, weight: Any, *, steps, pads, gaps) -> Any:
    """Convolves each channel as a sum of shifted inputs, which XLA fuses into one loop.

    On CPU this is thirty times as fast as XLA's grouped convolution, and its gradient is not slower
    inside a loop.
    """
    padded, wide = pad(inputs, pads), at_least_float32(inputs.dtype)
    sizes, batch, channels = weight.shape[:-2], inputs.shape[0], inputs.shape[-1]
    multiplier = weight.shape[-1] // channels
    axes = [*zip(padded.shape[1:], sizes, steps, gaps)]
    lengths = [(length - (size - 1) * gap - 1) // step + 1 for length, size, step, gap in axes]
    total = jnp.zeros((batch, *lengths, channels, multiplier), wide)
    for place in itertools.product(*map(range, sizes)):
        starts = [at * gap for at, gap in zip(place, gaps)]
        ends = [s + (n - 1) * step + 1 for s, n, step in zip(starts, lengths, steps)]
        shifted = lax.slice(padded, (0, *starts, 0), (batch, *ends, channels), (1, *steps, 1))
        node = weight[place].reshape((1,) * (len(sizes) + 1) + (channels, multiplier))
        total = total + shifted.astype(wide)[..., None] * node.astype(wide)
    return total.reshape(batch, *lengths, channels * multiplier).astype(inputs.dtype)


@partial(jax.jit, static_argnames=_STATIC)
def _by_groups(inputs: Any, weight: Any, *, steps, pads, gaps) -> Any:
    """Convolves each channel as a group, which moves a third of the bytes of the shifts on TPU."""
    return lax.conv_general_dilated(
        inputs, weight, steps, pads, None, gaps, dimensions(inputs.ndim), inputs.shape[-1]
    )


def conv_transpose(
    features: int,
    window: Sizes,
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    bias: bool = True,
    scale: Number = 1.0,
) -> Network:
    """Returns a transposed convolution: `[batch, *space, c] -> [batch, *larger, features]`.

    Each input adds a multiple of the window to the outputs, and overlapping windows add up: the
    layer convolves its inputs with `strides - 1` zeros inserted between them. It enlarges an image
    where a convolution with strides reduces it. Other arguments and errors are those of `conv`.

    Args:
      features: the number of nodes, or output channels.
      window: the size of the window, one number for all spatial axes or one for each.
      strides: the distance in outputs between the windows of neighbouring inputs.
      padding: `"SAME"` gives `length * stride` outputs along an axis, `"VALID"` all outputs that a
        window reaches; or pairs (before, after) of zeros beside the inputs with inserted zeros.
      scale: multiplies the initial weights; 1 preserves the variance of the inputs.

    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016, section
    4, https://arxiv.org/abs/1603.07285. As in Flax, each input adds the window in reverse order.
    """
    positive_integer("conv_transpose", "features", features)
    per_axis("conv_transpose", window=window, strides=strides)

    def apply(inputs, weight):
        sizes, ones = weight.shape[:-2], (1,) * (weight.ndim - 2)
        (steps,) = per_axis("conv_transpose", len(sizes), strides=strides)
        pads = _transposed_padding(padding, sizes, steps)
        _, _, pads, _ = place_windows("conv_transpose", inputs, sizes, 1, pads, spread=steps)
        return convolve(inputs, weight, ones, pads, steps, ones, 1)

    def nodes(channels):
        return 1, features

    layer = _layer("conv_transpose", window, bias, scale, apply, nodes, strides)
    return describe(layer, "conv_transpose", features=features, window=window, strides=strides)


def _transposed_padding(padding: Padding, window: Any, strides: Any) -> Padding:
    """Returns pairs (before, after) for named padding of inputs with inserted zeros."""
    match padding.upper() if isinstance(padding, str) else padding:
        # n inputs and their zeros are n * stride - stride + 1 long; a window of k removes k - 1.
        case "VALID":
            return [(k - 1, max(k, s) - 1) for k, s in zip(window, strides)]
        case "SAME":
            befores = [k - 1 if s >= k else (k + s - 1) // 2 for k, s in zip(window, strides)]
            return [(b, k + s - 2 - b) for b, k, s in zip(befores, window, strides)]
    return padding


def _layer(
    where: str,
    window: Sizes,
    bias: bool,
    scale: Number,
    convolve: Callable[[Any, Any], Any],
    nodes: Callable[[int], tuple[int, int]],
    strides: Sizes = 1,
) -> Network:
    """Returns the layer `convolve(inputs, weight) + bias`.

    `nodes(channels)` returns the number of groups and the total number of nodes. `strides` are
    those of a transposed convolution, whose windows cover one input and zeros in every `strides`.
    """
    positive(where, "scale", scale)

    def init(key, inputs):
        space = inputs.ndim - 2
        if space < 1:
            raise InvalidValue(
                where,
                "the inputs have no spatial axis",
                got=f"inputs of shape {inputs.shape}",
                expected="[batch, *space, channels]",
                fix="Reshape images to [batch, height, width, channels], grey ones with"
                " images[..., None]",
            )
        channels, (groups, features) = inputs.shape[-1], nodes(inputs.shape[-1])
        multiple(where, "channels", channels, "groups", groups)
        (sizes,) = per_axis(where, space, window=window)
        gain = math.sqrt(math.prod(per_axis(where, space, strides=strides)[0]))
        weight = initial_weight(key, (*sizes, channels // groups, features), scale * gain)
        return {"weight": weight} | ({"bias": jnp.zeros(features, jnp.float32)} if bias else {})

    def apply(params, inputs):
        floating(where, inputs)
        weight, channels = params["weight"], inputs.shape[-1]
        groups, features = nodes(channels)
        fits = (groups * weight.shape[-2], weight.shape[-1]) == (channels, features)
        if inputs.ndim != weight.ndim or not fits:
            raise InvalidValue(
                where,
                "the inputs do not fit the weights",
                got=f"inputs of shape {inputs.shape} and weight of shape {weight.shape}",
                expected=f"[batch, {weight.ndim - 2} spatial axes, the weights' channels]",
                fix="Pass inputs of the shape that init was called with",
            )
        raw = convolve(inputs, weight)
        return raw + params["bias"].reshape((1,) * (raw.ndim - 1) + (-1,)) if bias else raw

    return stateless(apply, init)
