"""The picture of a network: columns of nodes, and a wire for each weight between them.

    network(mlp([64, 64], 10), run.state.params, images[:1]).savefig("network.png")

A wire is as wide as its weight is large, and its colour says the sign. Of a wide layer some nodes
are drawn, and the picture says how many are not. A network that is more than a chain of linear
layers is drawn as blocks (`jaxnn.pictures.blocks`), and the picture says why.

Every wire and every node has a name in the SVG, by which a page can find it: `wire:1:0:3` is the
one from node 0 to node 3, among those that are drawn, into layer 1; `node:1:3` is that node.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.network import Network
from jaxnn.pictures import blocks
from jaxnn.pictures import diagram as diagrams
from jaxnn.pictures.scheme import FAINT, INK, LABEL, MARK, PAPER, SIGNED, number, signed, words
from jaxnn.pictures.sheet import POINTS, Sheet, fitted, width_of
from jaxnn.typing import Any, Params

THIN, WIDE = 0.2, 2.4  # points, of a wire of weight 0 and of the largest one
SIDE = 30.0  # points left and right of the columns
FOOT, KEY, LINE = 33.0, 18.0, 10.0  # points for the names of layers, the key, and a remark
TALL, LOW, HIGH = 180.0, 11.5, 30.0  # points: of the columns, and from node to node
GAP = 2.6  # the room of nodes that are not drawn, in that of one that is
FEW = 6  # inputs that are named


def network(network: Network, params: Params, inputs: Any, *, names: Any = None) -> Any:
    """Returns a matplotlib `Figure` of a network with its weights.

    Args:
      network: any network.
      params: its parameters.
      inputs: arrays, or `jax.ShapeDtypeStruct`s, with the batch in front; only shapes are read.
      names: of the output nodes.

    Raises:
      InvalidType: if it is not a network.
      InvalidValue: if it does not take the inputs, or the parameters are not its own.
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
    names: Any = None,
) -> Any:
    """Returns a matplotlib `Figure` of a diagram.

    Args:
      diagram: of a network.
      wires: the weights between the nodes that are shown, `{leaf: [before, shown]}`.
      biases: of the nodes that are shown, `{leaf: [shown]}`: the fill of nodes.
      scale: the size of the weight whose wire is widest; by default that of the largest one.
      bias_scale: the size of the bias of the strongest colour; by default that of the largest one.
      names: of the output nodes.

    Raises:
      InvalidValue: if wires are missing, or have another shape.
    """
    if not diagram.layers:
        return blocks.draw(diagram.outline, diagram.why)
    if names is not None and len(names) != diagram.layers[-1].width:
        raise InvalidValue(
            "draw",
            "the names are not those of the outputs",
            got=f"{len(names)} names for {diagram.layers[-1].width} nodes",
            expected="a name for each",
            fix="Name all, in the order of their numbers, or leave names out",
        )
    pairs = list(zip(diagram.layers, diagram.layers[1:]))
    weights = [_given("wires", wires, b.leaf, (len(a.shown), len(b.shown))) for a, b in pairs]
    fills = {
        layer.leaf: _given("biases", biases, layer.leaf, (len(layer.shown),))
        for layer in diagram.layers[1:]
        if biases and layer.leaf in biases
    }
    largest, brightest = scale or _largest(weights), bias_scale or _largest(fills.values())
    places, height = _places(diagram.layers)
    remarks = _remarks(diagram.layers, weights, list(fills.values()))
    sheet = Sheet(height + FOOT + KEY + LINE * len(remarks))
    room = places[1].x - places[0].x - 3
    for layer, weight in enumerate(weights, start=1):
        _wire(sheet, layer, weight, places[layer - 1], places[layer], largest)
    for place, (layer, column) in enumerate(zip(diagram.layers, places)):
        _nodes(sheet, place, column, fills.get(layer.leaf), brightest, room)
        at_edge = place in (0, len(places) - 1)
        _named(sheet, layer, column.x, height + 8, min(room, 2 * SIDE - 2) if at_edge else room)
    _ends(sheet, diagram.layers, places, names)
    _key(sheet, height + FOOT + 6, largest, brightest if fills else None)
    for place, (remark, colour) in enumerate(remarks):
        sheet.text(8, height + FOOT + KEY + LINE * place, remark, colour, ha="left")
    return sheet.figure


