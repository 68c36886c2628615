"""Convolutions: the same nodes applied at every place of an image, a signal or a volume.

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
    """Applies `features` nodes to every window: `[batch, *space, c] -> [batch, *space, features]`.

    The number of axes of space is that of the inputs: one for signals, two for images, three for
    volumes. Of `Masked` sequences the first is time, and their empty places count as padding.

    Args:
      features: the number of nodes, or output channels.
      window: the size of the window, one number for all axes of space or one for each.
      strides: the distance between windows.
      padding: `"SAME"`, `"VALID"` (none), or pairs (before, after).
      dilation: the distance between the inputs inside a window.
      groups: channels are divided into so many groups, each with its own nodes.
      bias: whether each node adds a bias.
      scale: multiplies the initial weights, as in `linear`.

    Raises:
      InvalidValue: if a size or `scale` is not positive, features do not divide into the groups,
        or, when traced, channels do not, or the inputs have no axis of space or do not fit.
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
    """Applies `multiplier` nodes to each channel: `[batch, *space, c] -> [..., c * multiplier]`.

    It is `conv` with a group for each channel, with the same arguments and errors; the outputs of a
    channel are side by side. Followed by a layer that mixes the channels, `conv(features, 1)`, it
    is a separable convolution: as wide a view as an ordinary one, for a small part of its weights
    and products.

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


# Of these two forms one is lowered, but both are differentiated: jitted, they are traced once.
_PLACES = ("steps", "pads", "gaps")


@partial(jax.jit, static_argnames=_PLACES)
def _by_shifts(inputs: Any, weight: Any, *, steps, pads, gaps) -> Any:
    """Convolves each channel by a sum of shifted inputs, which compilers make one loop of.

    On CPU it is thirty times as fast as XLA's convolution in groups, and its gradient is not slower
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
        seen = lax.slice(padded, (0, *starts, 0), (batch, *ends, channels), (1, *steps, 1))
        node = weight[place].reshape((1,) * (len(sizes) + 1) + (channels, multiplier))
        total = total + seen.astype(wide)[..., None] * node.astype(wide)
    return total.reshape(batch, *lengths, channels * multiplier).astype(inputs.dtype)


@partial(jax.jit, static_argnames=_PLACES)
def _by_groups(inputs: Any, weight: Any, *, steps, pads, gaps) -> Any:
    """Convolves each channel as a group: a TPU moves a third of the bytes of a sum of shifts."""
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
    """Paints `features` channels by windows: `[batch, *space, c] -> [batch, *larger, features]`.

    Each input paints a window of outputs, and windows that overlap add up: the convolution of
    inputs that are spread apart, with zeros between them. Where a convolution with strides makes an
    image smaller, this makes it larger. Other arguments and errors are those of `conv`.

    Args:
      features: the number of nodes, or output channels.
      window: the size of the window.
      strides: the distance between the windows of neighbouring inputs, in outputs.
      padding: `"SAME"` makes `length * stride` outputs of an axis, `"VALID"` all that some window
        reaches; or pairs (before, after) of zeros beside the inputs, once these are spread apart.
      scale: multiplies the initial weights; 1 keeps the variance of the inputs.

    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016, section
    4, https://arxiv.org/abs/1603.07285. As in Flax, an input paints the window in reverse order.
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
    """Returns pairs (before, after) for inputs that are spread apart, where padding has a name."""
    match padding.upper() if isinstance(padding, str) else padding:
        # Spread apart, n inputs are n * stride - stride + 1 long; a window of k takes k - 1.
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
    """Makes the layer `convolve(inputs, weight) + bias`.

    `nodes(channels)` is the number of groups, and of nodes in all. Where inputs are spread apart,
    only one in `strides` under a window is there, between zeros.
    """
    positive(where, "scale", scale)

    def init(key, inputs):
        space = inputs.ndim - 2
        if space < 1:
            raise InvalidValue(
                where,
                "the inputs have no axis of space",
                got=f"inputs of shape {inputs.shape}",
                expected="[batch, *space, channels]",
                fix="Reshape images to [batch, height, width, channels], grey ones with"
                " images[..., None]",
            )
        channels, (groups, features) = inputs.shape[-1], nodes(inputs.shape[-1])
        multiple(where, "channels", channels, "groups", groups)
        (sizes,) = per_axis(where, space, window=window)
        spread = math.sqrt(math.prod(per_axis(where, space, strides=strides)[0]))
        weight = initial_weight(key, (*sizes, channels // groups, features), scale * spread)
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
                expected=f"[batch, {weight.ndim - 2} axes of space, the weights' channels]",
                fix="Give inputs of the shape that init was given",
            )
        raw = convolve(inputs, weight)
        return raw + params["bias"].reshape((1,) * (raw.ndim - 1) + (-1,)) if bias else raw

    return stateless(apply, init)
