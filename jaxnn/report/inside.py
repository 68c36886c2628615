"""Inside of the network: its weights, what its nodes give, and how far the gradient reaches."""

from collections.abc import Sequence

import numpy as np

from jaxnn.markup import Markup
from jaxnn.pictures._gradient_flow import gradient_flow
from jaxnn.pictures.histograms import activations, weights
from jaxnn.report.drawn import drawn, lettered
from jaxnn.report.sections import Section
from jaxnn.report.source import Source
from jaxnn.storage.recording import Frame

TIMES = 8  # of all moments, so many are drawn
LONG = 400  # letters of a name, that nobody but a stranger exceeds


def sections(source: Source) -> list[Section]:
    """Returns the sections about what is inside."""
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
    ]


def _histograms(frames, prefix, picture, name, title) -> Markup | None:
    kept = {frame.step: _leaves(frame, prefix) for frame in _some(frames)}
    kept = {step: leaves for step, leaves in kept.items() if leaves}
    return drawn(picture(kept), name, title) if kept else None


def _gradients(frames: Sequence[Frame]) -> Markup | None:
    kept = {frame.step: _leaves(frame, "gradients/") for frame in _some(frames)}
    kept = {
        step: {name: float(np.asarray(v)) for name, v in leaves.items() if v.ndim == 0}
        for step, leaves in kept.items()
        if leaves
    }
    return drawn(gradient_flow(kept), "gradients-picture", "Gradients over time") if kept else None


def _leaves(frame: Frame, prefix: str) -> dict[str, np.ndarray]:
    """Returns what a moment has of each layer; of its parameters the weights, if it has any."""
    # Names stay whole, so that no two become the same; the picture finds labels for all of them.
    found = {
        lettered(n.removeprefix(prefix), LONG): a
        for n, a in frame.arrays.items()
        if n.startswith(prefix)
    }
    weights = {name: array for name, array in found.items() if name.endswith("weight")}
    return weights or found


def _some(frames: Sequence[Frame]) -> list[Frame]:
    """Returns some of the moments, the first and the last among them."""
    places = np.unique(np.linspace(0, len(frames) - 1, min(TIMES, len(frames))).round().astype(int))
    return [frames[place] for place in places] if len(frames) else []
