"""The nodes and wires of a network, and what each of them was at each moment of the training."""

from typing import Any, NamedTuple

import numpy as np

from jaxnn.records.recording import Recording
from jaxnn.report.markup import Markup, element
from jaxnn.report.packed import levels

PREFIX = "net"


class Wiring(NamedTuple):
    """A network as nodes and wires.

    Attributes:
      picture: of the last moment.
      told: for each layer its number, and its wires at all moments, `[moments, from, to]`.
    """

    picture: Markup
    told: dict[str, Any]


def wiring(recorded: Recording) -> Wiring | None:
    """Returns the nodes and wires of a network, if it is drawn as such, and they were recorded."""
    from jaxnn.report.learning import stacked

    drawn = recorded.about.get("diagram")
    if not isinstance(drawn, dict):
        return None
    from jaxnn.pictures import diagram as diagrams
    diagram = diagrams.from_json(drawn)
    layers = diagram.layers[1:]
    wires = {layer.leaf: stacked(recorded.frames, f"wires/{layer.leaf}") for layer in layers}
    if not layers or any(each is None or each.ndim != 3 for each in wires.values()):
        return None
    return Wiring(Markup(""), {})
