"""Draws a network as columns of nodes, with a wire for each weight between them.

    network(mlp([64, 64], 10), run.state.params, images[:1]).savefig("network.png")

The width of a wire is the size of its weight, and its colour is the sign. For a wide layer, only
some nodes are drawn, and the figure says how many are not. A network that is not a chain of linear
layers is drawn as blocks (`jaxnn.pictures.blocks`), and a remark in the figure says why.

In the SVG, the wires into layer 1 are the group `wires:1`, in the order in which they are drawn.
The nodes of layer 1 are the group `nodes:1`. A script in an HTML page can access each of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.formatting import count
from jaxnn.network import Network
from jaxnn.pictures import blocks, scheme
from jaxnn.pictures import diagram as diagrams
from jaxnn.pictures.arguments import leaf_of, names_of
from jaxnn.pictures.scheme import FAINT, INK, LABEL, MARK, PAPER, SIGNED, number, signed, words
from jaxnn.pictures.sheet import POINTS, Sheet, fitted, width_of
from jaxnn.typing import Any, Params

THIN, WIDE = 0.2, 2.4  # points, the width of a wire of weight 0 and of the largest weight
SIDE = 30.0  # points to the left and right of the columns
MARGIN = 75.0  # points to the right of the columns at most, for long names
FOOT, KEY, LINE = 33.0, 18.0, 10.0  # points for the names of layers, the key, and a remark
TALL, LOW, HIGH = 180.0, 11.5, 30.0  # points: the height of columns, and the steps between nodes
GAP = 2.6  # the height of a gap for nodes that are not drawn, in steps between nodes
FEW = 6  # the largest number of inputs that are named


def network(
    network: Network, params: Params, inputs: Any, *, names: Sequence[str] | None = None
) -> scheme.Figure:
    """Returns a matplotlib `Figure` of a network with its weights.

    Args:
      network: a network.
      params: the parameters of the network.
      inputs: arrays or `jax.ShapeDtypeStruct`s with a leading batch axis. Only shapes are read.
      names: the names of the output nodes.

    Raises:
      InvalidType: if `network` is not a `Network`.
      InvalidValue: if the inputs or the parameters do not match the network.
    """
    drawn = diagrams.diagram(network, inputs)
    params = jax.device_get(params)  # NumPy indexes without compiling
    return draw(
        drawn, diagrams.wires(drawn, params), biases=diagrams.biases(drawn, params), names=names
    )


def draw(
    diagram: diagrams.Diagram,
    wires: Mapping[str, Any],
    *,
    biases: Mapping[str, Any] | None = None,
    scale: float | None = None,
    bias_scale: float | None = None,
    names: Sequence[str] | None = None,
) -> scheme.Figure:
    """Returns a matplotlib `Figure` of a diagram.

    Args:
      diagram: the diagram of a network.
      wires: the weights between the nodes that are drawn, `{leaf: [before, shown]}`.
      biases: the biases of the nodes that are drawn, `{leaf: [shown]}`, shown as their colours.
      scale: the absolute weight of the widest wire. The default is the largest weight.
      bias_scale: the absolute bias of the strongest colour. The default is the largest bias.
      names: the names of the output nodes.

    Raises:
      InvalidValue: if the weights of a layer are missing or have the wrong shape.
    """
    if not diagram.layers:
        return blocks.draw(diagram.outline, diagram.why)
    names = names_of("draw", "names", names, diagram.layers[-1].width, "nodes")
    pairs = list(zip(diagram.layers, diagram.layers[1:]))
    weights = [
        np.asarray(leaf_of("draw", "wires", wires, b.leaf, (len(a.shown), len(b.shown))), float)
        for a, b in pairs
    ]
    fills = {
        b.leaf: np.asarray(leaf_of("draw", "biases", biases, b.leaf, (len(b.shown),)), float)
        for _, b in pairs
        if biases and b.leaf in biases
    }
    thickest, brightest = scale or largest(weights), bias_scale or largest(fills.values())
    last = diagram.layers[-1]
    shown = [names[number] for number in last.shown] if names else [""]  # only nodes that are drawn
    right = max(map(width_of, shown)) + 14 if last.width > 1 else 0
    columns, height = _columns(diagram.layers, float(np.clip(right, SIDE, MARGIN)))
    remarks = _remarks(diagram.layers, weights, list(fills.values()))
    sheet = Sheet(height + FOOT + KEY + LINE * len(remarks))
    room = columns[1].x - columns[0].x - 3
    for place, (weight, before, after) in enumerate(zip(weights, columns, columns[1:]), start=1):
        _wires(sheet, place, weight, before, after, thickest)
    for place, (layer, column) in enumerate(zip(diagram.layers, columns)):
        _nodes(sheet, place, column, fills.get(layer.leaf), brightest, room)
        at_edge = place in (0, len(columns) - 1)
        _caption(sheet, layer, column.x, height + 8, min(room, 2 * SIDE - 2) if at_edge else room)
    _ends(sheet, diagram.layers, columns, names)
    _key(sheet, height + FOOT + 6, thickest, brightest if fills else None)
    for place, (remark, colour) in enumerate(remarks):
        sheet.text(8, height + FOOT + KEY + LINE * place, remark, colour, ha="left")
    return sheet.figure


def colour_and_width(value: float, scale: float) -> tuple[str, float]:
    """Returns the colour and width of a wire; the script of the HTML report uses the same rule.

    The width is `0.2 + 2.2 * min(|value| / scale, 1)` points. The colour is the last of `SIGNED`
    for values of at least 0, and the first otherwise. For values that are not finite, the wire is
    1 point wide in the colour `MARK`.

    >>> colour_and_width(-0.5, 1.0)
    ('#c8641b', 1.3)
    """
    if not np.isfinite(value):
        return MARK, 1.0
    share = min(abs(float(value)) / scale, 1.0) if scale else 0.0
    return SIGNED[2 if value >= 0 else 0], round(THIN + (WIDE - THIN) * share, 3)


class _Column(NamedTuple):
    """The positions in points of the nodes of a layer, and of the gaps with their node counts."""

    x: float
    nodes: np.ndarray
    gaps: Sequence[tuple[float, int]]
    radius: float


def _columns(layers: tuple[diagrams.Layer, ...], right: float) -> tuple[list[_Column], float]:
    """Returns the positions of all nodes, and the height; `right` is the space on the right."""
    # `missing` counts the omitted nodes before each drawn node, and after the last. `begins` is
    # where each drawn node begins and where the last one ends, in steps from the top.
    missing = [np.diff([-1, *layer.shown, layer.width]) - 1 for layer in layers]
    begins = [np.arange(len(counts)) + GAP * np.cumsum(counts > 0) for counts in missing]
    rows = max(each[-1] for each in begins)
    step = np.clip(TALL / rows, LOW, HIGH)
    height = max(step * rows, 60.0) + 8
    apart = (POINTS - SIDE - right) / (len(layers) - 1)
    radius = min(0.36 * step, 0.2 * apart, 9.0)
    columns = []
    for place, (counts, begin) in enumerate(zip(missing, begins)):
        y = height / 2 + step * (begin - begin[-1] / 2)
        gaps = [(top - step * GAP / 2, int(count)) for top, count in zip(y, counts) if count]
        columns.append(_Column(SIDE + apart * place, y[:-1] + step / 2, gaps, radius))
    return columns, height


def drawn_order(weight: Any) -> np.ndarray:
    """Returns the order in which the wires of a layer are drawn, which puts large weights last.

    The values are indices into the flat array; in an SVG, the paths of `wires:1` have this order.
    """
    sizes = np.where(np.isfinite(weight), np.abs(weight), np.inf)
    return np.argsort(sizes, axis=None, kind="stable")


def _wires(
    sheet: Sheet, layer: int, weight: np.ndarray, before: _Column, after: _Column, scale: float
) -> None:
    order = drawn_order(weight)
    looks = [colour_and_width(value, scale) for value in weight.ravel()[order]]
    ends = zip(*np.unravel_index(order, weight.shape))
    sheet.lines(
        [[(before.x, before.nodes[i]), (after.x, after.nodes[j])] for i, j in ends],
        [colour for colour, _ in looks],
        [width for _, width in looks],
        ["-" if known else (0, (1.5, 1.5)) for known in np.isfinite(weight.ravel()[order])],
        gid=f"wires:{layer}", zorder=1,
    )  # fmt: skip


def _nodes(
    sheet: Sheet, layer: int, column: _Column, fill: np.ndarray | None, scale: float, room: float
) -> None:
    shades = signed()
    values = np.zeros(len(column.nodes)) if fill is None else np.asarray(fill)
    known = np.isfinite(values)
    colours = [
        PAPER if fill is None or not finite else shades(0.5 + 0.5 * value / (scale or 1.0))
        for value, finite in zip(values, known)
    ]
    sheet.circles(
        [(column.x, y) for y in column.nodes], column.radius, colours,
        [INK if finite else MARK for finite in known], gid=f"nodes:{layer}", zorder=3,
    )  # fmt: skip
    for y, hidden in column.gaps:
        dots = [(column.x, y - 5 + 3.2 * dot) for dot in (-1, 0, 1)]
        sheet.circles(dots, 0.55, FAINT, FAINT, zorder=4)
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.2, "alpha": 0.95}
        said = f"{hidden:,} more"
        said = said if width_of(said) < room else said.replace(" ", "\n")
        low = y + (6 if " " in said else 9.5)
        sheet.text(column.x, low, said, zorder=4, bbox=box, linespacing=1.0)


def _caption(sheet: Sheet, layer: diagrams.Layer, x: float, top: float, room: float) -> None:
    """Writes the name, the width and the activation of a layer below its column."""
    width = count(layer.width, "node" if layer.leaf else "number")
    sheet.text(x, top, fitted(words(layer.name), room, LABEL), INK, fontsize=LABEL)
    sheet.text(x, top + 10, width if width_of(width) <= room else f"{layer.width:,}")
    sheet.text(x, top + 19, fitted(layer.activation, room))


def _ends(
    sheet: Sheet, layers: Sequence[diagrams.Layer], columns: list[_Column], names: Sequence[str]
) -> None:
    """Names the outputs, and the inputs if there are few."""
    first, last = columns[0], columns[-1]
    if layers[0].width <= FEW:
        for place, y in enumerate(first.nodes, start=1):
            sheet.text(first.x - first.radius - 3, y, f"x{place}", ha="right")
    if layers[-1].width > 1:
        x = last.x + last.radius + 3
        for node, y in zip(layers[-1].shown, last.nodes):
            sheet.text(x, y, fitted(names[node], POINTS - x - 1), ha="left")


def _key(sheet: Sheet, y: float, thickest: float, brightest: float | None) -> None:
    """Draws the key to the colours and widths of wires and to the colours of nodes."""
    x = 8.0
    for name, size in (("weight", thickest), ("bias", brightest)):
        if size is None:
            continue
        said = number(size, 2)
        sheet.text(x, y, name, INK, ha="left")
        x += width_of(name) + 5
        ends = [f"−{said}", said] if len(said) < 6 else ["", f"±{said}"]  # one number for both
        signs = zip((SIGNED[0], SIGNED[2]), ends) if size else [(SIGNED[1], said)]
        for colour, text in signs:
            if name == "weight":
                sheet.line([x, x + 15], [y, y], colour, WIDE)
                x += 18
            else:
                sheet.circles([(x + 3, y)], 3, colour)
                x += 9
            sheet.text(x, y, text, ha="left")
            x += width_of(text) + 6 * bool(text)
        x += 8


def _remarks(
    layers: Sequence[diagrams.Layer], weights: list[np.ndarray], fills: list[np.ndarray]
) -> list[tuple[str, str]]:
    """Returns remarks, with colours, on weights that are omitted and values that are not finite."""
    drawn = sum(weight.size for weight in weights)
    total = sum(a.width * b.width for a, b in zip(layers, layers[1:]))
    remarks = [(f"{drawn:,} of {total:,} weights are drawn.", FAINT)] if drawn < total else []
    for one, many, how, arrays in (
        ("weight", "weights", "dotted", weights),
        ("bias", "biases", "a red ring", fills),
    ):
        lost = sum(int((~np.isfinite(array)).sum()) for array in arrays)
        if lost:
            said = f"1 {one} is" if lost == 1 else f"{lost:,} {many} are"
            remarks.append((f"{said} not finite: {how}.", MARK))
    return remarks


def largest(arrays: Iterable[np.ndarray]) -> float:
    """Returns the largest finite absolute value in some arrays; 0 if there is none."""
    sizes = [np.abs(array[np.isfinite(array)]) for array in arrays]
    return float(max((size.max() for size in sizes if size.size), default=0.0))
