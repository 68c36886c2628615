"""Draws learning curves: the metrics of one or more runs over training steps.

    curves(run.history).savefig("curves.svg")
    curves({"small": small.history, "large": large.history}, "loss", units={"loss": "nats"})

Training and evaluation share the axes of their metric, and training is dashed. Lines are named at
their ends, or in a legend in the order of the runs if the names are long. For a population, the
line is the median, one band holds half of the members, and a wider band holds all of them. Where
values are not finite, the line has a gap with a cross below it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.checks import choice
from jaxnn.markup import cut
from jaxnn.pictures import scheme
from jaxnn.pictures.labels import End, ends
from jaxnn.pictures.scheme import Axes, Figure
from jaxnn.pictures.series import Series, mark_gaps, series, thin
from jaxnn.typing import Any

SPREAD = 30.0  # the ratio of the largest to the least value from which the scale is logarithmic
PANEL, MANY = 1.15, 1.5  # inches, the height of a panel for one run and for several
ABOVE = 0.35  # inches of a panel for its title and the space below
MOST = 12  # the largest number of panels
LETTERS = 16  # the longest run name that is written at the end of a line
LONGEST, NARROW = 48, 24  # the longest name in a legend, and in a legend of two columns
SPLITS = {"train": "training"}  # the displayed names of splits whose names are verbs
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


class _Line(NamedTuple):
    name: str
    colour: str
    series: Series
    dashed: bool  # whether it is a training curve
    named: bool  # false for a training curve beside another curve of its run


def curves(
    rows: Any, metrics: str | Sequence[str] | None = None, *, units: Mapping[str, str] | None = None
) -> Figure:
    """Returns a matplotlib `Figure` of metrics over training steps, a panel for each metric.

    For one run, training and evaluation have a colour each. For several runs, each run has a
    colour. Training is dashed. If a metric spans a factor of 30, its scale is logarithmic.

    Args:
      rows: `run.history`, the rows of `metrics.jsonl`, or a dict of either for each run by name.
      metrics: names as in the rows (`"test/loss"`) or without the split (`"loss"`). The default is
        all metrics.
      units: the units of metrics for the titles of their panels, such as `{"loss": "nats"}`.

    Raises:
      InvalidType: if `rows` has the wrong type.
      InvalidValue: if there is nothing to draw, or no metric has one of the names.
    """
    runs: dict[str, Any] = {"": rows}
    if isinstance(rows, Mapping) and "step" not in rows:
        runs = {str(run): each for run, each in rows.items()} or {"": []}
    by_run = {
        run: series(f"curves of {run!r}" if run else "curves", each) for run, each in runs.items()
    }
    panels = _panels(by_run, metrics)
    shown = dict(list(panels.items())[:MOST])
    high = PANEL if len(runs) == 1 else MANY
    figure, grid = scheme.panels(len(shown), 1, high, 0.55, sharex=True)
    last = max(line.series.steps.max() for lines in shown.values() for line in lines)
    for axes, (name, lines) in zip(grid, shown.items()):
        unit = (units or {}).get(name)
        scheme.titled(axes, scheme.words(name) + (f" ({unit})" if unit else ""))
        _draw(axes, lines, last)
    grid[-1].set_xlabel("training steps")
    lines = [line for each in shown.values() for line in each]
    values = [line.series.values for line in lines]
    members, grey = max(each.shape[1] for each in values), len(runs) - len(scheme.COLOURS)
    lost = max(np.isnan(each[-1]).sum() for each in values) if members > 1 else 0
    population = f"Line: the median of {members} members. Bands: a half of them, and all."
    scheme.noted(
        figure,
        "Dashed: training." if not all(line.named for line in lines) else "",
        population if members > 1 else "",
        f"{lost} of {members} are not finite at the end." if lost else "",
        "×: not finite." if any(np.isnan(each).all(1).any() for each in values) else "",
        f"The last {grey} of {len(runs)} runs are grey." if grey > 0 else "",
        f"{MOST} of {len(panels)} metrics: choose others by name." if len(panels) > MOST else "",
    )
    _name(figure, list(zip(grid, shown.values())), 72 * (high - ABOVE))
    return figure


def _panels(
    by_run: dict[str, dict[str, Series]], metrics: str | Sequence[str] | None
) -> dict[str, list[_Line]]:
    """Returns the lines of each metric, by the name of the metric without the split."""
    names = list(dict.fromkeys(name for each in by_run.values() for name in each))
    chosen = names if metrics is None else _chosen(names, metrics)
    # Evaluation matters more and is drawn in ink, regardless of the order of the rows.
    splits = sorted(dict.fromkeys(map(_split, names)), key=lambda split: split == "train")
    palette = [*scheme.COLOURS, scheme.FAINT]
    own = dict(zip(splits, (scheme.INK, *scheme.CLASSES)), train=scheme.FAINT)  # for one run
    panels: dict[str, list[_Line]] = {_metric(name): [] for name in chosen}
    for panel, lines in panels.items():
        these = [name for name in chosen if _metric(name) == panel]
        for number, (run, each) in enumerate(by_run.items()):
            parts = {_split(name): each[name] for name in these if name in each}
            beside = "train" in parts and len(parts) > 1 and len(by_run) > 1
            for split in sorted(parts, key=splits.index, reverse=True):
                colour = palette[min(number, len(palette) - 1)]
                colour = own.get(split, scheme.FAINT) if len(by_run) == 1 else colour
                is_named = not run or len(parts) - beside > 1
                name = f"{run} {SPLITS.get(split, split) if is_named else ''}".strip()
                trains = split == "train"
                lines.append(_Line(name, colour, parts[split], trains, not (beside and trains)))
    return {panel: lines for panel, lines in panels.items() if lines}


def _chosen(names: list[str], metrics: str | Sequence[str]) -> list[str]:
    wanted = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in wanted or [metrics]:
        choice("curves", "metrics", str(name), {*names, *map(_metric, names)})
    chosen = [full for name in wanted for full in names if name in (full, _metric(full))]
    return list(dict.fromkeys(chosen))


def _split(name: str) -> str:
    return name.rpartition("/")[0]


def _metric(name: str) -> str:
    return name.rpartition("/")[2]


def _draw(axes: Axes, lines: list[_Line], last: float) -> None:
    """Draws the lines of one metric."""
    scheme.styled(axes, grid=True)
    scheme.linear(axes.xaxis, whole=True)
    axes.set_xlim(0, last or 1)
    axes.margins(y=0.06)
    known = np.concatenate([line.series.values.ravel() for line in lines])
    known = known[np.isfinite(known)]
    if not len(known):
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "no value is finite", ha="center", va="center",
            fontsize=scheme.TICK, color=scheme.FAINT, transform=axes.transAxes,
        )  # fmt: skip
    elif known.min() > 0 and known.max() > SPREAD * known.min():
        axes.set_yscale("log")
        scheme.logarithmic(axes.yaxis, known.min(), known.max())
    else:
        scheme.linear(axes.yaxis)
    for line in lines:
        _line(axes, line)


def _line(axes: Axes, line: _Line) -> None:
    steps, values = line.series
    lost = np.isnan(values).all(1)
    columns = np.full((len(QUANTILES), len(steps)), np.nan)
    columns[:, ~lost] = np.nanquantile(values[~lost], QUANTILES, axis=1)
    many = values.shape[1] > 1
    places = thin(*(columns if many else columns[2:3]))
    x, (low, lower, middle, upper, high) = steps[places], columns[:, places]
    if many:
        for bottom, top, alpha in ((low, high, 0.13), (lower, upper, 0.25)):
            axes.fill_between(x, bottom, top, color=line.colour, alpha=alpha, linewidth=0)
    style: dict[str, Any] = {"linewidth": 1.3}
    if line.dashed:
        style = {"linestyle": (0, (3, 1.5)), "linewidth": 1.0}
    axes.plot(x, middle, color=line.colour, solid_capstyle="round", gid="curve", **style)
    finite = np.concatenate([[False], ~np.isnan(middle), [False]])
    alone = finite[1:-1] & ~finite[:-2] & ~finite[2:]
    if alone.any():  # an empty line would affect the layout, as if it were at (0, 0)
        axes.plot(x[alone], middle[alone], ".", color=line.colour, markersize=4, clip_on=False)
    mark_gaps(axes, steps, lost)


def _name(figure: Figure, panels: list[tuple[Axes, list[_Line]]], tall: float) -> None:
    """Names the lines at their ends, or in a legend if axes `tall` points high have no room."""
    from matplotlib.lines import Line2D

    named = {line.name: line.colour for _, lines in panels for line in lines if line.named}
    long = max(map(len, named)) > LETTERS
    missing: dict[str, str] = named if long else {}
    for axes, lines in [] if long else panels:
        at_end = []
        for line in lines:
            steps, values = line.series
            finite = np.flatnonzero(np.isfinite(values).any(1))
            if len(finite) and line.named:
                value = float(np.nanmedian(values[finite[-1]]))
                text = scheme.number(value, 3 if abs(value) < 0.01 else 4)
                text = f"{line.name} {text}".strip()
                at_end.append(End(float(steps[finite[-1]]), value, line.colour, text))
        if at_end and not ends(axes, at_end, tall):
            missing |= {line.name: line.colour for line in lines if line.named}
    if missing:
        wide, high = figure.get_size_inches()
        columns = 1 if max(map(len, missing)) > NARROW else 2
        figure.set_size_inches(wide, high + 0.15 * -(-len(missing) // columns))
        names = {cut(name, LONGEST): colour for name, colour in missing.items()}
        handles = [Line2D([], [], color=colour, label=name) for name, colour in names.items()]
        scheme.legend(figure, "outside upper left", columns, handles=handles, handlelength=1.2)
