"""The sections about the network: its diagram, weights, activations and gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxnn.formatting import amount
from jaxnn.markup import Markup, cut, element, folded, join, quoted, table
from jaxnn.pictures import diagram as diagrams
from jaxnn.pictures import scheme
from jaxnn.pictures._network import draw, drawn_order, largest
from jaxnn.pictures.labels import shortened
from jaxnn.pictures.layers import activations, weights
from jaxnn.pictures.outline import Part
from jaxnn.report.examples import names_of
from jaxnn.report.packed import levels, stacked
from jaxnn.report.phrases import BLANK
from jaxnn.report.sections import LETTERS, drawn, section, some, under
from jaxnn.report.source import Source
from jaxnn.storage.recording import Recording

LONG = 20  # number of rows from which a table is folded
TIMES = 8  # maximum number of recorded steps to draw
DECADES = 6.0  # range of gradients with a shade, in powers of 10 below the largest
LONGEST = 400  # maximum length of a name whose label the picture shortens
NAME = "net"  # the name of the picture with nodes and wires
MOST = 100  # maximum number of parts in one box


@section("weights", "Weights over time")
def _weights(source: Source) -> Markup | None:
    """The distribution of weights: a weight is the number on a wire, which training changes. The
    stronger the colour, the more weights of the layer have that value. They start small and
    similar, and spread as the network learns.
    """
    return _over_time(source, "weights", "params/", weights)


@section("activations", "Activations over time")
def _activations(source: Source) -> Markup | None:
    """An activation is the output of a node. If all activations of a layer are 0, or all at one end
    of their range, its nodes no longer distinguish examples.
    """
    return _over_time(source, "activations", "activations/", activations)


@section("gradients", "Gradient flow")
def _gradients(source: Source) -> Markup | None:
    """The gradient is the direction in which each weight should change. Each number is its root
    mean square in a layer, and larger numbers have a stronger shade. The gradient is computed from
    the output back to the input: if it vanishes on the way, the first layers hardly learn.
    """
    moments = _moments(source, "gradients/")
    names = list(dict.fromkeys(name for sizes in moments.values() for name in sizes))
    sizes = np.array([[at.get(name, np.nan) for at in moments.values()] for name in names], float)
    known = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not known.size:
        return None
    low, high = np.log([max(known.min(), known.max() / 10**DECADES), known.max()])
    shades = (np.log(np.where(sizes > 0, sizes, 1e-300)) - low) / ((high - low) or 1.0)
    rows = [
        [
            quoted(label),
            *[
                element("td", scheme.number(value, 2), style=f"--share:{np.clip(share, 0, 1):.2f}")
                if np.isfinite(value)
                else "not finite"
                for value, share in zip(row, line)
            ],
        ]
        for label, row, line in zip(shortened(names, 40), sizes, np.nan_to_num(shades))
    ]
    heads = ["layer", *[f"step {step:,}" for step in moments]]
    gradients = table("Root mean square of the gradient", heads, rows, class_="cells shaded")
    return folded(f"All {len(rows)} layers", gradients) if len(rows) > LONG else gradients


def _moments(source: Source, prefix: str) -> dict[int, dict[str, Any]]:
    """Returns the arrays of each layer at some recorded steps; of parameters, only the weights."""
    moments = {}
    for frame in some(source.recorded.frames, TIMES):
        leaves = {cut(n, LONGEST): array for n, array in under(frame, prefix).items()}
        if leaves:
            kernels = {n: array for n, array in leaves.items() if n.endswith("weight")}
            moments[frame.step] = kernels or leaves
    return moments


def _over_time(
    source: Source, name: str, prefix: str, draw_it: Callable[..., scheme.Figure]
) -> Markup | None:
    """Returns a picture of the arrays of each layer at some recorded steps, if there are any."""
    moments, title = _moments(source, prefix), f"{name.capitalize()} over time"
    return drawn(draw_it(moments), f"{name}-picture", title) if moments else None


@section("network", "The network")
def _network(source: Source) -> Markup | None:
    """A network consists of layers, one after the other. Its parameters are the weights and biases,
    the numbers that training sets. An operation is one addition or multiplication for one example.
    """
    figures, picture = source.recorded.about.get("table"), _blocks(source.recorded)
    if not isinstance(figures, dict) or not figures.get("rows"):
        return picture
    heads = ["part", "kind", "output", "parameters", "memory", "activations", "operations"]
    rows = [_part(row) for row in figures["rows"]]
    if figures.get("total"):
        total = _part({**figures["total"], "part": "all of it", "kind": "", "times": 1})
        rows.append([element("b", cell) for cell in total])
    parts = table("Parts, from the input to the output", heads, rows, class_="numbers kinds")
    return join(picture, folded(f"All {len(rows) - 1} parts", parts) if len(rows) > LONG else parts)


def _part(row: dict[str, Any]) -> list[Any]:
    times = f" ×{row['times']}" if row.get("times", 1) != 1 else ""
    name = join(quoted(row["part"] or "network"), times)
    shape = row["output"]
    output = cut(shape, 60)
    if isinstance(shape, list) and all(isinstance(size, int) for size in shape):
        sizes = shape[1:] if shape[:1] == [1] else shape  # of one example
        output = f"{BLANK}×{BLANK}".join(map(str, sizes)) or "1"
    activations, operations = row.get("activation_bytes"), row.get("flops")
    return [
        name,
        quoted(row["kind"]),
        output,
        f"{row['parameters']:,}",
        amount(row["bytes"], "B"),
        amount(activations, "B") if activations is not None else "",
        f"{operations:,}" if operations is not None else "",
    ]


def wiring(recorded: Recording, at: int) -> tuple[Markup, list[dict[str, Any]]] | None:
    """Returns the diagram of nodes and wires of a network, if it was recorded as such.

    It consists of the picture at the step `at`, and, for each layer, the names of the groups of its
    wires and nodes in the picture, with their values at all steps in the order of their paths.
    """
    diagram = _diagram(recorded)
    layers = diagram.layers[1:] if diagram else ()
    wires, biases = (
        {
            layer.leaf: array
            for layer in layers
            if (array := stacked(recorded.frames, f"{kind}/{layer.leaf}")) is not None
            and array.ndim == dimensions
        }
        for kind, dimensions in (("wires", 3), ("biases", 2))
    )
    if diagram is None or not layers or len(wires) < len(layers):
        return None
    # All steps share one scale, so that equal widths and colours represent equal numbers.
    thickest, brightest = largest(wires.values()), largest(biases.values())
    names = names_of(recorded.about)
    shown = draw(
        diagram,
        {leaf: each[at] for leaf, each in wires.items()},
        biases={leaf: each[at] for leaf, each in biases.items()} or None,
        scale=thickest,
        bias_scale=brightest,
        names=names if len(names) == layers[-1].width else None,
    )
    words = ", ".join(f"{scheme.words(each.name)} of {each.width:,} nodes" for each in layers)
    caption = (
        "A node adds up what its wires bring, each times its weight, and its own bias. Blue wires"
        " have positive weights, orange ones negative; the wider, the larger."
    )
    picture = drawn(shown, NAME, f"The network as nodes and wires: {words}", caption)
    payload = []
    for place, layer in enumerate(layers, start=1):
        order = drawn_order(wires[layer.leaf][at])
        weights = wires[layer.leaf].reshape(len(recorded.frames), -1)[:, order]
        nodes = biases.get(layer.leaf)
        payload.append({
            "wires": f"{NAME}-wires:{place}",
            "nodes": f"{NAME}-nodes:{place}",
            "weights": levels(weights, thickest),
            "biases": None if nodes is None else levels(nodes, brightest),
        })  # fmt: skip
    return element("div", element("h3", "Nodes and wires"), picture), payload


def _diagram(recorded: Recording) -> diagrams.Diagram | None:
    """Returns the recorded diagram, with shortened names."""
    content = recorded.about.get("diagram")
    if not isinstance(content, dict):
        return None
    diagram = diagrams.from_json(content)
    layers = [
        each._replace(name=cut(each.name, LETTERS), activation=cut(each.activation, LETTERS))
        for each in diagram.layers
    ]
    return diagram._replace(layers=tuple(layers))


def _blocks(recorded: Recording) -> Markup | None:
    """Returns the parts of a network as nested boxes, for networks without a diagram of nodes."""
    diagram = _diagram(recorded)
    if diagram is None or diagram.layers or not diagram.outline:
        return None
    caption = (
        "From the input at the top to the output at the bottom, parts inside of others in their"
        " boxes. At the right: the shape of what a part puts out for one example."
    )
    why = diagram.why and f"{diagram.why} "
    return element("figure", _boxes(diagram.outline), element("figcaption", why, caption))


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
        )
        for part in parts[:MOST]
    ]
    if len(parts) > MOST:
        items.append(element("li", element("p", f"… {len(parts) - MOST:,} more")))
    return element("ol", *items, class_="parts")


SECTIONS = (_weights, _activations, _gradients, _network)
