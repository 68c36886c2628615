"""Draws a confusion matrix, with true classes as rows and predicted classes as columns.

    confusion(test["labels"], run.predict(test["inputs"]).argmax(-1)).savefig("confusion.png")

The diagonal holds the correct predictions. Mistakes have a colour of their own, so that even 1 % of
a class is visible.
"""

from collections.abc import Sequence

import numpy as np

from jaxnn.markup import cut
from jaxnn.pictures import scheme
from jaxnn.pictures.arguments import check_shapes, classes_of, names_of
from jaxnn.pictures.scheme import Axes, Figure
from jaxnn.typing import Any, Int

MOST = 1000  # the largest number of classes
MARGIN = 0.45  # inches to the left of the cells, in addition to the names
LARGEST = 0.75  # inches, the largest side of a cell
KEY = 0.24  # inches, the height of the colour key
LETTER = 0.62 * scheme.TICK  # points, the approximate width of a letter
LINE = 1.35 * scheme.TICK  # points, the height of a line
FADING = 0.5  # the power of a share that is its opacity, so that a share of 1 % is visible


def confusion(labels: Any, predictions: Any, names: Sequence[str] | None = None) -> Figure:
    """Returns a matplotlib `Figure` of how often each true class is predicted as each class.

    The opacity of a cell grows with its share of the examples of the true class. If there are too
    many classes for legible counts, the counts are omitted, and the title says so.

    Args:
      labels: the true classes, `[examples]`, integers from 0.
      predictions: the predicted classes, `[examples]`.
      names: the names of the classes, in order. The default is their numbers.

    Raises:
      InvalidType: if the labels or predictions are not integers.
      InvalidValue: if their numbers differ, if one is negative, if there are no examples, or if the
        number of names is not the number of classes.
    """
    pair = (
        classes_of("confusion", "labels", labels, MOST),
        classes_of("confusion", "predictions", predictions, MOST),
    )
    check_shapes(
        "confusion",
        pair[0].shape == pair[1].shape and pair[0].size,
        expected="[examples] both, at least one",
        fix="Predict the examples that the labels belong to",
        labels=labels,
        predictions=predictions,
    )
    classes = max(2, len(names or ()), 1 + np.max(pair))
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, pair, 1)
    return confusion_matrix(counts, names)


def confusion_matrix(
    counts: Int[np.ndarray, "true predicted"] | Any, names: Sequence[str] | None = None
) -> Figure:
    """Returns the figure of `confusion` from counts, such as those of `jaxnn.metrics.confusion`.

    Args:
      counts: `[true, predicted]`, the number of examples in each cell.
      names: the names of the classes, in order. The default is their numbers.

    Raises:
      InvalidValue: if the counts are not such a matrix, or the number of names does not match.
    """
    from matplotlib.colors import to_rgb

    counts = np.asarray(counts, float)
    classes = len(counts) if counts.ndim else 0
    check_shapes(
        "confusion_matrix",
        counts.shape == (classes, classes) and (counts >= 0).all() and 0 < counts.sum() < np.inf,
        expected="[classes, classes], not negative, with a finite sum above 0",
        fix="Pass labels and predictions to confusion",
        counts=counts,
    )
    labels = names_of("confusion_matrix", "names", names, classes)
    counts = np.rint(counts).astype(int)
    of_class = counts.sum(1, keepdims=True)
    right = np.eye(classes, dtype=bool)[..., None]
    opacity = (counts / np.maximum(of_class, 1)) ** FADING
    cells = np.dstack([np.where(right, to_rgb(scheme.RIGHT), to_rgb(scheme.WRONG)), opacity])

    labels = [cut(name, 12) for name in labels]
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
    axes.spines[:].set(visible=True, color=scheme.GRID)
    # If there is no room for all names, only every n-th class is named.
    room = LINE if upright else max(LINE, 1.3 * longest)
    every = next((n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if n * side >= room), classes)
    places = range(0, classes, every)
    axes.set_xticks(places, labels[::every], rotation=90 if upright else 0, parse_math=False)
    axes.set_yticks(places, labels[::every], parse_math=False)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    written = _write(axes, counts, opacity, side)
    total, hits = int(counts.sum()), int(np.trace(counts))
    share = "over 99.9 %" if 0.9995 <= hits / total < 1 else f"{100 * hits / total:.3g} %"
    title = f"{hits:,} of {total:,} right: {share}"
    scheme.titled(axes, title + ("" if written else f"\n{classes} classes, too many for numbers"))
    _key(key)
    missing = (of_class == 0).sum()
    have = "has" if missing == 1 else "have"
    scheme.noted(figure, f"{missing} of the classes {have} no example." if missing else "")
    return figure


def _write(axes: Axes, counts: np.ndarray, opacity: np.ndarray, side: float) -> bool:
    """Writes the counts other than 0 into their cells; returns whether there is room for them."""
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


def _key(axes: Axes) -> None:
    """Draws the colour key: right above wrong, by share of a class."""
    from matplotlib.colors import to_rgb

    rising = np.empty((2, 101, 4))
    rising[..., :3] = np.array([to_rgb(scheme.RIGHT), to_rgb(scheme.WRONG)])[:, None]
    rising[..., 3] = np.linspace(0, 1, 101)
    axes.imshow(rising, aspect="auto", extent=(0, 1, 2, 0), interpolation="none")
    axes.spines[:].set_visible(False)
    shares = np.array([0, 0.01, 0.1, 0.25, 0.5, 1])
    axes.set_xticks(shares**FADING, [f"{share:.0%}" for share in shares])
    axes.set_yticks([0.5, 1.5], ["right", "wrong"])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the true class")


def _short(count: int) -> str:
    """Returns a count in at most five characters, with k for thousands and M for millions."""
    if count < 10_000:
        return str(count)
    return f"{count / 1e3:.0f}k" if count < 999_500 else f"{count / 1e6:.3g}M"
