"""Convolution: the same nodes applied at every place of an image, a signal or a volume.

XLA runs the *gradients* of a convolution 5 to 25 times slower inside a loop than outside on CPU
(https://github.com/jax-ml/jax/issues/12868): it writes them as convolutions with unusual orders of
axes, and brings those into the form of its fast kernel only outside loops. A whole training run is
a loop. So `convolve` carries its own gradient rule: both gradients are again ordinary convolutions
(batch, space, channels), over operands transposed by hand. They are calls of `convolve` itself, and
so have the same rule: differentiating twice works.

    >>> import jax, jax.numpy as jnp
    >>> layer = conv(8, 3, strides=2)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))
    >>> layer.apply(params, state, jnp.ones((1, 28, 28, 1)))[0].shape
    (1, 14, 14, 8)
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.checks import InvalidValue, floating, positive_integer
from jaxnn.layers._linear import initial_weight
from jaxnn.network import Network, describe, stateless
from jaxnn.typing import Any, Number

Sizes = int | Sequence[int]
Padding = str | Sequence[tuple[int, int]]


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
    volumes.

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
      InvalidValue: if a size is not positive, or, when traced, if the channels do not divide into
        the groups or the inputs have no axis of space.
    """
    positive_integer("conv", "features", features)
    positive_integer("conv", "groups", groups)
    for name, sizes in (("window", window), ("strides", strides), ("dilation", dilation)):
        per_axis("conv", name, sizes)

    def init(key, inputs):
        space, channels = inputs.ndim - 2, inputs.shape[-1]
        if space < 1 or channels % groups or features % groups:
            raise InvalidValue(
                "conv",
                "inputs, features and groups do not fit together",
                got=f"inputs of shape {inputs.shape}, features={features}, groups={groups}",
                expected="[batch, *space, channels], channels and features divisible by groups",
                fix="Reshape images to [batch, height, width, channels], grey ones with"
                " images[..., None]",
            )
        shape = (*per_axis("conv", "window", window, space), channels // groups, features)
        params = {"weight": initial_weight(key, shape, scale)}
        return params | ({"bias": jnp.zeros(features, jnp.float32)} if bias else {})

    def apply(params, inputs):
        floating("conv", inputs)
        weight = params["weight"]
        space = weight.ndim - 2
        if inputs.ndim != weight.ndim or inputs.shape[-1] != weight.shape[-2] * groups:
            raise InvalidValue(
                "conv",
                "the inputs do not fit the weights",
                got=f"inputs of shape {inputs.shape} and weight of shape {weight.shape}",
                expected=f"[batch, {space} axes of space, {weight.shape[-2] * groups} channels]",
                fix="Give inputs of the shape that init was given",
            )
        steps = per_axis("conv", "strides", strides, space)
        gaps = per_axis("conv", "dilation", dilation, space)
        pads = explicit_padding(
            "conv", padding, inputs.shape[1:-1], weight.shape[:space], steps, gaps
        )
        for length, size, gap, pair in zip(inputs.shape[1:-1], weight.shape, gaps, pads):
            check_fit("conv", length + sum(pair), (size - 1) * gap + 1, inputs)
        raw = convolve(inputs, weight, steps, pads, (1,) * space, gaps, groups)
        return raw + params["bias"].reshape((1,) * (space + 1) + (features,)) if bias else raw

    return describe(stateless(apply, init), "conv", features=features, window=window)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5, 6))
def convolve(inputs, weight, strides, padding, input_dilation, dilation, groups):
    """Convolves `[batch, *space, c]` with `[*window, c / groups, features]`.

    `strides`, `input_dilation` and `dilation` (of the window) are tuples with a number for each
    axis of space, `padding` a tuple of pairs. Reverse-mode differentiable any number of times; for
    forward mode use `lax.conv_general_dilated`.
    """
    return lax.conv_general_dilated(
        inputs,
        weight,
        strides,
        padding,
        input_dilation,
        dilation,
        dimension_numbers=_dimensions(inputs.ndim),
        feature_group_count=groups,
    )


def _convolve_forward(inputs, weight, *sizes):
    return convolve(inputs, weight, *sizes), (inputs, weight)


def _convolve_backward(strides, padding, input_dilation, dilation, groups, residuals, grads):
    inputs, weight = residuals
    space = inputs.ndim - 2
    axes = range(space)
    window = weight.shape[:space]
    reach = [(window[i] - 1) * dilation[i] for i in axes]
    lengths = [(inputs.shape[1 + i] - 1) * input_dilation[i] + 1 for i in axes]
    grown = [(grads.shape[1 + i] - 1) * strides[i] + 1 for i in axes]
    befores = [before for before, _ in padding]

    # Inputs: the gradients, as far apart as the strides, with the flipped, channel-swapped weights.
    low = [reach[i] - befores[i] for i in axes]
    high = [lengths[i] - grown[i] - low[i] + reach[i] for i in axes]
    inputs_grads = convolve(
        grads, _swap_channels(weight, groups), input_dilation, _pairs(low, high), strides,
        dilation, groups,
    )  # fmt: skip

    # Weights: the inputs with the gradients as a window, channels instead of the batch.
    high = [grown[i] + reach[i] - lengths[i] - befores[i] for i in axes]
    weight_grads: Any = convolve(
        _swap_batch(inputs, groups), jnp.moveaxis(grads, 0, -2), dilation, _pairs(befores, high),
        input_dilation, strides, groups,
    )  # fmt: skip
    return inputs_grads, jnp.moveaxis(weight_grads, 0, -2)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _pairs(low, high):
    return tuple(zip(low, high))


