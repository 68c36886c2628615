"""Depthwise convolution: every channel is convolved by itself, with windows of its own.

Followed by a layer that mixes the channels, `conv(features, 1)`, it is a separable convolution: as
wide a view as an ordinary one, for a small part of its weights and products.

It is written as a sum of shifted inputs, which compilers make one loop of. On CPU that is thirty
times as fast as XLA's convolution in groups, and its gradient is not slower inside a loop.

>>> import jax, jax.numpy as jnp
>>> layer = depthwise_conv(3, multiplier=2)
>>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 28, 28, 4)))
>>> params["weight"].shape, layer.apply(params, state, jnp.ones((1, 28, 28, 4)))[0].shape
((3, 3, 1, 8), (1, 28, 28, 8))
"""

import itertools

import jax.numpy as jnp
from jax import lax

from jaxnn.checks import InvalidValue, floating, positive, positive_integer
from jaxnn.layers._linear import at_least_float32, initial_weight
from jaxnn.layers.convolution import Padding, Sizes, check_fit, explicit_padding, per_axis
from jaxnn.network import Network, describe, stateless
from jaxnn.typing import Number


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

    It is `conv` with a group for each channel; the outputs of a channel are side by side.

    Args:
      window: the size of the window, one number for all axes of space or one for each.
      multiplier: the number of nodes of each channel.
      strides: the distance between windows.
      padding: `"SAME"`, `"VALID"` (none), or pairs (before, after).
      dilation: the distance between the inputs inside a window.
      bias: whether each node adds a bias.
      scale: multiplies the initial weights, as in `linear`.

    Raises:
      InvalidValue: if a size is not positive, or, when traced, if the inputs have no axis of space
        or another number of channels than the weights.

    Source: Howard et al., MobileNets, 2017, section 3.1, https://arxiv.org/abs/1704.04861.
    """
    positive_integer("depthwise_conv", "multiplier", multiplier)
    positive("depthwise_conv", "scale", scale)
    for name, sizes in (("window", window), ("strides", strides), ("dilation", dilation)):
        per_axis("depthwise_conv", name, sizes)

    def init(key, inputs):
        space, features = inputs.ndim - 2, inputs.shape[-1] * multiplier
        if space < 1:
            raise InvalidValue(
                "depthwise_conv",
                "the inputs have no axis of space",
                got=f"inputs of shape {inputs.shape}",
                expected="[batch, *space, channels]",
                fix="Reshape images to [batch, height, width, channels], grey ones with"
                " images[..., None]",
            )
        shape = (*per_axis("depthwise_conv", "window", window, space), 1, features)
        params = {"weight": initial_weight(key, shape, scale)}
        return params | ({"bias": jnp.zeros(features, jnp.float32)} if bias else {})

    def apply(params, inputs):
        floating("depthwise_conv", inputs)
        weight = params["weight"]
        space, channels = weight.ndim - 2, weight.shape[-1] // multiplier
        if inputs.ndim != weight.ndim or inputs.shape[-1] != channels:
            raise InvalidValue(
                "depthwise_conv",
                "the inputs do not fit the weights",
                got=f"inputs of shape {inputs.shape} and weight of shape {weight.shape}",
                expected=f"[batch, {space} axes of space, {channels} channels]",
                fix="Give inputs of the shape that init was given",
            )
        sizes = weight.shape[:space]
        steps = per_axis("depthwise_conv", "strides", strides, space)
        gaps = per_axis("depthwise_conv", "dilation", dilation, space)
        pads = explicit_padding("depthwise_conv", padding, inputs.shape[1:-1], sizes, steps, gaps)
        border = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
        padded = lax.pad(inputs, jnp.zeros((), inputs.dtype), border)
        lengths = []
        for length, size, step, gap in zip(padded.shape[1:], sizes, steps, gaps):
            check_fit("depthwise_conv", length, (size - 1) * gap + 1, inputs)
            lengths.append((length - (size - 1) * gap - 1) // step + 1)
        wide = at_least_float32(inputs.dtype)
        total = jnp.zeros((inputs.shape[0], *lengths, channels, multiplier), wide)
        for place in itertools.product(*map(range, sizes)):
            starts = [at * gap for at, gap in zip(place, gaps)]
            ends = [s + (n - 1) * step + 1 for s, n, step in zip(starts, lengths, steps)]
            seen = lax.slice(
                padded, (0, *starts, 0), (inputs.shape[0], *ends, channels), (1, *steps, 1)
            ).astype(wide)
            node = weight[place].reshape((1,) * (space + 1) + (channels, multiplier)).astype(wide)
            total = total + seen[..., None] * node
        raw = total.reshape(*total.shape[:-2], channels * multiplier).astype(inputs.dtype)
        return raw + params["bias"].reshape((1,) * (space + 1) + (-1,)) if bias else raw

    return describe(stateless(apply, init), "depthwise_conv", window=window, multiplier=multiplier)
