"""The decision map of a network with two inputs, at each recorded step."""

from typing import Any

import numpy as np

from jaxnn.markup import Markup, element, join, listing
from jaxnn.pictures.scheme import CLASSES, SIGNED, number
from jaxnn.report.examples import names_of, probabilities
from jaxnn.report.packed import shares, stacked, text
from jaxnn.report.sections import filled
from jaxnn.storage.recording import Recording

FINE = 32  # resolution of the map along each side; the browser interpolates


def decision(recorded: Recording) -> tuple[Markup, dict[str, Any]] | None:
    """Returns the element for the map, and its data: the class and its probability."""
    outputs, about = stacked(recorded.frames, "boundary"), recorded.about
    if outputs is None or outputs.ndim != 4 or 0 in outputs.shape:
        return None
    every = max(1, outputs.shape[1] // FINE)
    outputs = outputs[:, ::every, ::every]
    chances, names = probabilities(outputs, about), []
    if chances is not None and chances.shape[-1] <= len(CLASSES):
        classes = np.nan_to_num(chances).argmax(-1)
        least = 1 / chances.shape[-1]
        strength = (chances.max(-1) - least) / (1 - least)
        names = names_of(about)[: chances.shape[-1]]
        dots = listing((join(_dot(CLASSES[i]), f" {name}") for i, name in enumerate(names)), ", ")
        key = join(" The colours: ", dots, ". The stronger, the surer.")
    elif outputs.shape[-1] == 1:
        values = outputs[..., 0]
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        classes, strength = np.zeros(values.shape), (values - low) / ((high - low) or 1.0)
        ends = [number(float(end), 3) for end in (low, high)]
        key = join(f" The stronger the colour, the larger: from {ends[0]} to {ends[1]}.")
        if low < 0 < high:  # the sign has its own colours
            classes, strength = values < 0, np.abs(values) / max(-low, high)
            above, below = f" above 0, up to {ends[1]}, ", f" below 0, down to {ends[0]}."
            key = join(" The colours: ", _dot(SIGNED[2]), above, _dot(SIGNED[0]), below)
            key = join(key, " The stronger, the farther from 0.")
        if finite.size < values.size:
            key = join(key, " At some moments it is not finite: nothing is drawn there.")
    else:
        return None
    bounds = about.get("plot_bounds") or []
    bounds = bounds if len(bounds) == 2 else []
    points, rings = _points(recorded, bounds), None
    if points:
        fill = "filled with the colour of what it is" if points[0][2] >= 0 else "in black"
        rings = f" Each ring is an example, {fill}."
    picture = filled("surface.html", map=_map(bounds), key=key, rings=rings)
    payload = {"strength": shares(strength), "of": text(classes.astype(np.uint8).tobytes())}
    payload["colours"] = [*CLASSES] if names else [SIGNED[2], SIGNED[0]]
    return picture, payload | {"points": points}


def _dot(colour: str) -> Markup:
    return element("i", style=f"background:{colour}")


def _map(bounds: list[list[float]]) -> Markup:
    """Returns the map with labels and ranges of its axes, if they are known."""
    label = "What the network says for every pair of inputs"
    canvas = element("canvas", id="surface", role="img", aria_label=label)
    if not bounds:
        return canvas
    right, up = ([number(float(end), 3) for end in ends] for ends in bounds)
    axes = {"up": (up[1], "second input", up[0]), "along": (right[0], "first input", right[1])}
    beside, below = (
        element("div", *[element("span", each) for each in labels], class_=name, aria_hidden="true")
        for name, labels in axes.items()
    )
    return element("div", beside, canvas, below, class_="plane")


def _points(recorded: Recording, bounds: list[list[float]]) -> list[list[float]]:
    """Returns the positions of the shown examples, from 0 to 1, and their classes."""
    inputs, labels = (recorded.probe.get(name) for name in ("inputs", "labels"))
    if not bounds or inputs is None or labels is None or inputs.shape[1:] != (2,):
        return []
    low, high = np.array(bounds, float).T
    places = (inputs - low) / (high - low)
    labels = labels.reshape(len(labels), -1)[:, 0]
    has_classes = bool(recorded.about.get("classes"))
    return [
        [round(float(x), 4), round(float(y), 4), int(label) if has_classes else -1]
        for (x, y), label in zip(places, labels)
        if 0 <= x <= 1 and 0 <= y <= 1
    ]