def _swap_channels(weight, groups):
    """Flips the window; `[*window, c / g, features] -> [*window, features / g, c]`."""
    *window, channels, features = weight.shape
    flipped = jnp.flip(weight, range(len(window)))
    flipped = flipped.reshape(*window, channels, groups, features // groups)
    return jnp.moveaxis(flipped, -1, -3).swapaxes(-1, -2).reshape(
        *window, features // groups, groups * channels
    )  # fmt: skip


def _swap_batch(inputs, groups):
    """Exchanges batch and channels, `[n, *space, c] -> [c / g, *space, g * n]`."""
    n, *space, channels = inputs.shape
    split = inputs.reshape(n, *space, groups, channels // groups)
    split = jnp.moveaxis(jnp.moveaxis(split, -1, 0), 1, -1)
    return split.reshape(channels // groups, *space, groups * n)


def _dimensions(rank: int) -> tuple[str, str, str]:
    space = "DHW"[-(rank - 2) :]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def conv_general_dilated(
    lhs,
    rhs,
    window_strides,
    padding,
    lhs_dilation=None,
    rhs_dilation=None,
    dimension_numbers=None,
    feature_group_count=1,
    batch_group_count=1,
    precision=None,
    preferred_element_type=None,
    out_sharding=None,
):
    """Is `lax.conv_general_dilated` with the gradient rule of `convolve`, for other libraries.

    Flax takes it as `nnx.Conv(..., conv_general_dilated=jaxnn.layers.conv_general_dilated)`; the
    model then trains at full speed in a loop on CPU. Only the usual order of axes (batch, space,
    channels), one batch group and the default precision get the rule; all else goes to `lax`.
    """
    rank = lhs.ndim
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ours = lax.conv_dimension_numbers(lhs.shape, rhs.shape, _dimensions(rank))
    special = batch_group_count != 1 or precision is not None or preferred_element_type is not None
    # Padding of another name, or by name for inputs that are dilated, is for lax to judge.
    dilated = any(gap != 1 for gap in lhs_dilation or ())
    named = isinstance(padding, str) and (dilated or padding.upper() not in ("SAME", "VALID"))
    if numbers != ours or special or named or out_sharding is not None:
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
            feature_group_count, batch_group_count, precision, preferred_element_type, out_sharding,
        )  # fmt: skip
    ones = (1,) * (rank - 2)
    gaps = tuple(rhs_dilation or ones)
    pads = explicit_padding(
        "conv_general_dilated", padding, lhs.shape[1:-1], rhs.shape[:-2], window_strides, gaps
    )
    return convolve(
        lhs, rhs, tuple(window_strides), pads, tuple(lhs_dilation or ones), gaps,
        feature_group_count,
    )  # fmt: skip


def per_axis(where: str, name: str, sizes: Sizes, space: int | None = None) -> tuple[int, ...]:
    """Returns a size for each axis of space; raises `InvalidValue` unless all are positive.

    Without `space`, which only the inputs tell, any number of sizes will do.
    """
    given = tuple(sizes) if isinstance(sizes, Sequence) else (sizes,) * (space or 1)
    checked = tuple(positive_integer(where, name, size) for size in given)
    if space and len(checked) != space:
        raise InvalidValue(
            where,
            f"{name} does not fit the inputs",
            got=f"{name}={sizes!r} for {space} axes of space",
            expected="one number, or one for each axis of space",
            fix=f"Pass {name}={(1,) * space}, with your sizes",
        )
    return checked


def check_fit(where: str, length: int, window: int, inputs) -> None:
    """Raises `InvalidValue` if a window is larger than the (padded) length of an axis."""
    if length < window:
        raise InvalidValue(
            where,
            "no window fits in the inputs",
            got=f"a window that reaches over {window} and inputs of shape {inputs.shape}",
            expected="windows no larger than the (padded) inputs",
            fix="Choose a smaller window, or padding='SAME'",
        )


def explicit_padding(
    where: str, padding: Padding, space, window, strides, dilation
) -> tuple[tuple[int, int], ...]:
    """Returns pairs (before, after) for `"SAME"`, `"VALID"` or the pairs themselves."""
    if isinstance(padding, str) and padding.upper() in ("SAME", "VALID"):
        reach = [(size - 1) * gap + 1 for size, gap in zip(window, dilation)]
        pairs = lax.padtype_to_pads(space, reach, strides, padding.upper())
    else:
        pairs = padding
    try:
        return tuple((int(before), int(after)) for before, after in pairs)  # pyright: ignore
    except (TypeError, ValueError):
        raise InvalidValue(
            where,
            "padding is not understood",
            got=f"padding={padding!r}",
            expected="'SAME', 'VALID' or a pair (before, after) for each axis of space",
            fix="Pass padding='SAME'",
        ) from None
