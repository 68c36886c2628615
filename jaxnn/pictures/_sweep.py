"""Draws a heat map of a metric over two of the settings that were varied; bright is good.

sweep({"learning_rate": rates, "seed": seeds}, losses, "test/loss").savefig("losses.png")
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.metrics import lower_is_better
from jaxnn.pictures import scheme
from jaxnn.pictures.scheme import Axes, Figure
from jaxnn.typing import Any, Num

LETTERS = 32  # the number of characters that fit along an axis
SPREAD = 5.0  # the ratio of the largest number to the median from which a scale is logarithmic
NONE: dict[str, Any] = {
    "facecolor": scheme.GRID, "edgecolor": scheme.FAINT, "hatch": "/////", "linewidth": 0.0,
}  # fmt: skip


def sweep(
    columns: Mapping[str, Sequence[Any]],
    values: Sequence[float] | Num[np.ndarray, "runs"],
    name: str,
    lower: bool | None = None,
) -> Figure:
    """Returns a matplotlib `Figure` of a metric over the first two columns that vary.

    A cell is the mean over all other columns. If some pairs of values have no run, as in a random
    search, the pairs that have runs are drawn as points instead of cells.

    Args:
      columns: the settings that were varied, by name, with `[runs]` numbers or strings each.
      values: the metric of each run, `[runs]`; NaN if the run diverged.
      name: the name of the metric, such as `"test/loss"`.
      lower: whether low values are good. The default depends on the name of the metric.

    Raises:
      InvalidValue: if there are no runs, or the columns and the values differ in length.
    """
    lengths = {column: len(each) for column, each in columns.items()}
    if not len(values) or set(lengths.values()) != {len(values)}:
        raise InvalidValue(
            "sweep",
            "the columns and the values differ in length",
            got=f"{len(values)} values, and columns of {lengths or 'nothing'}",
            expected="one value for each run, and each column as long",
            fix="Pass run.table's columns, and one of them as values",
        )
    varied = [column for column in columns if len(set(columns[column])) > 1] or list(columns)[:1]
    x = _axis(varied[0], columns[varied[0]])
    y = _axis(varied[1], columns[varied[1]]) if varied[1:] else _axis("", [0] * len(values))
    means, pairs = _means(x, y, np.asarray(values, float))
    figure, axes = scheme.canvas(height=0.8 * scheme.WIDTH)
    are_cells = bool(pairs.all())
    places = (range(len(axis.values)) if are_cells else axis.numbers for axis in (x, y))
    lower = lower_is_better(name) if lower is None else lower
    right, up = np.meshgrid(*places)
    shown, explained = _draw(axes, right, up, means, pairs, lower)
    _label(axes, "x", x, are_cells)
    _label(axes, "y", y, are_cells)
    scheme.key(figure, shown, name, ax=axes, fraction=0.05, pad=0.03)
    # A column that varies along with the axes, as in a random search, is constant within a cell.
    over = [c for c in varied[2:] if len(set(zip(x.places, y.places, columns[c]))) > pairs.sum()]
    if over:
        scheme.titled(axes, "mean over " + ", ".join(map(scheme.words, over)))
    scheme.legend(figure, "outside lower center", 2, handles=explained)
    return figure


class _Axis(NamedTuple):
    """A column as an axis: its distinct values in order, and their positions."""

    name: str
    values: list[Any]
    are_numbers: bool
    places: np.ndarray  # the index in `values` for each run
    numbers: np.ndarray  # the positions of the values, if they are drawn as points
    is_log: bool


def _axis(name: str, column: Sequence[Any]) -> _Axis:
    are_numbers = all(isinstance(value, int | float | np.number) for value in column)
    values = sorted(set(column)) if are_numbers else list(dict.fromkeys(column))
    places = np.array([values.index(value) for value in column])
    numbers = np.array(values if are_numbers else range(len(values)), float)
    return _Axis(name, values, are_numbers, places, numbers, are_numbers and _is_spread(numbers))


def _is_spread(numbers: np.ndarray) -> bool:
    return bool(numbers.min() > 0 and numbers.max() > SPREAD * np.median(numbers))


def _means(x: _Axis, y: _Axis, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean of each pair, NaN if no run is finite, and which pairs have runs."""
    shape, at = (len(y.values), len(x.values)), (y.places, x.places)
    total, count, pairs = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
    np.add.at(total, at, np.where(np.isfinite(values), values, 0.0))
    np.add.at(count, at, np.isfinite(values))
    pairs[at] = True
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0), pairs


def _draw(
    axes: Axes, right: Any, up: Any, means: np.ndarray, pairs: np.ndarray, lower: bool
) -> tuple[Any, list[Any]]:
    """Draws the means as cells, or as points if some pairs have no run, and marks the best.

    Returns the coloured image or points, and the legend handles.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.patches import Patch

    known, lost = np.isfinite(means), pairs & np.isnan(means)
    ends = means[known] if known.any() else np.array([0.0, 1.0])
    # Losses can span orders of magnitude, because some runs come close to diverging.
    norm = LogNorm if lower and _is_spread(ends) else Normalize
    colours = {"cmap": scheme.AMOUNT + "_r" * lower, "norm": norm(ends.min(), ends.max())}
    if pairs.all():
        image = np.ma.masked_invalid(means)
        shown = axes.imshow(image, origin="lower", aspect="auto", **colours)
    else:
        style = {"s": 28, "linewidths": 0.4, "edgecolors": scheme.FAINT, **colours}
        shown = axes.scatter(right[known], up[known], c=means[known], **style)
    explained: list[Any] = []
    if known.any():
        best = (np.nanargmin if lower else np.nanargmax)(means)
        explained += axes.plot(
            right.flat[best], up.flat[best], "o", label=f"best: {means.flat[best]:.4g}",
            markersize=6, markerfacecolor="none", markeredgecolor=scheme.MARK, markeredgewidth=1.2,
        )  # fmt: skip
    if lost.any() and pairs.all():
        axes.patch.set(**NONE)  # visible where a cell has no colour
        explained.append(Patch(label="diverged", **NONE))
    elif lost.any():
        crosses = {"marker": "x", "color": scheme.FAINT, "s": 24, "linewidths": 1.0}
        explained.append(axes.scatter(right[lost], up[lost], label="diverged", **crosses))
    return shown, explained


def _label(axes: Axes, side: str, column: _Axis, are_cells: bool) -> None:
    """Labels an axis, and as many of its cells as fit, or round numbers if points are drawn."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_label_text(scheme.words(column.name))
    if column.are_numbers and not are_cells:
        if column.is_log:
            axes.set(**{f"{side}scale": "log"})
            scheme.logarithmic(axis, column.values[0], column.values[-1])
        else:
            scheme.linear(axis)
        return
    labels, count, every = list(map(str, column.values)), len(column.values), 1
    how: dict[str, Any] = {"parse_math": False}
    if column.are_numbers:
        digits = [None if float(value).is_integer() else 3 for value in column.values]
        labels = list(map(scheme.number, column.values, digits))
        steps = [n for n in range(1, count) if len(" ".join(labels[::n])) <= LETTERS]
        # Prefer steps that divide a logarithmic range equally: the ends are often round numbers.
        equal = [n for n in steps if (count - 1) % n == 0 and n < count - 1 and column.is_log]
        every = (equal or steps or [count])[0]
    elif side == "x" and len(" ".join(labels)) > LETTERS:
        how |= {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    places = range(0, count, every) if column.name else []
    axis.set_ticks(places, labels[::every] if column.name else [], **how)
