"""What is taken for what: the true classes down, the predicted ones across, a count in each cell.

    confusion(test["labels"], run.predict(test["inputs"]).argmax(-1)).savefig("confusion.png")

The diagonal is what was right. Mistakes have a colour of their own, or they would drown: even a
hundredth of a class is seen.
"""

from collections.abc import Sequence

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.pictures import scheme
from jaxnn.typing import Any, Int

MOST = 1000  # classes
MARGIN = 0.45  # inches, of the width, for what stands left of the cells beside the names
LARGEST = 0.75  # inches, of a cell
KEY = 0.24  # inches, the height of what says what colours mean
LETTER = 0.62 * scheme.TICK  # points, about the width of one
LINE = 1.35 * scheme.TICK  # points, the height of a line
RIGHT, WRONG = scheme.COLOURS[0], scheme.COLOURS[1]
FADING = 0.5  # the power of a share that is its opacity: a share of 1 % is seen


def confusion(labels: Any, predictions: Any, names: Sequence[str] | None = None) -> Any:
    """Returns a matplotlib `Figure` of how often each class was taken for each.

    A cell's colour is its share of the examples of its true class. Numbers are left out where there
    are too many classes for them to be legible; the title says so.

    Args:
      labels: the true classes, `[examples]`, whole numbers from 0.
      predictions: the predicted classes, `[examples]`.
      names: of the classes, in order; none is their numbers.

    Raises:
      InvalidType: if labels or predictions are no whole numbers.
      InvalidValue: if they are not as many, or negative, or there are none; or if the names are
        not as many as the classes.
    """
    pair = _classes("labels", labels), _classes("predictions", predictions)
    if pair[0].shape != pair[1].shape or not pair[0].size:
        raise InvalidValue(
            "confusion",
            "labels and predictions are not of the same examples",
            got=f"labels of shape {pair[0].shape} and predictions of shape {pair[1].shape}",
            expected="[examples] both, at least one",
            fix="Predict for the examples that the labels are of",
        )
    classes = max(2, len(names or ()), 1 + max(int(each.max()) for each in pair))
    if classes > MOST:
        raise InvalidValue(
            "confusion",
            "there are too many classes to be drawn",
            got=f"{classes:,}",
            expected=f"at most {MOST:,}",
            fix="Draw those that matter, with the others as one",
        )
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, pair, 1)
    return confusion_matrix(counts, names)


def confusion_matrix(
    counts: Int[np.ndarray, "true predicted"] | Any, names: Sequence[str] | None = None
) -> Any:
    """Returns the figure of `confusion` for counts, as `jaxnn.metrics.confusion` gives them.

    Args:
      counts: `[true, predicted]`.
      names: of the classes, in order; none is their numbers.

    Raises:
      InvalidValue: if the counts are no such matrix, or the names are not as many.
    """
    from matplotlib.colors import to_rgb

    counts = np.asarray(counts, float)
    classes = len(counts) if counts.ndim else 0
    known = counts.shape == (classes, classes) and classes and (counts >= 0).all()
    if not known or not 0 < counts.sum() < np.inf:
        raise InvalidValue(
            "confusion_matrix",
            "these are no counts of classes taken for classes",
            got=f"an array of shape {counts.shape}"
            + (f" with sum {counts.sum():g}" if known else ""),
            expected="[classes, classes], not negative, some above 0",
            fix="Pass labels and predictions to confusion",
        )
    if names is not None and len(names) != classes:
        raise InvalidValue(
            "confusion",
            "the names are not those of the classes",
            got=f"{len(names)} names for {classes} classes",
            expected="a name for each class",
            fix="Name all, in the order of their numbers",
        )
    counts = np.rint(counts).astype(int)
    of_class = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(of_class, 1)
    right = np.eye(classes, dtype=bool)
    cells = np.zeros((classes, classes, 4))
    cells[..., :3] = np.where(right[..., None], to_rgb(RIGHT), to_rgb(WRONG))
    cells[..., 3] = shares**FADING

    labels = [scheme.elided(str(name), 12) for name in (names or range(classes))]
    longest = LETTER * max(map(len, labels))  # points
    width = min(scheme.WIDTH - MARGIN - longest / 72, LARGEST * classes)
    side = 72 * width / classes  # points, of a cell
    upright = names is not None and longest > 0.9 * side
    below = (longest if upright else LINE) / 72
    figure, (axes, key) = scheme.canvas(
        height=width + below + KEY + 1.05, rows=2, height_ratios=[width, KEY]
    )
    axes.imshow(cells, interpolation="none", aspect="equal")
    axes.set_anchor("W")
    for spine in axes.spines.values():
        spine.set(visible=True, color=scheme.GRID)
    every = _every(classes, side, LINE if upright else max(LINE, 1.3 * longest))
    places = np.arange(0, classes, every)
    shown = [labels[place] for place in places]
    axes.set_xticks(places, shown, rotation=90 if upright else 0)
    axes.set_yticks(places, shown)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    written = _write(axes, counts, cells[..., 3], side)
    total, hits = int(counts.sum()), int(np.trace(counts))
    title = f"{hits:,} of {total:,} right: {_percent(hits / total)}"
    scheme.titled(axes, title + ("" if written else f"\n{classes} classes, too many for numbers"))
    _key(key)
    missing = int((of_class == 0).sum())
    scheme.noted(figure, f"{missing} of the classes have no example." if missing else "")
    return figure


