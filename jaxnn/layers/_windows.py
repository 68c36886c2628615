"""Windows over spatial axes: sizes, strides, padding and dilation.

The first spatial axis of `Masked` inputs is time; their empty positions count as padding.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from jaxnn.checks import InvalidValue, positive_integer
from jaxnn.layers._platforms import is_translated
from jaxnn.masked import Masked, values_of
from jaxnn.network import Network
from jaxnn.typing import Any, Number

Sizes = int | Sequence[int]
Padding = str | Sequence[tuple[int, int]]
Pairs = tuple[tuple[int, int], ...]


def per_axis(where: str, space: int | None = None, **sizes: Sizes) -> list[tuple[int, ...]]:
    """Returns each named size as a tuple with one number for each spatial axis.

    `space` is the number of these axes; without it, any number of sizes is accepted.

    Raises:
      InvalidValue: if a size is not positive, or the number of sizes is not `space`.
    """
    checked = []
    for name, size in sizes.items():
        given = size if isinstance(size, Sequence) else (size,) * (space or 1)
        checked.append(tuple(positive_integer(where, name, each) for each in given))
        if space and len(given) != space:
            raise InvalidValue(
                where,
                f"{name} does not fit the inputs",
                got=f"{name}={size!r} for {space} spatial axes",
                expected="one number, or one for each spatial axis",
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
    """Returns window, strides, padding and dilation for each spatial axis of `[batch, *space, c]`.

    `spread` is the dilation of the inputs, as in a transposed convolution.

    Raises:
      InvalidValue: if a size does not fit the axes, or the window exceeds the padded inputs.
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
                "the window is larger than the inputs",
                got=f"a window of extent {most} and inputs of shape {inputs.shape}",
                expected="a window no larger than the padded inputs",
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
            "padding has the wrong form",
            got=f"padding={padding!r}",
            expected="'SAME', 'VALID' or a pair (before, after) for each spatial axis",
            fix="Pass padding='SAME'",
        ) from None


def pad(inputs: Any, pads: Pairs, value: float = 0.0) -> Any:
    """Pads the spatial axes of the inputs with `value`; a negative number of places crops them."""
    if not any(map(any, pads)):
        return inputs
    if is_translated():  # translators support this form for a symbolic batch size
        return jnp.pad(inputs, ((0, 0), *pads, (0, 0)), constant_values=value)
    border = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    return lax.pad(inputs, jnp.asarray(value, inputs.dtype), border)


def over_masked(
    network: Network,
    where: str,
    window: Sizes,
    strides: Sizes,
    padding: Padding,
    dilation: Sizes = 1,
    empty: Number = 0.0,
) -> Network:
    """Returns the network of a windowed layer, extended to `Masked` inputs.

    Sequences are moved to the beginning of their rows, followed by padding that is set to `empty`,
    the value of the layer's own padding, so that the outputs of each equal those of the sequence
    alone. If every position has an output, outputs are moved back to the positions of the inputs;
    otherwise they stay at the beginning of the row.

    Raises:
      InvalidValue: at trace time, if a row holds several sequences, or the padding `"SAME"` depends
        on the length of a sequence.
    """

    def init(key, inputs):
        return network.init(key, values_of(inputs))

    def apply(params, state, inputs, *, key=None):
        if not isinstance(inputs, Masked):
            return network.apply(params, state, inputs, key=key)
        last, step = _last_and_step(where, inputs, window, strides, padding, dilation)

        def apply_first(x, mask):
            """Applies the network to sequences at the beginning of their rows."""
            if empty:
                here = mask.reshape(mask.shape + (1,) * (x.ndim - 2))
                x = jnp.where(here, x, jnp.asarray(empty, x.dtype))
            outputs, after = network.apply(params, state, x, key=key)
            ends = step * (outputs.shape[1] - 1) + 1
            sides = (mask[:, place : place + ends : step] for place in (0, last))
            # Positions beyond the end do not exist.
            exists = [jnp.pad(x, ((0, 0), (0, outputs.shape[1] - x.shape[1]))) for x in sides]
            return Masked(outputs, exists[0] & exists[1]), after

        def apply_anywhere(x, mask):
            order = jnp.argsort(~mask, axis=1, stable=True)
            outputs, after = apply_first(*(_take_places(x, order) for x in (x, mask)))
            if last == 0 and step == 1:
                places = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
                outputs = inputs.with_values(_take_places(outputs.values, places))
            return outputs, after

        # Padding is usually at the end, and then nothing has to be moved.
        mask = inputs.mask
        is_first = jnp.all(mask[:, 1:] <= mask[:, :-1])
        return lax.cond(is_first, apply_first, apply_anywhere, inputs.values, mask)

    return network._replace(init=init, apply=apply)


def _take_places(x: Any, places: Any) -> Any:
    """Returns the values of `[batch, time, ...]` at the given places, `[batch, time]`."""
    return jnp.take_along_axis(x, places.reshape(places.shape + (1,) * (x.ndim - 2)), 1)


def _last_and_step(where, inputs, window, strides, padding, dilation) -> tuple[int, int]:
    """Returns the last position that the first output requires, and the stride.

    Raises:
      InvalidValue: if the rows are packed, or the padding depends on the length of a sequence.
    """
    sizes, steps, pads, gaps = place_windows(
        where, inputs.values, window, strides, padding, dilation
    )
    step, reach, (before, after) = steps[0], (sizes[0] - 1) * gaps[0], pads[0]
    same = isinstance(padding, str) and padding.upper() == "SAME"
    last = 0 if same else reach - before - after
    # "SAME" pads between max(reach + 1 - step, 0) and reach positions, half of them in front.
    differs = same and reach // 2 != max(reach + 1 - step, 0) // 2
    if inputs.segments is not None:
        problem, fix = (
            "windows would overlap the boundaries between the sequences of a row",
            "Pad the sequences, each in its own row, instead of packing them",
        )
    elif differs or last < 0:
        problem, fix = (
            "the padding depends on the length of a sequence, and lengths differ",
            f"Pass padding=[({reach // 2}, {reach - reach // 2})], the same for each sequence",
        )
    else:
        return last, step
    raise InvalidValue(
        where,
        problem,
        got=f"padding={padding!r} with strides {steps} and windows {sizes}, for Masked inputs"
        + ("" if inputs.segments is None else " with segments"),
        expected="one sequence in each row, and the same padding for all",
        fix=fix,
    )
