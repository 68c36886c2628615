"""Names at the ends of lines, where the eye asks what a line is: there is no legend to look up."""

from typing import NamedTuple

import numpy as np

from jaxnn.pictures.scheme import INK, TICK
from jaxnn.typing import Any

SPACING = 1.25  # of lines of text


class End(NamedTuple):
    """The end of a line, with what is written there."""

    step: float
    value: float
    colour: str
    text: str


def ends(axes: Any, found: list[End]) -> bool:
    """Writes names right of axes, near the ends of their lines and clear of each other.

    The limits of the axes must be set. Returns whether the names fit: else nothing is written.
    """
    figure = axes.figure
    place = axes.transData + axes.transAxes.inverted()
    tall = axes.get_window_extent().height / figure.dpi * 72  # points
    step = SPACING * TICK / tall
    if not found or len(found) * step > 1.1:
        return False
    at = place.transform([(end.step, end.value) for end in found])
    order = np.argsort(at[:, 1], kind="stable")
    heights = apart(at[order, 1], step)
    for end, (x, y), height in zip((found[i] for i in order), at[order], heights):
        leader = {
            "color": end.colour,
            "clip_on": False,
            "transform": axes.transAxes,
            "gid": "leader",
        }
        axes.plot([1.005, 1.035], [y, height], linewidth=0.7, **leader)
        if x < 0.99:
            axes.plot([x, 1.005], [y, y], linewidth=0.7, linestyle=(0, (1, 2)), **leader)
        axes.text(
            1.045, height, end.text,
            fontsize=TICK, color=INK, va="center_baseline", transform=axes.transAxes,
        )  # fmt: skip
    return True


def apart(heights: Any, step: float) -> Any:
    """Returns ascending heights moved as little as possible, at least `step` from each other.

    Stays within 0 to 1 where that has room. This is isotonic regression: heights that are too near
    become a group around their mean.

    >>> apart(np.array([0.5, 0.5, 0.9]), 0.1).round(3).tolist()
    [0.45, 0.55, 0.9]
    """
    shift = step * np.arange(len(heights))
    groups: list[list[float]] = []
    for target in heights - shift:
        groups.append([target])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    flat = np.concatenate([np.full(len(group), np.mean(group)) for group in groups])
    low, high = step / 3, 1 - step / 3 - shift[-1]
    return np.clip(flat, low, max(low, high)) + shift
