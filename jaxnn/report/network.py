"""The network: its nodes and wires or its parts, its weights, activations and gradients."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnn.formatting import amount
from jaxnn.markup import Markup, cut, element, join, quoted, table
from jaxnn.pictures import diagram as diagrams
from jaxnn.pictures import scheme
from jaxnn.pictures._network import draw
from jaxnn.pictures.layers import activations, gradient_flow, weights
from jaxnn.pictures.outline import Part
from jaxnn.report.examples import names_of
from jaxnn.report.packed import levels, stacked
from jaxnn.report.phrases import BLANK
from jaxnn.report.sections import Section, drawn, lettered, some
from jaxnn.report.source import Source
from jaxnn.storage.recording import Frame, Recording

LONG = 20  # rows, from which a table is folded
TIMES = 8  # of all moments, so many are drawn
LETTERS = 400  # letters of a name, that nobody but a stranger exceeds


def sections(source: Source) -> list[Section]:
    """Returns the sections about the network."""
    frames = source.recorded.frames if source.recorded else []
    return [
        Section(
            "weights",
            "Its weights over time",
            "A weight is the number on a wire, which training changes. The darker a place, the more"
            " weights of that layer have that value: they begin small and alike, and spread as the"
            " network learns.",
            lambda: _histograms(frames, "params/", weights, "weights-picture", "Weights over time"),
        ),
        Section(
            "activations",
            "What its nodes give",
            "An activation is what a node passes on. Where all of a layer's are 0, or all at one"
            " end, its nodes tell examples apart no more.",
            lambda: _histograms(
                frames, "activations/", activations, "activations-picture", "Activations over time"
            ),
        ),
        Section(
            "gradients",
            "How far the gradient reaches",
            "The gradient says how each weight should change; bright is much. It is computed from"
            " the output back to the input: if it fades on the way, the first layers hardly learn.",
            lambda: _gradients(frames),
        ),
        Section(
            "network",
            "The network",
            "A network is layers, one after the other. Parameters are its weights and biases, the"
            " numbers that training sets; an operation is one addition or one multiplication for"
            " one example.",
            lambda: _network(source),
        ),
    ]


def _histograms(frames, prefix, picture, name, title) -> Markup | None:
    moments = {frame.step: _leaves(frame, prefix) for frame in some(frames, TIMES)}
    moments = {step: leaves for step, leaves in moments.items() if leaves}
    return drawn(picture(moments), name, title) if moments else None


def _gradients(frames: Sequence[Frame]) -> Markup | None:
    moments = {frame.step: _leaves(frame, "gradients/") for frame in some(frames, TIMES)}
    moments = {
        step: {name: float(np.asarray(v)) for name, v in leaves.items() if v.ndim == 0}
        for step, leaves in moments.items()
        if leaves
    }
    return (
        drawn(gradient_flow(moments), "gradients-picture", "Gradients over time")
        if moments
        else None
    )


def _leaves(frame: Frame, prefix: str) -> dict[str, np.ndarray]:
    """Returns what a moment has of each layer; of its parameters the weights, if it has any."""
    # Names stay whole, so that no two become the same; the picture finds labels for all of them.
    leaves = {
        lettered(n.removeprefix(prefix), LETTERS): a
        for n, a in frame.arrays.items()
        if n.startswith(prefix)
    }
    weights = {name: array for name, array in leaves.items() if name.endswith("weight")}
    return weights or leaves


def _network(source: Source) -> Markup | None:
    if source.recorded is None:
        return None
    figures, picture = source.recorded.about.get("table"), blocks(source.recorded)
    if not isinstance(figures, dict) or not figures.get("rows"):
        return picture
    heads = ["part", "kind", "output", "parameters", "memory", "activations", "operations"]
    rows = [_part(row) for row in figures["rows"]]
    if figures.get("total"):
        total = _part({**figures["total"], "part": "all of it", "kind": "", "times": 1})
        rows.append([element("b", cell) for cell in total])
    parts = table("The parts of the network, from its input to its output", heads, rows)
    if len(rows) > LONG:
        parts = element("details", element("summary", f"All {len(rows) - 1} parts"), parts)
    return join(picture, parts)


def _part(row: dict[str, Any]) -> list[Any]:
    times = f" ×{row['times']}" if row.get("times", 1) != 1 else ""
    name = join(quoted(row["part"] or "network"), times)
    figures = [
        f"{row['parameters']:,}",
        amount(row["bytes"], "B"),
        amount(row["activation_bytes"], "B") if row.get("activation_bytes") is not None else "",
        f"{row['flops']:,}" if row.get("flops") is not None else "",
    ]
    return [name, quoted(row["kind"]), _shape(row["output"]), *figures]


def _shape(shape: Any) -> str:
    if isinstance(shape, list) and all(isinstance(size, int) for size in shape):
        sizes = shape[1:] if shape[:1] == [1] else shape  # of one example
        return f"{BLANK}×{BLANK}".join(map(str, sizes)) or "1"
    return cut(shape, 60)


NAME = "net"
MOST = 100  # parts in one box


class Wiring(NamedTuple):
    """A network as nodes and wires.

    Attributes:
      picture: of the last moment.
      payload: for each layer the names of its wires and nodes in the picture, and their values at
        all moments: `[moments, from, to]` and `[moments, to]`.
    """

    picture: Markup
    payload: list[dict[str, Any]]


def wiring(recorded: Recording) -> Wiring | None:
    """Returns the nodes and wires of a network, if it is drawn as such, and they were recorded."""
    diagram = diagram_of(recorded)
    layers = diagram.layers[1:] if diagram else ()
    wires = {layer.leaf: stacked(recorded.frames, f"wires/{layer.leaf}") for layer in layers}
    known = {leaf: each for leaf, each in wires.items() if each is not None and each.ndim == 3}
    if diagram is None or not layers or len(known) < len(layers):
        return None
    biases = {leaf: stacked(recorded.frames, f"biases/{leaf}") for leaf in known}
    fills = {leaf: each for leaf, each in biases.items() if each is not None and each.ndim == 2}
    # One scale for all moments: a wire of one width is of one weight at any time.
    thickest, brightest = _largest([*known.values()]), _largest([*fills.values()])
    names = [lettered(name) for name in names_of(recorded.about)]
    figure = draw(
        diagram,
        {leaf: each[-1] for leaf, each in known.items()},
        biases={leaf: each[-1] for leaf, each in fills.items()} or None,
        scale=thickest,
        names=names if len(names) == layers[-1].width else None,
    )
    title = f"The network as nodes and wires: {_described(layers)}"
    caption = (
        "A node adds up what its wires bring, each times its weight, and its own bias. Blue wires"
        " have positive weights, orange ones negative; the wider, the larger."
    )
    payload = []
    for number, layer in enumerate(layers, start=1):
        one: dict[str, Any] = {
            "wires": f"{NAME}-wire:{number}:",
            "nodes": f"{NAME}-node:{number}:",
            "weights": levels(known[layer.leaf], thickest),
        }
        if layer.leaf in fills:
            one["biases"] = levels(fills[layer.leaf], brightest)
        payload.append(one)
    heading = element("h3", "Its nodes and wires")
    return Wiring(element("div", heading, drawn(figure, NAME, title, caption)), payload)


def blocks(recorded: Recording) -> Markup | None:
    """Returns the parts of a network that is not drawn as nodes: boxes, inside of each its own."""
    diagram = diagram_of(recorded)
    if diagram is None or diagram.layers or not diagram.outline:
        return None
    caption = (
        "From the input at the top to the output at the bottom, parts inside of others in their"
        " boxes. At the right: the shape of what a part puts out for one example."
    )
    why = diagram.why and f"{diagram.why} "
    figure = element("figcaption", why, caption)
    return element("figure", _boxes(diagram.outline), figure)


def _boxes(parts: Sequence[Part]) -> Markup:
    items = [
        element(
            "li",
            element(
                "p",
                element("b", quoted(part.title)) if part.title else None,
                f" × {part.times}" if part.times > 1 else None,
                element("span", quoted(part.text)) if part.text else None,
                element("i", part.shape) if part.shape and not part.children else None,
            ),
            _boxes(part.children) if part.children else None,
            style=f"--kind:{part.colour}" if not part.children else None,
        )
        for part in parts[:MOST]
    ]
    if len(parts) > MOST:
        items.append(element("li", element("p", f"… {len(parts) - MOST:,} more")))
    return element("ol", *items, class_="parts")


def diagram_of(recorded: Recording) -> diagrams.Diagram | None:
    """Returns the diagram that was recorded."""
    content = recorded.about.get("diagram")
    if not isinstance(content, dict):
        return None
    diagram = diagrams.from_json(content)
    layers = [
        each._replace(name=lettered(each.name), activation=lettered(each.activation))
        for each in diagram.layers
    ]
    return diagram._replace(layers=tuple(layers))


def _described(layers: Sequence[diagrams.Layer]) -> str:
    return ", ".join(f"{scheme.words(each.name)} of {each.width:,} nodes" for each in layers)


def _largest(arrays: list[np.ndarray]) -> float:
    finite = [np.abs(array[np.isfinite(array)]) for array in arrays]
    return float(max((each.max() for each in finite if each.size), default=0.0)) or 1.0
