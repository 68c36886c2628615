"""Labels: short, distinct names of layers, and names at the ends of lines.

A common prefix and suffix of all names is removed first. If names are still too long, parts that
have no alternatives at their place are removed, and then further parts, the most frequent first,
as long as the names remain distinct.

>>> inner = ("attention/branch/key", "attention/branch/query", "mlp/branch/hidden")
>>> shortened(["tokens/weight", *(f"body/block_2/{name}/weight" for name in inner)], 20)
['tokens', 'body/block 2/key', 'body/block 2/query', 'body/block 2/mlp']
"""

from collections import Counter
from collections.abc import Sequence
from os.path import commonprefix
from typing import NamedTuple

import numpy as np

from jaxnn.markup import cut
from jaxnn.pictures.scheme import INK, TICK, Axes, words

MOST = 64  # the largest number of parts that are tried for removal


def shortened(names: Sequence[str], letters: int = 18) -> list[str]:
    """Returns names without their common prefix and suffix, and with at most `letters` characters.

    A part that a number counts stays before the number: `layers/0`. Different names have different
    labels.

    >>> shortened(["layers/hidden_1/weight", "layers/output/weight"])
    ['hidden 1', 'output']
    """
    parts = _trimmed([tuple(name.split("/")) for name in names])

    def excess(gone: Sequence[str]) -> float:
        """Returns the number of excess characters, infinite if the names are not distinct."""
        labels = [_label(name, gone) for name in parts]
        if not all(labels) or len(set(labels)) < len(set(names)):
            return np.inf
        return sum(max(0, len(label) - letters) for label in labels)

    if excess(()):
        parts = _telling(parts)
    times = Counter(part for name in parts for part in dict.fromkeys(name))
    gone: list[str] = []
    least = excess(gone)
    for part, count in times.most_common(MOST):
        now = excess([*gone, part]) if count > 1 else least
        if now < least:
            least, gone = now, [*gone, part]
    # Parts whose removal is no longer needed after the later removals are restored.
    for part in reversed(gone):
        fewer = [each for each in gone if each != part]
        gone = fewer if excess(fewer) == least else gone
    labels = [cut(_label(name, gone), letters) for name in parts]
    # Labels that several names share are numbered.
    owners: dict[str, list[str]] = {}
    for name, label in dict.fromkeys(zip(names, labels)):
        owners.setdefault(label, []).append(name)
    for place, (name, label) in enumerate(zip(names, labels)):
        if len(owners[label]) > 1:
            mark = f" ({owners[label].index(name) + 1})"
            labels[place] = cut(label, letters - len(mark)) + mark
    return labels


def _trimmed(parts: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Removes the common prefix and suffix of the names, except for parts that a number counts."""
    end = len(commonprefix([name[:0:-1] for name in parts]))
    parts = [name[: len(name) - end] for name in parts]
    shared = len(commonprefix([name[:-1] for name in parts]))
    counting = (i for i in range(shared) if any(name[i + 1].isdigit() for name in parts))
    begin = next(counting, shared)
    return [name[begin:] for name in parts]


def _telling(parts: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Removes the parts of names that always follow from the parts before them."""
    after: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for name in parts:
        for place in range(len(name) + 1):
            after.setdefault(name[:place], set()).add(name[place : place + 1])
    return [
        tuple(
            part
            for place, part in enumerate(name)
            if not place or len(after[name[:place]]) > 1 or _counts(name, place)
        )
        for name in parts
    ]


def _label(name: tuple[str, ...], gone: Sequence[str]) -> str:
    """Returns a name without some of its parts; numbers and the parts that they count remain."""
    places = enumerate(name)
    return words("/".join(part for i, part in places if part not in gone or _counts(name, i)))


def _counts(name: tuple[str, ...], place: int) -> bool:
    """Returns whether a part of a name ends with a digit, or is followed by a number."""
    return name[place][-1:].isdigit() or "".join(name[place + 1 : place + 2]).isdigit()


SPACING = 1.25  # the distance between lines of text, as a multiple of the text size


class End(NamedTuple):
    """The end of a line in a plot, with its label."""

    step: float
    value: float
    colour: str
    text: str


def ends(axes: Axes, endings: list[End], tall: float) -> bool:
    """Writes labels to the right of axes that are `tall` points high, near the ends of their lines.

    The labels do not overlap. Returns whether they fit; if they do not, nothing is drawn.
    """
    axes.autoscale_view()  # matplotlib sets the limits only on demand
    place = axes.transData + axes.transAxes.inverted()
    step = SPACING * TICK / tall
    if not endings or len(endings) * step > 1.1:
        return False
    at = place.transform([(end.step, end.value) for end in endings])
    order = np.argsort(at[:, 1], kind="stable")
    heights = apart(at[order, 1], step)
    for end, (x, y), height in zip((endings[i] for i in order), at[order], heights):
        inside = {"transform": axes.transAxes}
        leader = {"color": end.colour, "clip_on": False, "linewidth": 0.7, **inside}
        axes.plot([1.005, 1.035], [y, height], **leader)
        if x < 0.99:
            axes.plot([x, 1.005], [y, y], linestyle=(0, (1, 2)), **leader)
        style = {"fontsize": TICK, "color": INK, "parse_math": False, **inside}
        axes.text(1.045, height, end.text, va="center_baseline", **style)
    return True


def apart(heights: np.ndarray, step: float) -> np.ndarray:
    """Moves ascending heights as little as possible, so that they are at least `step` apart.

    The heights stay within 0 to 1 if there is room. This is isotonic regression: heights that are
    too close form a group around their mean.

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