def _classes(name: str, values: Any) -> Any:
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.integer) or values.ndim != 1:
        raise InvalidType(
            "confusion",
            f"{name} are no classes",
            got=f"an array of dtype {values.dtype} and shape {values.shape}",
            expected="whole numbers, [examples]",
            fix="Pass outputs.argmax(-1)" if values.ndim == 2 else "Pass the classes' numbers",
        )
    if values.size and values.min() < 0:
        raise InvalidValue(
            "confusion",
            f"{name} are negative",
            got=f"{values.min()} among them",
            expected="classes, which are numbered from 0",
            fix="Leave out the examples that have no class: labels[labels >= 0]",
        )
    return values


def _write(axes: Any, counts: Any, opacity: Any, side: float) -> bool:
    """Writes the counts into their cells, zeros left out; returns whether there was room."""
    if LETTER * max(len(_short(count)) for count in counts.ravel().tolist()) > side or LINE > side:
        return False
    for (row, column), count in np.ndenumerate(counts):
        if count:
            dark = opacity[row, column] > (0.6 if row == column else 0.8)
            axes.text(
                column, row, _short(int(count)),
                ha="center", va="center_baseline", fontsize=scheme.TICK,
                color=scheme.LIGHT if dark else scheme.INK,
            )  # fmt: skip
    return True


def _every(classes: int, side: float, needed: float) -> int:
    """Returns of how many classes one is named, such that the names have room."""
    steps = [step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if step * side >= needed]
    return steps[0] if steps else classes


def _key(axes: Any) -> None:
    """Draws what the colours mean: right above wrong, by their share of a class."""
    from matplotlib.colors import to_rgb

    rising = np.zeros((2, 101, 4))
    rising[..., :3] = np.array([to_rgb(RIGHT), to_rgb(WRONG)])[:, None]
    rising[..., 3] = np.linspace(0, 1, 101)
    axes.imshow(rising, aspect="auto", extent=(0, 1, 2, 0), interpolation="none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    shares = np.array([0, 0.01, 0.1, 0.25, 0.5, 1])
    axes.set_xticks(shares**FADING, [f"{share:.0%}" for share in shares])
    axes.set_yticks([0.5, 1.5], ["right", "wrong"])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the true class")


def _short(count: int) -> str:
    """Returns a count in at most four letters, or five: thousands are k, and millions M."""
    if count < 10_000:
        return str(count)
    return f"{count / 1e3:.0f}k" if count < 999_500 else f"{count / 1e6:.3g}M"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 0.9995 or share == 1 else "over 99.9 %"
