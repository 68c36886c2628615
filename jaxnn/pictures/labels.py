"""Labels: short names of layers, of which no two are the same, and names at the ends of lines.

What all names begin or end with tells nothing. If what is left is still too long for a picture,
neither does what has nothing beside it; then parts of the names are left out, the commonest first,
as long as the names can be distinguished.

>>> inner = ("look/branch/attention/key", "look/branch/attention/query", "think/branch/hidden")
>>> shortened(["tokens/weight", *(f"body/block_2/{name}/weight" for name in inner)], 20)
['tokens', 'block 2/look/key', 'block 2/look/query', 'block 2/think']
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.pictures.scheme import INK, TICK, elided, words
from jaxnn.typing import Any

MOST = 64  # parts that are tried, however many a file of anybody's has
Parts = list[tuple[str, ...]]  # of each name


def shortened(names: Sequence[str], letters: int = 18) -> list[str]:
    """Returns names without what all of them begin or end with, and none longer than `letters`.

    What a number counts stays before it: `layers/0`. Different names have different labels.

    >>> shortened(["layers/hidden_1/weight", "layers/output/weight"])
    ['hidden 1', 'output']
    """
    parts = _trimmed([tuple(name.split("/")) for name in names])
    if _excess(parts, letters):
        parts = _telling(parts)
    count, gone = len(set(names)), []
    for part in _commonest(parts):
        more = _without(parts, [*gone, part])
        apart = all(more) and len(set(_labels(more))) == count
        if apart and _excess(more, letters) < _excess(_without(parts, gone), letters):
            gone.append(part)
    # What need not have gone, since what went after it has left room enough, is taken back.
    for part in reversed(gone):
        fewer = [each for each in gone if each != part]
        less = _without(parts, fewer)
        apart = len(set(_labels(less))) == count
        if apart and _excess(less, letters) == _excess(_without(parts, gone), letters):
            gone = fewer
    parts = _without(parts, gone)
    labels = [elided(label, letters) for label in _labels(parts)]
    return _numbered(names, labels, letters)


def _trimmed(parts: Parts) -> Parts:
    """Returns names without what all of them begin or end with."""
    for end, rest in ((-1, slice(-1)), (0, slice(1, None))):
        while (
            all(len(name) > 1 for name in parts)
            and len({name[end] for name in parts}) == 1
            and not (end == 0 and any(name[1].isdigit() for name in parts))
        ):
            parts = [name[rest] for name in parts]
    return parts


def _telling(parts: Parts) -> Parts:
    """Returns names without what follows from what stands before it: in one place, it is all."""
    after: dict[tuple[str, ...], set[str]] = {}
    for name in parts:
        for place, each in enumerate((*name, "")):
            after.setdefault(name[:place], set()).add(each)
    return [
        tuple(
            each
            for place, each in enumerate(name)
            if not place or len(after[name[:place]]) > 1 or _counts(name, place)
        )
        for name in parts
    ]


def _commonest(parts: Parts) -> list[str]:
    """Returns what several names have, the commonest first."""
    times = Counter(each for name in parts for each in dict.fromkeys(name))
    return [part for part, count in times.most_common() if count > 1][:MOST]


def _without(parts: Parts, gone: Sequence[str]) -> Parts:
    """Returns names without some of their parts, but for numbers and what they count."""
    return [
        tuple(each for place, each in enumerate(name) if each not in gone or _counts(name, place))
        for name in parts
    ]


def _counts(name: tuple[str, ...], place: int) -> bool:
    """Whether a part of a name has a number, or is followed by one."""
    return name[place][-1:].isdigit() or "".join(name[place + 1 : place + 2]).isdigit()


def _excess(parts: Parts, letters: int) -> int:
    """Returns how many letters there are too many."""
    return sum(max(0, len(label) - letters) for label in _labels(parts))


def _labels(parts: Parts) -> list[str]:
    return [words("/".join(name)) for name in parts]


def _numbered(names: Sequence[str], labels: list[str], letters: int) -> list[str]:
    """Returns labels of which those that several names have are numbered."""
    having: dict[str, list[str]] = {}
    for name, label in zip(names, labels):
        having.setdefault(label, []).append(name)
    numbered = []
    for name, label in zip(names, labels):
        others = [*dict.fromkeys(having[label])]
        mark = f" ({others.index(name) + 1})" if len(others) > 1 else ""
        numbered.append(elided(label, letters - len(mark)) + mark)
    return numbered


SPACING = 1.25  # of lines of text


class End(NamedTuple):
    """The end of a line, with what is written there."""

    step: float
    value: float
    colour: str
    text: str


def ends(axes: Any, endings: list[End]) -> bool:
    """Writes names right of axes, near the ends of their lines and clear of each other.

    The limits of the axes must be set. Returns whether the names fit: else nothing is written.
    """
    figure = axes.figure
    place = axes.transData + axes.transAxes.inverted()
    tall = axes.get_window_extent().height / figure.dpi * 72  # points
    step = SPACING * TICK / tall
    if not endings or len(endings) * step > 1.1:
        return False
    at = place.transform([(end.step, end.value) for end in endings])
    order = np.argsort(at[:, 1], kind="stable")
    heights = apart(at[order, 1], step)
    for end, (x, y), height in zip((endings[i] for i in order), at[order], heights):
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
    become a group with their mean in its middle.

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
