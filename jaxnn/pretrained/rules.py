"""Rules that map the tensors of a file to the arrays of a network, in both directions.

A family of models is a table of rows `(theirs, ours, change)`. `theirs` is the name of a tensor in
the file, with `{n}` for the index of a block. `ours` is the name of a network array, a tuple
of names if the tensor is split into several arrays, or `None` if the network does not use it.
`change` is an invertible conversion, so the same table loads and saves a model, bit for bit.

>>> rows = [Row("h.{n}.weight", "block_{n+1}/weight", turned), Row("h.{n}.mask", None)]
>>> links = link(rows, {"h.0.weight": (3, 2), "h.0.mask": (9, 9)})
>>> [(each.theirs, each.ours) for each in links]
[('h.0.weight', ('block_1/weight',)), ('h.0.mask', ())]
>>> [array.shape for array in turned.split(np.ones((3, 2)))]
[(2, 3)]

If `theirs` has an index and `ours` has none, the blocks are stacked along the first axis of `ours`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.names import Match, listing, match_name
from jaxnn.typing import Any, Callable


class Change(NamedTuple):
    """An invertible conversion of a tensor of the file to arrays of the network.

    Attributes:
      split: converts the tensor to the arrays, without a copy where NumPy allows it.
      join: converts the arrays and the shape of the tensor back to the tensor.
      is_read: whether the tensor is read. A tensor that repeats an array is only written.
    """

    split: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    join: Callable[[Sequence[np.ndarray], tuple[int, ...]], np.ndarray]
    is_read: bool = True


same = Change(lambda x: (x,), lambda xs, shape: xs[0])
turned = Change(lambda x: (x.T,), lambda xs, shape: xs[0].T)
# Convolution kernels, which are [outputs, inputs, height, width] in PyTorch.
kernel = Change(lambda x: (x.transpose(2, 3, 1, 0),), lambda xs, shape: xs[0].transpose(3, 2, 0, 1))
# Output weights that are tied to the token embedding, but are also stored in the file.
again = Change(lambda x: (x,), lambda xs, shape: xs[0], is_read=False)


def without_axes(count: int) -> Change:
    """Returns the change that removes the first `count` axes, which have length 1."""
    return Change(lambda x: (x.reshape(x.shape[count:]),), lambda xs, shape: xs[0].reshape(shape))


def parted(count: int) -> Change:
    """Returns the change that splits a tensor into `count` equal arrays along its last axis."""
    return Change(lambda x: tuple(np.split(x, count, -1)), lambda xs, shape: np.concatenate(xs, -1))


class Row(NamedTuple):
    """A rule: the name of a tensor, the name or names of its arrays, and the change."""

    theirs: str
    ours: str | tuple[str, ...] | None
    change: Change = same


class Link(NamedTuple):
    """A tensor of a file and the arrays of the network that it maps to."""

    theirs: str
    shape: tuple[int, ...]
    ours: tuple[str, ...]
    layer: int | None  # the index along the first axis of `ours` if the blocks are stacked
    change: Change


def link(
    rows: Sequence[Row], shapes: Mapping[str, tuple[int, ...]], *, prefix: str = ""
) -> list[Link]:
    """Maps each tensor of a file to arrays of the network, in the order of the file.

    Args:
      rows: the rules of the family. The first rule that matches a name applies.
      shapes: the shapes of the tensors, by name.
      prefix: an optional prefix of the names, as in the files of models with a head.

    Raises:
      InvalidValue: if no rule matches a tensor, so that it would not be used.
    """
    links, unused = [], []
    for name, shape in shapes.items():
        hit = _first(rows, name, prefix)
        if hit is None:
            unused.append(name)
            continue
        row, match = hit
        targets = (row.ours,) if isinstance(row.ours, str) else row.ours or ()
        names = tuple(match.fill("pretrained", target) for target in targets)
        free = match.numbers and targets and not any("{" in target for target in targets)
        layer = next(iter(match.numbers.values())) if free else None
        links.append(Link(name, shape, names, layer, row.change))
    if unused:
        raise InvalidValue(
            "pretrained.load",
            "the network does not use some tensors",
            got=listing(f"{name} {shapes[name]}" for name in unused),
            expected="a model that uses each tensor",
            fix="Load the base model of its family, or a model with a supported head",
        )
    return links


def _first(rows: Iterable[Row], name: str, prefix: str) -> tuple[Row, Match] | None:
    for row in rows:
        for each in {name, name.removeprefix(prefix)}:
            if (match := match_name(row.theirs, each, nodes=False)) is not None:
                return row, match
    return None


def check_links(links: Sequence[Link], forms: Mapping[str, Any]) -> None:
    """Raises unless the tensors fill every array of the network exactly once, with its shape.

    Args:
      links: the mapping of the tensors of a source, from `link`.
      forms: the arrays of the network by name, each with a `shape`.
    """
    places: dict[str, dict[int | None, str]] = {name: {} for name in forms}
    for each in (each for each in links if each.ours and each.change.is_read):
        parts = _parts(each, np.broadcast_to(np.float32(0), each.shape))
        for name, part in zip(each.ours, parts, strict=True):
            _check_place(each, name, part.shape, forms.get(name), places.get(name, {}))
            places[name][each.layer] = each.theirs
    missing = []
    for name, filled in places.items():
        whole = {None} if not filled or None in filled else {*range(forms[name].shape[0])}
        missing += [name if n is None else f"{name} of block {n}" for n in whole - filled.keys()]
    if missing:
        raise InvalidValue(
            "pretrained.load",
            "the weights have no tensor for some arrays of the network",
            got=f"no tensor for {listing(missing, 6)}",
            expected="a tensor for each array of the configuration",
            fix="Load the config.json that belongs to these weights, and all of their files",
        )


def _check_place(
    each: Link, name: str, shape: tuple[int, ...], form: Any, filled: Mapping[int | None, str]
) -> None:
    """Raises unless the tensor has the shape of its place, and no other tensor fills that place."""
    stacked = each.layer is not None
    if form is None or (each.layer is not None and each.layer >= form.shape[0]):
        raise InvalidValue(
            "pretrained.load",
            "the configuration has no place for a tensor of the weights",
            got=each.theirs,
            expected=f"a configuration with {name}" + f" of block {each.layer}" * stacked,
            fix="Load the config.json that belongs to these weights",
        )
    expected = form.shape[1:] if stacked else form.shape
    if shape != expected:
        raise InvalidValue(
            "pretrained.load",
            f"{each.theirs} has the wrong shape for the configuration",
            got=f"shape {each.shape}",
            expected=f"a shape from which {name} has the shape {expected}",
            fix="Load the config.json that belongs to these weights",
        )
    if each.layer in filled:
        raise InvalidValue(
            "pretrained.load",
            "two tensors map to one array of the network",
            got=f"{filled[each.layer]} and {each.theirs}",
            expected="one tensor for each array",
            fix="Load the files of a single model",
        )


def _parts(each: Link, tensor: np.ndarray) -> tuple[np.ndarray, ...]:
    try:
        return each.change.split(tensor)
    except ValueError as error:  # the axes cannot be split or transposed
        raise InvalidValue(
            "pretrained.load",
            f"{each.theirs} has the wrong shape for the configuration",
            got=f"shape {each.shape}",
            expected=f"a shape that splits into {', '.join(each.ours)} ({error})",
            fix="Load the config.json that belongs to these weights",
        ) from None