def colour_and_width(value: float, scale: float) -> tuple[str, float]:
    """Returns how a weight is drawn: the one rule, which the script of a page follows too.

    The width is `0.2 + 2.2 * min(|value| / scale, 1)` points; the colour is the last of `SIGNED`
    from 0 on, and the first below. What is not finite is 1 point wide in the colour `MARK`.

    >>> colour_and_width(-0.5, 1.0)
    ('#c8641b', 1.3)
    """
    if not np.isfinite(value):
        return MARK, 1.0
    share = min(abs(float(value)) / scale, 1.0) if scale else 0.0
    return SIGNED[2 if value >= 0 else 0], round(THIN + (WIDE - THIN) * share, 3)


class _Column(NamedTuple):
    """Where the nodes of a layer are, in points, and where how many are not drawn."""

    x: float
    nodes: list[float]
    gaps: list[tuple[float, int]]
    radius: float


def _places(layers: tuple[diagrams.Layer, ...]) -> tuple[list[_Column], float]:
    """Returns the places of all nodes, and the height that they take."""
    runs = [_runs(layer) for layer in layers]
    rows = [sum(GAP if gap else 1 for _, gap in run) for run in runs]
    step = float(np.clip(TALL / max(rows), LOW, HIGH))
    height = max(step * max(rows), 60.0) + 8
    apart = (POINTS - 2 * SIDE) / (len(layers) - 1)
    radius = min(0.36 * step, 0.2 * apart, 9.0)
    columns = []
    for place, (run, count) in enumerate(zip(runs, rows)):
        y, nodes, gaps = 4 + (height - 8 - step * count) / 2, [], []
        for _, gap in run:
            size = step * (GAP if gap else 1)
            (gaps.append((y + size / 2, gap)) if gap else nodes.append(y + size / 2))
            y += size
        columns.append(_Column(SIDE + apart * place, nodes, gaps, radius))
    return columns, height


def _runs(layer: diagrams.Layer) -> list[tuple[int, int]]:
    """Returns what is in a column from the top: `(node, 0)`, or `(0, how many are not drawn)`."""
    runs, next_node = [], 0
    for node in (*layer.shown, layer.width):
        if node > next_node:
            runs.append((0, node - next_node))
        if node < layer.width:
            runs.append((node, 0))
        next_node = node + 1
    return runs


def _wire(sheet: Sheet, layer: int, weight, before: _Column, after: _Column, scale: float) -> None:
    order = np.argsort(np.abs(np.nan_to_num(weight, posinf=0, neginf=0)), axis=None)
    for rank, flat in enumerate(order):
        i, j = np.unravel_index(flat, weight.shape)
        colour, width = colour_and_width(weight[i, j], scale)
        known = np.isfinite(weight[i, j])
        sheet.line(
            [before.x, after.x], [before.nodes[i], after.nodes[j]], colour, width,
            linestyle="-" if known else (0, (1.5, 1.5)),
            zorder=1 + rank / len(order) if known else 2.5,
            gid=f"wire:{layer}:{i}:{j}",
        )  # fmt: skip


def _nodes(sheet: Sheet, layer: int, column: _Column, fill, scale: float, room: float) -> None:
    shades = signed()
    for place, y in enumerate(column.nodes):
        value = 0.0 if fill is None else fill[place]
        known = np.isfinite(value)
        colour = PAPER if fill is None else shades(0.5 + 0.5 * value / (scale or 1.0))
        sheet.circle(
            column.x, y, column.radius, colour if known else PAPER, INK if known else MARK,
            gid=f"node:{layer}:{place}", zorder=3,
        )  # fmt: skip
    for y, count in column.gaps:
        for dot in (-1, 0, 1):
            sheet.circle(column.x, y - 5 + 3.2 * dot, 0.55, FAINT, FAINT, zorder=4)
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        said = f"{count:,} more"
        said = said if width_of(said) < room else said.replace(" ", "\n")
        low = y + (6 if " " in said else 9.5)
        sheet.text(column.x, low, said, zorder=4, bbox=box, linespacing=1.0)


