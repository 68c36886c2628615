"""Transposed convolution: each input paints a window of outputs, and windows that overlap add up.

It is the ordinary convolution of inputs that are spread apart, with zeros between them: where a
convolution with strides makes an image smaller, this makes it larger.

>>> import jax, jax.numpy as jnp
>>> layer = conv_transpose(8, 3, strides=2)
>>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 7, 7, 4)))
>>> layer.apply(params, state, jnp.ones((1, 7, 7, 4)))[0].shape
(1, 14, 14, 8)
"""

import math

import jax.numpy as jnp

from jaxnn.checks import InvalidValue, floating, positive, positive_integer
from jaxnn.layers._linear import initial_weight
from jaxnn.layers.convolution import (
    Padding,
    Sizes,
    check_fit,
    convolve,
    explicit_padding,
    per_axis,
)
from jaxnn.network import Network, describe, stateless
from jaxnn.typing import Number


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

    Args:
      features: the number of nodes, or output channels.
      window: the size of the window, one number for all axes of space or one for each.
      strides: the distance between the windows of neighbouring inputs, in outputs.
      padding: `"SAME"` makes `length * stride` outputs of an axis, `"VALID"` all that some window
        reaches; or pairs (before, after) of zeros beside the inputs, once these are spread apart.
      bias: whether each node adds a bias.
      scale: multiplies the initial weights; 1 keeps the variance of the inputs, as in `linear`.

    Raises:
      InvalidValue: if a size is not positive, or, when traced, if the inputs have no axis of space
        or do not fit the weights.

    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016, section
    4, https://arxiv.org/abs/1603.07285. As in Flax, an input paints the window in reverse order.
    """
    positive_integer("conv_transpose", "features", features)
    positive("conv_transpose", "scale", scale)
    for name, sizes in (("window", window), ("strides", strides)):
        per_axis("conv_transpose", name, sizes)

    def init(key, inputs):
        space = inputs.ndim - 2
        if space < 1:
            raise InvalidValue(
                "conv_transpose",
                "the inputs have no axis of space",
                got=f"inputs of shape {inputs.shape}",
                expected="[batch, *space, channels]",
                fix="Reshape images to [batch, height, width, channels], grey ones with"
                " images[..., None]",
            )
        shape = (*per_axis("conv_transpose", "window", window, space), inputs.shape[-1], features)
        # Of the inputs under a window only one in `strides` is there, between zeros.
        sparsity = math.prod(per_axis("conv_transpose", "strides", strides, space))
        params = {"weight": initial_weight(key, shape, scale * math.sqrt(sparsity))}
        return params | ({"bias": jnp.zeros(features, jnp.float32)} if bias else {})

    def apply(params, inputs):
        floating("conv_transpose", inputs)
        weight = params["weight"]
        space = weight.ndim - 2
        if inputs.ndim != weight.ndim or inputs.shape[-1] != weight.shape[-2]:
            raise InvalidValue(
                "conv_transpose",
                "the inputs do not fit the weights",
                got=f"inputs of shape {inputs.shape} and weight of shape {weight.shape}",
                expected=f"[batch, {space} axes of space, {weight.shape[-2]} channels]",
                fix="Give inputs of the shape that init was given",
            )
        ones = (1,) * space
        steps = per_axis("conv_transpose", "strides", strides, space)
        pads = _padding(padding, weight.shape[:space], steps)
        for length, size, step, pair in zip(inputs.shape[1:-1], weight.shape, steps, pads):
            check_fit("conv_transpose", (length - 1) * step + 1 + sum(pair), size, inputs)
        raw = convolve(inputs, weight, ones, pads, steps, ones, 1)
        return raw + params["bias"].reshape((1,) * (space + 1) + (features,)) if bias else raw

    return describe(
        stateless(apply, init), "conv_transpose", features=features, window=window, strides=strides
    )


def _padding(padding: Padding, window, strides) -> tuple[tuple[int, int], ...]:
    """Returns pairs (before, after) of padding for inputs that are spread apart."""
    # Spread apart, n inputs are n * stride - stride + 1 long, of which a window of k takes k - 1.
    name = padding.upper() if isinstance(padding, str) else None
    if name in ("SAME", "VALID"):
        more = [max(k - s, 0) if name == "VALID" else 0 for k, s in zip(window, strides)]
        total = [k + s - 2 + m for k, s, m in zip(window, strides, more)]
        first = [
            k - 1 if name == "VALID" or s >= k else -(-t // 2)
            for k, s, t in zip(window, strides, total)
        ]
        return tuple((low, t - low) for low, t in zip(first, total))
    ones = (1,) * len(window)
    return explicit_padding("conv_transpose", padding, ones, window, strides, ones)
