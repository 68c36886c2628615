"""The operation behind convolutions, with gradients that are fast inside a loop too.

On CPU, XLA runs the *gradients* of a convolution 5 to 25 times slower inside a loop than outside
(https://github.com/jax-ml/jax/issues/12868): it expresses them as convolutions with unusual axis
orders, which it rewrites for its fast kernel only outside loops. A whole training run is a loop.
`convolve` therefore has its own gradient rule: both gradients are ordinary convolutions (batch,
space, channels) of operands that are transposed explicitly. The rule calls `convolve` itself, so
that it can be differentiated again.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.layers._windows import explicit_padding
from jaxnn.typing import Any


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5, 6))
def convolve(inputs, weight, strides, padding, input_dilation, dilation, groups):
    """Convolves `[batch, *space, c]` with `[*window, c / groups, features]`.

    `strides`, `input_dilation` and `dilation` (of the window) are tuples with one number for each
    spatial axis; `padding` is a tuple of pairs (before, after). It is reverse-mode differentiable
    any number of times; for forward mode use `lax.conv_general_dilated`.
    """
    return lax.conv_general_dilated(
        inputs, weight, strides, padding, input_dilation, dilation, dimensions(inputs.ndim), groups
    )


def _convolve_forward(inputs, weight, *sizes):
    return convolve(inputs, weight, *sizes), (inputs, weight)


def _convolve_backward(strides, padding, input_dilation, dilation, groups, residuals, grads):
    inputs, weight = residuals
    axes = range(inputs.ndim - 2)
    reach = [(weight.shape[i] - 1) * dilation[i] for i in axes]
    lengths = [(inputs.shape[1 + i] - 1) * input_dilation[i] + 1 for i in axes]
    grown = [(grads.shape[1 + i] - 1) * strides[i] + 1 for i in axes]
    befores = [before for before, _ in padding]

    # Inputs: convolve the gradients, dilated by the strides, with flipped, transposed weights.
    low = [reach[i] - befores[i] for i in axes]
    high = [lengths[i] - grown[i] - low[i] + reach[i] for i in axes]
    swapped = _swap_channels(weight, groups)
    inputs_grads = convolve(
        grads, swapped, input_dilation, tuple(zip(low, high)), strides, dilation, groups
    )

    # Weights: convolve the inputs with the gradients as the window; channels act as the batch.
    high = [grown[i] + reach[i] - lengths[i] - befores[i] for i in axes]
    swapped, window = _swap_batch(inputs, groups), jnp.moveaxis(grads, 0, -2)
    weight_grads: Any = convolve(
        swapped, window, dilation, tuple(zip(befores, high)), input_dilation, strides, groups
    )
    return inputs_grads, jnp.moveaxis(weight_grads, 0, -2)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _swap_channels(weight, groups):
    """Flips the window; `[*window, c / g, features] -> [*window, features / g, c]`."""
    *window, channels, features = weight.shape
    flipped = jnp.flip(weight, range(len(window)))
    flipped = flipped.reshape(*window, channels, groups, features // groups)
    flipped = jnp.moveaxis(flipped, -1, -3).swapaxes(-1, -2)
    return flipped.reshape(*window, features // groups, groups * channels)


def _swap_batch(inputs, groups):
    """Exchanges batch and channels, `[n, *space, c] -> [c / g, *space, g * n]`."""
    n, *space, channels = inputs.shape
    split = inputs.reshape(n, *space, groups, channels // groups)
    split = jnp.moveaxis(jnp.moveaxis(split, -1, 0), 1, -1)
    return split.reshape(channels // groups, *space, groups * n)


def dimensions(rank: int) -> tuple[str, str, str]:
    """Returns the `lax` dimension numbers of inputs, weights and outputs of a rank."""
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
    **options,
):
    """Computes `lax.conv_general_dilated`, with the gradient rule of `convolve`.

    It is meant for other libraries: with
    `nnx.Conv(..., conv_general_dilated=jaxnn.layers.conv_general_dilated)`, a Flax model trains at
    full speed in a loop on CPU. Arguments are those of `lax.conv_general_dilated`. The rule applies
    to the usual axis order (batch, space, channels), one batch group and the default precision;
    other calls are passed on to `lax`, as they are.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ours = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimensions(lhs.ndim))
    special = any(option not in (None, 1) for option in options.values())
    # lax interprets other named paddings, and named padding of dilated inputs.
    dilated = any(gap != 1 for gap in lhs_dilation or ())
    named = isinstance(padding, str) and (dilated or padding.upper() not in ("SAME", "VALID"))
    if numbers != ours or special or named:
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
            feature_group_count, **options,
        )  # fmt: skip
    ones, strides = (1,) * (lhs.ndim - 2), tuple(window_strides)
    spread, gaps = tuple(lhs_dilation or ones), tuple(rhs_dilation or ones)
    sizes = lhs.shape[1:-1], rhs.shape[:-2], strides, gaps
    pads = explicit_padding("conv_general_dilated", padding, *sizes)
    return convolve(lhs, rhs, strides, pads, spread, gaps, feature_group_count)