def _named(sheet: Sheet, layer: diagrams.Layer, x: float, top: float, room: float) -> None:
    """Says under a column what it is."""
    unit = f" {'node' if layer.leaf else 'number'}{'s' * (layer.width != 1)}"
    count = f"{layer.width:,}{unit}"
    if width_of(count) > room:
        count = f"{layer.width:,}"
    sheet.text(x, top, fitted(words(layer.name), room, LABEL), INK, fontsize=LABEL)
    sheet.text(x, top + 10, count)
    sheet.text(x, top + 19, fitted(layer.activation, room))


def _ends(sheet: Sheet, layers, places: list[_Column], names: Any) -> None:
    """Names inputs, if they are few, and outputs."""
    first, last = layers[0], layers[-1]
    if first.width <= FEW:
        for place, y in enumerate(places[0].nodes):
            sheet.text(places[0].x - places[0].radius - 3, y, f"x{place + 1}", ha="right")
    if last.width > 1:
        labels = range(last.width) if names is None else names
        for node, y in zip(last.shown, places[-1].nodes):
            x = places[-1].x + places[-1].radius + 3
            sheet.text(x, y, fitted(str(labels[node]), POINTS - x - 1), ha="left")


def _key(sheet: Sheet, y: float, largest: float, brightest: float | None) -> float:
    """Explains the colours and widths of wires, and the colours of nodes."""
    entries = []  # a name, the room of a mark, and for each mark colour and number
    for name, size, mark in (("weight", largest, 18), ("bias", brightest, 9)):
        if size is None:
            continue
        one = number(float(f"{size:.2g}"))
        signs = [(SIGNED[0], f"−{one}"), (SIGNED[2], one)] if size else [(SIGNED[1], one)]
        entries.append((name, mark, signs))
    rooms = [width_of(name) + 13 + sum(mark + width_of(s) + 6 for _, s in signs)
             for name, mark, signs in entries]  # fmt: skip
    x, tight = 8.0, sum(rooms) > POINTS - 8
    for name, mark, signs in entries:
        if tight and len(signs) == 2:  # one number for both
            signs = [(signs[0][0], ""), (signs[1][0], f"±{signs[1][1]}")]
        sheet.text(x, y, name, INK, ha="left")
        x += width_of(name) + 5
        for colour, said in signs:
            if name == "weight":
                sheet.line([x, x + 15], [y, y], colour, WIDE)
            else:
                sheet.circle(x + 3, y, 3, colour)
            x += mark
            if said:
                sheet.text(x, y, said, ha="left")
                x += width_of(said) + 6
        x += 8
    return x


def _remarks(layers, weights: list[np.ndarray], fills: list[np.ndarray]) -> list[tuple[str, str]]:
    """Returns what is not drawn, or not as the key says, each with a colour."""
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


def _given(what: str, arrays: Mapping[str, Any], leaf: str, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(arrays[leaf], float) if leaf in arrays else None
    if array is None or array.shape != shape:
        raise InvalidValue(
            "draw",
            f"the {what} are not those of the diagram",
            got=f"{', '.join(arrays) or 'none'}" if array is None else f"shape {array.shape}",
            expected=f"{leaf} of shape {shape}",
            fix=f"Pass what {what}(diagram, params) returns",
        )
    return array


def _largest(arrays) -> float:
    sizes = [np.abs(array[np.isfinite(array)]) for array in arrays]
    return float(max((size.max() for size in sizes if size.size), default=0.0))
