"""A heat map: how a metric depends on two of the things that were varied. Bright is good.

sweep({"learning_rate": rates, "seed": seeds}, losses, "test/loss").savefig("losses.png")
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.metrics import lower_is_better
from jaxnn.pictures import scheme
from jaxnn.typing import Any, Num

LETTERS = 32  # what an axis has room for
SPREAD = 5.0  # of the largest number to the median, from which a scale is logarithmic
NONE: dict[str, Any] = {
    "facecolor": scheme.GRID, "edgecolor": scheme.FAINT, "hatch": "/////", "linewidth": 0.0,
}  # fmt: skip


def sweep(
    columns: Mapping[str, Sequence[Any]],
    values: Sequence[float] | Num[np.ndarray, "runs"],
    name: str,
) -> Any:
    """Returns a matplotlib `Figure` of a metric over the first two columns that vary.

    A cell is the mean over all others. Where not every pair has a run, as with random draws, those
    that have one are points instead of cells.

    Args:
      columns: what was varied, by name: numbers or words, `[runs]` each.
      values: the metric of each run, NaN of those that diverged.
      name: of the metric, by which low or high is good: `"test/loss"`.

    Raises:
      InvalidValue: if there is no run, or the columns and the values are not of as many.
    """
    lengths = {column: len(each) for column, each in columns.items()}
    if not len(values) or set(lengths.values()) != {len(values)}:
        raise InvalidValue(
            "sweep",
            "the columns and the values are not of as many runs",
            got=f"{len(values)} values, and columns of {lengths or 'nothing'}",
            expected="one value for each run, and each column as long",
            fix="Pass run.table's columns, and one of them as values",
        )
    varied = [column for column in columns if len(set(columns[column])) > 1] or list(columns)[:1]
    x = _Axis(varied[0], columns[varied[0]])
    y = _Axis(*((varied[1], columns[varied[1]]) if varied[1:] else ("", [0] * len(values))))
    means, pairs = _means(x, y, np.asarray(values, float))
    figure, axes = scheme.canvas(height=0.8 * scheme.WIDTH)
    axes.grid(False)
    shown, explained = (_cells if pairs.all() else _points)(axes, x, y, means, pairs, name)
    scheme.key(figure, shown, name, ax=axes, fraction=0.05, pad=0.03)
    # What varies along with the axes, as random draws do, is the same in all runs of a cell.
    over = [c for c in varied[2:] if len(set(zip(x.index, y.index, columns[c]))) > pairs.sum()]
    if over:
        scheme.titled(axes, "mean over " + ", ".join(map(scheme.words, over)))
    scheme.legend(figure, "outside lower center", 2, handles=explained)
    return figure


def _cells(axes, x: "_Axis", y: "_Axis", means, pairs, name: str) -> tuple[Any, list[Any]]:
    """Draws the means as cells side by side; returns what has colours, and what to explain."""
    from matplotlib.patches import Patch

    shown = axes.imshow(
        np.ma.masked_invalid(means), origin="lower", aspect="auto", **_colours(means, name)
    )
    _label(axes.xaxis, x, cells=True)
    _label(axes.yaxis, y, cells=True)
    up, right = np.indices(means.shape)
    explained = _ring(axes, right, up, means, name)
    if np.isnan(means).any():
        axes.patch.set(**NONE)  # seen where there is no colour
        explained.append(Patch(label="diverged", **NONE))
    return shown, explained


def _points(axes, x: "_Axis", y: "_Axis", means, pairs, name: str) -> tuple[Any, list[Any]]:
    """Draws the means as points where their numbers are; returns the same."""
    right, up = np.meshgrid(x.scaled, y.scaled)
    known, lost = np.isfinite(means), pairs & np.isnan(means)
    colours = _colours(means, name)
    shown = axes.scatter(
        right[known],
        up[known],
        c=means[known],
        s=28,
        linewidths=0.4,
        edgecolors=scheme.FAINT,
        **colours,
    )
    _label(axes.xaxis, x, cells=False)
    _label(axes.yaxis, y, cells=False)
    explained = _ring(axes, right, up, means, name)
    if lost.any():
        crosses = {"marker": "x", "color": scheme.FAINT, "s": 24, "linewidths": 1.0}
        explained.append(axes.scatter(right[lost], up[lost], label="diverged", **crosses))
    return shown, explained


def _ring(axes, right, up, means, name: str) -> list[Any]:
    """Marks the best of the means, if there is any."""
    if np.isnan(means).all():
        return []
    best = (np.nanargmin if lower_is_better(name) else np.nanargmax)(means)
    return axes.plot(
        right.flat[best], up.flat[best], "o", label=f"best: {means.flat[best]:.4g}",
        markersize=6, markerfacecolor="none", markeredgecolor=scheme.MARK, markeredgewidth=1.2,
    )  # fmt: skip


class _Axis:
    """A column as an axis: its distinct values in order, and where each of them is."""

    def __init__(self, name: str, column: Sequence[Any]):
        self.name = name
        self.numbers = all(isinstance(value, int | float | np.number) for value in column)
        distinct = dict.fromkeys(column)
        self.values = sorted(distinct) if self.numbers else list(distinct)
        self.index = np.array([self.values.index(value) for value in column])
        places = np.array(self.values if self.numbers else range(len(self.values)), float)
        self.log = self.numbers and _spread(places)
        self.scaled = np.log10(places) if self.log else places

    def ticks(self) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Returns scaled places of ticks, their labels, and places of ticks without a label."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        labels = [f"{v:.3g}" if self.numbers else str(v) for v in self.values]
        if not self.numbers or len(" ".join(labels)) <= LETTERS:
            return self.scaled, labels, np.array([])
        low, high = self.values[0], self.values[-1]

        def inside(ticks):
            margin = 1e-9 * (high - low)
            return ticks[(ticks >= low - margin) & (ticks <= high + margin)]

        if not self.log:
            whole = all(float(value).is_integer() for value in self.values)
            ticks = inside(MaxNLocator(5, integer=whole).tick_values(low, high))
            return ticks, [f"{tick:.4g}" for tick in ticks], np.array([])
        minor = inside(LogLocator(subs=range(2, 10)).tick_values(low, high))
        ticks = inside(LogLocator(numticks=99).tick_values(low, high))
        if len(ticks) > 2:
            powers = np.log10(ticks)
            return powers, [scheme.power_of_ten(round(power)) for power in powers], np.log10(minor)
        ticks = inside(LogLocator(subs=(1, 3)).tick_values(low, high))
        return np.log10(ticks), [f"{tick:.3g}" for tick in ticks], np.log10(minor)


def _spread(numbers: np.ndarray) -> bool:
    return bool(numbers.min() > 0 and numbers.max() > SPREAD * np.median(numbers))


def _means(x: _Axis, y: _Axis, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean of each pair, NaN where there is none, and which pairs were tried."""
    shape, at = (len(y.values), len(x.values)), (y.index, x.index)
    total, count, pairs = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
    np.add.at(total, at, np.where(np.isfinite(values), values, 0.0))
    np.add.at(count, at, np.isfinite(values))
    pairs[at] = True
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0), pairs


def _colours(means: np.ndarray, name: str) -> dict[str, Any]:
    from matplotlib.colors import LogNorm, Normalize

    known = means[np.isfinite(means)] if np.isfinite(means).any() else np.array([0.0, 1.0])
    low, high = known.min(), known.max()
    # A loss spans many sizes, since some runs come close to diverging.
    log = lower_is_better(name) and _spread(known)
    return {
        "cmap": scheme.AMOUNT + "_r" * lower_is_better(name),
        "norm": LogNorm(low, high) if log else Normalize(low, high),
    }


def _label(axis: Any, column: _Axis, *, cells: bool) -> None:
    """Names an axis and puts its ticks where they are among cells or points."""
    ticks, labels, minor = column.ticks() if column.name else (np.array([]), [], np.array([]))
    if cells:
        numbers = np.arange(len(column.values))
        ticks, minor = (np.interp(at, column.scaled, numbers) for at in (ticks, minor))
    slanted = not column.numbers and axis.axis_name == "x" and len(" ".join(labels)) > LETTERS
    slant = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axis.set_ticks(ticks, labels, **slant)
    axis.set_ticks(minor, minor=True)
    axis.set_label_text(scheme.words(column.name))
