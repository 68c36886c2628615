"""The nodes and wires of a network, and what each of them was at each moment of the training."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnn.markup import Markup, element, quoted
from jaxnn.pictures import diagram as diagrams
from jaxnn.pictures import scheme
from jaxnn.pictures._network import draw
from jaxnn.pictures.outline import Part
from jaxnn.report.drawn import drawn, lettered
from jaxnn.report.examples import names_of
from jaxnn.report.packed import levels
from jaxnn.report.stacks import stacked
from jaxnn.storage.recording import Recording

NAME = "net"
MOST = 100  # parts in one box


class Wiring(NamedTuple):
    """A network as nodes and wires.

    Attributes:
      picture: of the last moment.
      told: of each layer how its wires and its nodes are named in the picture, and what they were
        at all moments: `[moments, from, to]` and `[moments, to]`.
    """

    picture: Markup
    told: list[dict[str, Any]]


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
    told = []
    for number, layer in enumerate(layers, start=1):
        one: dict[str, Any] = {
            "wires": f"{NAME}-wire:{number}:",
            "nodes": f"{NAME}-node:{number}:",
            "weights": levels(known[layer.leaf], thickest),
        }
        if layer.leaf in fills:
            one["biases"] = levels(fills[layer.leaf], brightest)
        told.append(one)
    heading = element("h3", "Its nodes and wires")
    return Wiring(element("div", heading, drawn(figure, NAME, title, caption)), told)


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
