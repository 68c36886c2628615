"""Where windows lie on the axes of space: sizes, strides, padding and dilation."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from jaxnn.checks import InvalidValue, positive_integer
from jaxnn.typing import Any

Sizes = int | Sequence[int]
Padding = str | Sequence[tuple[int, int]]
Pairs = tuple[tuple[int, int], ...]


def per_axis(where: str, space: int | None = None, **sizes: Sizes) -> list[tuple[int, ...]]:
    """Returns each of the named sizes for every axis of space; raises unless all are positive.

    Before the inputs are known there is no `space`, and any number of sizes will do.
    """
    checked = []
    for name, size in sizes.items():
        given = size if isinstance(size, Sequence) else (size,) * (space or 1)
        checked.append(tuple(positive_integer(where, name, each) for each in given))
        if space and len(given) != space:
            raise InvalidValue(
                where,
                f"{name} does not fit the inputs",
                got=f"{name}={size!r} for {space} axes of space",
                expected="one number, or one for each axis of space",
                fix=f"Pass {name}={(1,) * space}, with your sizes",
            )
    return checked


def place_windows(
    where: str,
    inputs: Any,
    window: Sizes,
    strides: Sizes,
    padding: Padding,
    dilation: Sizes = 1,
    spread: Sizes = 1,
) -> tuple[tuple[int, ...], tuple[int, ...], Pairs, tuple[int, ...]]:
    """Returns window, strides, padding and dilation for each axis of space of `[batch, *space, c]`.

    Neighbouring inputs are `spread` apart. Raises `InvalidValue` if a size does not fit the axes,
    or no window fits in the padded inputs.
    """
    window, strides, dilation, spread = per_axis(
        where, inputs.ndim - 2, window=window, strides=strides, dilation=dilation, spread=spread
    )
    pads = explicit_padding(where, padding, inputs.shape[1:-1], window, strides, dilation)
    reach = [(size - 1) * gap + 1 for size, gap in zip(window, dilation)]
    lengths = [(length - 1) * gap + 1 for length, gap in zip(inputs.shape[1:-1], spread)]
    for length, pair, most in zip(lengths, pads, reach):
        if length + sum(pair) < most:
            raise InvalidValue(
                where,
                "no window fits in the inputs",
                got=f"a window that reaches over {most} and inputs of shape {inputs.shape}",
                expected="windows no larger than the (padded) inputs",
                fix="Choose a smaller window, or padding='SAME'",
            )
    return window, strides, pads, dilation


def explicit_padding(where: str, padding: Padding, space, window, strides, dilation) -> Pairs:
    """Returns pairs (before, after) for `"SAME"`, `"VALID"` or the pairs themselves."""
    if isinstance(padding, str) and padding.upper() in ("SAME", "VALID"):
        reach = [(size - 1) * gap + 1 for size, gap in zip(window, dilation)]
        padding = lax.padtype_to_pads(space, reach, strides, padding.upper())
    try:
        return tuple((int(before), int(after)) for before, after in padding)  # pyright: ignore
    except (TypeError, ValueError):
        raise InvalidValue(
            where,
            "padding is not understood",
            got=f"padding={padding!r}",
            expected="'SAME', 'VALID' or a pair (before, after) for each axis of space",
            fix="Pass padding='SAME'",
        ) from None


def pad(inputs: Any, pads: Pairs, value: float = 0.0) -> Any:
    """Returns the inputs with `value` beside them along each axis of space."""
    border = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    return lax.pad(inputs, jnp.asarray(value, inputs.dtype), border)
