"""Learning curves: how the metrics of a run, or of several, came to be what they are.

    curves(run.history).savefig("curves.svg")
    curves({"small": small.history, "large": large.history}, "loss", units={"loss": "nats"})

Training and evaluation share the axes of their metric, and lines are named at their ends. A
population is a line, its median, in two bands: a half of the members, and all of them. What is not
finite is a gap in the line and a cross below it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice
from jaxnn.pictures import scheme
from jaxnn.pictures.labels import End, ends
from jaxnn.pictures.series import Series, gaps, series, thin
from jaxnn.typing import Any

SPREAD = 30.0  # of the largest value to the least, from which a scale is logarithmic
PANEL = 1.15  # inches, of height
MOST = 12  # panels
LETTERS = 16  # of a run's name at the end of its line
SPLITS = {"train": "training"}  # words for parts of the data that have a verb for a name
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


class _Line(NamedTuple):
    run: str
    split: str
    colour: str
    series: Series
    thin: bool  # beside a line that matters more


def curves(
    rows: Any,
    metrics: str | Sequence[str] | None = None,
    *,
    units: Mapping[str, str] | None = None,
) -> Any:
    """Returns a matplotlib `Figure` of metrics over training steps, a panel for each metric.

    Of one run, training and evaluation have a colour each. Of several, each run has one, and its
    training is a thinner line. Where a metric spans a factor of 30, its scale is logarithmic.

    Args:
      rows: `run.history` or the rows of `metrics.jsonl`; or those of several runs by name.
      metrics: names as in the rows (`"test/loss"`) or without the part of the data (`"loss"`); none
        is all of them.
      units: of metrics, for their axes: `{"loss": "nats"}`.

    Raises:
      InvalidType: if these are no rows.
      InvalidValue: if there is nothing to draw, or no metric of a name.
    """
    runs: dict[str, Any] = {"": rows}
    if isinstance(rows, Mapping) and "step" not in rows:
        runs = {str(run): each for run, each in rows.items()}
    if not runs:
        raise InvalidValue(
            "curves",
            "there is nothing to draw",
            got="no run",
            expected="the rows of at least one",
            fix="Pass {'my run': run.history}",
        )
    by_run = {
        run: series(f"curves of {run!r}" if run else "curves", each) for run, each in runs.items()
    }
    panels = _panels(by_run, metrics)
    shown = list(panels)[:MOST]
    figure, grid = scheme.canvas(
        height=PANEL * len(shown) + 0.55, rows=len(shown), sharex=True, squeeze=False
    )
    last = max(s.steps.max() for name in shown for s in (line.series for line in panels[name]))
    remarks = _remarks(panels, shown, by_run)
    for axes, name in zip(grid.flat, shown):
        unit = (units or {}).get(name)
        scheme.titled(axes, scheme.words(name) + (f" ({unit})" if unit else ""))
        _draw(axes, panels[name], last)
    grid.flat[-1].set_xlabel("training steps")
    scheme.noted(figure, remarks)
    _name(figure, [(axes, panels[name]) for axes, name in zip(grid.flat, shown)])
    return figure


def _panels(
    by_run: dict[str, dict[str, Series]], metrics: str | Sequence[str] | None
) -> dict[str, list[_Line]]:
    """Returns the lines of each metric, by its name without the part of the data."""
    names = list(dict.fromkeys(name for each in by_run.values() for name in each))
    chosen = names if metrics is None else _chosen(names, metrics)
    splits = list(dict.fromkeys(_split(name) for name in names))
    # Evaluation, which counts, has the first colour, whatever the order of the rows.
    splits = [s for s in splits if s != "train"] + [s for s in splits if s == "train"]
    panels: dict[str, list[_Line]] = {}
    for name in chosen:
        panels.setdefault(name.rsplit("/", 1)[-1], [])
    for panel, lines in panels.items():
        for number, (run, each) in enumerate(by_run.items()):
            mine = [name for name in each if name in chosen and name.rsplit("/", 1)[-1] == panel]
            for name in sorted(mine, key=lambda name: splits.index(_split(name)), reverse=True):
                split = _split(name)
                place = splits.index(split) if len(by_run) == 1 else number
                many = place >= len(scheme.COLOURS)
                colour = scheme.FAINT if many else scheme.COLOURS[place]
                faint = len(by_run) > 1 and split == "train" and len(mine) > 1
                lines.append(_Line(run, split, colour, each[name], faint))
    return {panel: lines for panel, lines in panels.items() if lines}


def _chosen(names: list[str], metrics: str | Sequence[str]) -> list[str]:
    wanted = [metrics] if isinstance(metrics, str) else list(metrics)
    if not wanted or not all(isinstance(name, str) for name in wanted):
        raise InvalidType(
            "curves",
            "metrics have the wrong type",
            got=repr(metrics),
            expected="names of metrics",
            fix=f"Write metrics=[{names[0]!r}]",
        )
    short = [name.rsplit("/", 1)[-1] for name in names]
    chosen = []
    for name in wanted:
        choice("curves", "metrics", name, {*names, *short})
        chosen += [full for full, end in zip(names, short) if name in (full, end)]
    return list(dict.fromkeys(chosen))


def _split(name: str) -> str:
    return name.rsplit("/", 1)[0] if "/" in name else ""


def _draw(axes: Any, lines: list[_Line], last: float) -> None:
    """Draws the lines of one metric, and sets the limits of its axes."""
    scheme.styled(axes, grid=True)
    known = np.concatenate([line.series.values.ravel() for line in lines])
    known = known[np.isfinite(known)]
    logarithmic = len(known) > 0 and known.min() > 0 and known.max() > SPREAD * known.min()
    if logarithmic:
        axes.set_yscale("log")
        scheme.logarithmic(axes.yaxis, known.min(), known.max())
    else:
        scheme.linear(axes.yaxis)
    scheme.linear(axes.xaxis, whole=True)
    for line in lines:
        _line(axes, line)
    axes.set_xlim(0, last or 1)
    axes.set_ylim(*_limits(known, bool(logarithmic)))
    if not len(known):
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "no value is finite",
            ha="center", va="center", fontsize=scheme.TICK, color=scheme.FAINT,
            transform=axes.transAxes,
        )  # fmt: skip


def _limits(known: Any, logarithmic: bool) -> tuple[float, float]:
    if not len(known):
        return 0.0, 1.0
    ends = np.log10([known.min(), known.max()]) if logarithmic else [known.min(), known.max()]
    low, high = map(float, ends)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    low, high = low - margin, high + margin
    return (10**low, 10**high) if logarithmic else (low, high)


def _line(axes: Any, line: _Line) -> None:
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
    style = {"linewidth": 0.7, "alpha": 0.75} if line.thin else {"linewidth": 1.3}
    axes.plot(x, middle, color=line.colour, solid_capstyle="round", gid="curve", **style)
    finite = np.concatenate([[False], ~np.isnan(middle), [False]])
    alone = finite[1:-1] & ~finite[:-2] & ~finite[2:]
    if alone.any():  # an empty line would count for the layout, and stand at 0, 0
        axes.plot(x[alone], middle[alone], ".", color=line.colour, markersize=4, clip_on=False)
    # A cross on the axis where values cease to be finite, and a bar until they are again.
    down = {"transform": axes.get_xaxis_transform(), "clip_on": False, "color": scheme.MARK}
    for begin, end in gaps(steps, columns[2]):
        axes.plot([begin, end], [0, 0], linewidth=1.4, solid_capstyle="butt", zorder=3, **down)
        axes.plot(
            begin, 0, "x", markersize=4.5, markeredgewidth=1.2, zorder=4, gid="not finite", **down
        )


def _name(figure: Any, panels: list[tuple[Any, list[_Line]]]) -> None:
    """Names lines at their ends; where they do not fit, in a legend."""
    from matplotlib.lines import Line2D

    scheme.laid_out(figure)  # from here on, the height of the axes is known
    missing: dict[str, str] = {}
    for axes, lines in panels:
        at_end = []
        for line in lines:
            steps, values = line.series
            finite = np.flatnonzero(np.isfinite(values).any(1))
            if len(finite) and not line.thin:
                value = float(np.nanmedian(values[finite[-1]]))
                text = f"{scheme.elided(_named(line, lines), LETTERS)} {_short(value)}".strip()
                at_end.append(End(float(steps[finite[-1]]), value, line.colour, text))
        if at_end and not ends(axes, at_end):
            missing |= {_named(line, lines): line.colour for line in lines if not line.thin}
    if missing:
        wide, high = figure.get_size_inches()
        figure.set_size_inches(wide, high + 0.15 * (-(-len(missing) // 2)))
        handles = [Line2D([], [], color=colour, label=name) for name, colour in missing.items()]
        figure.legend(
            handles=handles, loc="outside upper left", ncols=2, frameon=False,
            fontsize=scheme.TICK, labelcolor=scheme.INK, handlelength=1.2,
        )  # fmt: skip


def _named(line: _Line, lines: list[_Line]) -> str:
    """Returns what a line is called: its run, or its part of the data, or where needed both."""
    split = SPLITS.get(line.split, line.split)
    among = [other for other in lines if other.run == line.run and not other.thin]
    return " ".join(filter(None, [line.run, split if not line.run or len(among) > 1 else ""]))


def _short(value: float) -> str:
    return scheme.number(float(f"{value:.3g}" if abs(value) < 0.01 else f"{value:.4g}"))


def _remarks(
    panels: dict[str, list[_Line]], shown: list[str], by_run: dict[str, dict[str, Series]]
) -> str:
    """Returns what must be said to read the lines rightly."""
    lines = [line for name in shown for line in panels[name]]
    members = max(line.series.values.shape[1] for line in lines)
    lost = max(np.isnan(line.series.values[-1]).sum() for line in lines)
    faint = next((line for line in lines if line.thin), None)
    remarks = []
    if faint:
        remarks.append("Thin: training.")
    if members > 1:
        remarks.append(f"Line: the median of {members} members. Bands: a half of them, and all.")
        if lost:
            remarks.append(f"{lost} of {members} are not finite at the end.")
    if any(np.isnan(line.series.values).all(1).any() for line in lines):
        remarks.append("×: not finite.")
    if len(by_run) > len(scheme.COLOURS):
        grey = len(by_run) - len(scheme.COLOURS)
        remarks.append(f"The last {grey} of {len(by_run)} runs are grey.")
    if len(panels) > len(shown):
        remarks.append(f"{len(shown)} of {len(panels)} metrics: choose others by name.")
    return " ".join(remarks)
