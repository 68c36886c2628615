"""Where windows lie on the axes of space: sizes, strides, padding and dilation.

The first of these axes is time where inputs are `Masked`: empty places count as padding.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.checks import InvalidValue, positive_integer
from jaxnn.layers._platforms import is_translated
from jaxnn.masked import Masked, values_of
from jaxnn.network import Network
from jaxnn.typing import Any, Callable, Number

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
    if not any(map(any, pads)):
        return inputs
    if is_translated():  # translators know this form for any number of examples
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
    """Returns a network of windows that takes `Masked` inputs too.

    A sequence gives what it gives alone, wherever its places are: they are moved to the beginning
    of the row, in front of empty ones, which are `empty`, as its padding is. Where each place has
    an output, the outputs are at the places of the inputs, and else at the beginning of the row.

    Raises:
      InvalidValue: when traced, if a row holds several sequences, or the padding of `"SAME"`
        depends on the length of a sequence.
    """

    def init(key, inputs):
        return network.init(key, values_of(inputs))

    def apply(params, state, inputs, *, key=None):
        if not isinstance(inputs, Masked):
            return network.apply(params, state, inputs, key=key)
        x, mask = inputs.values, inputs.mask
        last, step = _last_and_step(where, inputs, window, strides, padding, dilation)
        first = _moved_to_front(mask)
        x, mask = first((x, mask))
        if empty:
            here = mask.reshape(mask.shape + (1,) * (x.ndim - 2))
            x = jnp.where(here, x, jnp.asarray(empty, x.dtype))
        outputs, after = network.apply(params, state, x, key=key)
        if last == 0 and step == 1:
            return inputs.with_values(_moved_back(inputs.mask)(outputs)), after
        ends = step * (outputs.shape[1] - 1) + 1
        sides = (mask[:, place : place + ends : step] for place in (0, last))
        # Behind the end there is nothing.
        exists = [jnp.pad(x, ((0, 0), (0, outputs.shape[1] - x.shape[1]))) for x in sides]
        return Masked(outputs, exists[0] & exists[1]), after

    return network._replace(init=init, apply=apply)


def _moved_to_front(mask: Any) -> Callable[[Any], Any]:
    """Returns a function that moves the places of sequences to the beginning of their rows."""
    return _moved(mask, lambda: jnp.argsort(~mask, axis=1, stable=True))


def _moved_back(mask: Any) -> Callable[[Any], Any]:
    """Returns a function that moves what is at the beginning of rows to the places of sequences."""
    return _moved(mask, lambda: jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0))


def _moved(mask: Any, order: Callable[[], Any]) -> Callable[[Any], Any]:
    def take(tree):
        index = order()
        return jax.tree.map(
            lambda x: jnp.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - 2)), 1),
            tree,
        )

    def move(tree):
        # Padding is most often at the end, where nothing has to be moved.
        is_first = jnp.all(mask[:, 1:] <= mask[:, :-1])
        return lax.cond(is_first, lambda tree: tree, take, tree)

    return move


def _last_and_step(where, inputs, window, strides, padding, dilation) -> tuple[int, int]:
    """Returns the last place that the first output needs, and the stride."""
    sizes, steps, pads, gaps = place_windows(
        where, inputs.values, window, strides, padding, dilation
    )
    step, reach, (before, after) = steps[0], (sizes[0] - 1) * gaps[0], pads[0]
    same = isinstance(padding, str) and padding.upper() == "SAME"
    last = 0 if same else reach - before - after
    # What "SAME" adds is between these two, and half of it is in front.
    differs = same and reach // 2 != max(reach + 1 - step, 0) // 2
    if inputs.segments is not None:
        problem, fix = (
            "windows would reach over the borders between the sequences of a row",
            ("Pad sequences, each in a row of its own"),
        )
    elif differs or last < 0:
        problem, fix = (
            "the padding depends on the length of a sequence, of which there are many",
            (f"Pass padding=[({reach // 2}, {reach - reach // 2})], the same for each sequence"),
        )
    else:
        return last, step
    raise InvalidValue(
        where,
        problem,
        got=f"padding={padding!r} with strides {steps} and windows {sizes}, for Masked inputs"
        + ("" if inputs.segments is None else " with segments"),
        expected="one sequence in each row, and padding that is the same for all",
        fix=fix,
    )
