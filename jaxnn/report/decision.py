"""What a network with two inputs decides, everywhere in the plane, at each moment."""

from typing import Any

import numpy as np

from jaxnn.pictures.scheme import COLOURS
from jaxnn.records.recording import Recording
from jaxnn.report.examples import names_of, probabilities
from jaxnn.report.markup import Markup, element, join
from jaxnn.report.packed import shares, text
from jaxnn.report.stacks import stacked

FINE = 32  # points along each side that a page carries; a browser blends them


def decision(recorded: Recording) -> tuple[Markup, dict[str, Any]] | None:
    """Returns the place of the map, and what is drawn there: the class and how sure it is."""
    outputs, about = stacked(recorded.frames, "boundary"), recorded.about
    if outputs is None or outputs.ndim != 4 or 0 in outputs.shape:
        return None
    every = max(1, outputs.shape[1] // FINE)
    outputs = outputs[:, ::every, ::every]
    chances = probabilities(outputs, about.get("classes"))
    if chances is not None and chances.shape[-1] <= len(COLOURS):
        classes = np.nan_to_num(chances).argmax(-1)
        least = 1 / chances.shape[-1]
        strength = (chances.max(-1) - least) / (1 - least)
        names = names_of(about)[: chances.shape[-1]]
        key = join(
            " The colours: ",
            *[
                part
                for place, name in enumerate(names)
                for part in (", ", element("i", style=f"background:{COLOURS[place]}"), f" {name}")
            ][1:],
            ". The stronger, the surer.",
        )
    elif outputs.shape[-1] == 1:
        values = outputs[..., 0]
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        classes, strength = np.zeros(values.shape), (values - low) / ((high - low) or 1.0)
        key = join(f" The stronger the colour, the larger: from {low:.3g} to {high:.3g}.")
    else:
        return None
    label = "What the network says for every pair of inputs"
    words = f"{label}: to the right the first one, upwards the second."
    picture = element(
        "figure",
        element("h3", "What it decides"),
        element("canvas", id="surface", role="img", aria_label=label),
        element("figcaption", words, key),
        class_="surface",
    )
    told = {"strength": shares(strength), "of": text(classes.astype(np.uint8).tobytes())}
    return picture, told | {"points": _points(recorded)}


def _points(recorded: Recording) -> list[list[float]]:
    """Returns the examples that are shown: where they are, from 0 to 1, and their classes."""
    ground, probe = recorded.about.get("ground") or [], recorded.probe
    inputs, labels = probe.get("inputs"), probe.get("labels")
    if len(ground) != 2 or inputs is None or labels is None or inputs.shape[1:] != (2,):
        return []
    low, high = np.array(ground, float).T
    places = (inputs - low) / (high - low)
    labels = labels.reshape(len(labels), -1)[:, 0]
    whole = bool(recorded.about.get("classes"))
    return [
        [round(float(x), 4), round(float(y), 4), int(label) if whole else -1]
        for (x, y), label in zip(places, labels)
        if 0 <= x <= 1 and 0 <= y <= 1
    ]
