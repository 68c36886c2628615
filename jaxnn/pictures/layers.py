"""Numbers of each layer, and how they change: weights, what nodes put out, and gradients.

    weights({0: {"hidden/weight": before}, 900: {"hidden/weight": after}}).savefig("weights.png")
    gradient_flow({0: {"hidden_1": 0.02, "output": 0.4}, 900: {...}}).savefig("gradients.png")

Histograms over time: steps go across and values up; the more of the numbers, the more colour. The
dark line is the median, thin ones hold a half and nine tenths. One moment alone is an ordinary
histogram. A gradient that vanishes or explodes on its way through the network is seen as a slope.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.pictures import scheme
from jaxnn.pictures.labels import shortened
from jaxnn.pictures.series import gaps
from jaxnn.typing import Any

BINS = 49  # at most: odd, such that what is constant stands in the middle of one
MOST = 12  # layers
PANEL = 1.15  # inches, of height
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
REACH = (0.001, 0.999)  # the quantiles between which values are drawn, with a margin
FADING = 0.6  # the power of a density that is its opacity


def weights(moments: Any) -> Any:
    """Returns a matplotlib `Figure` of the spread of parameters, a panel for each leaf.

    Args:
      moments: `{step: {leaf's name: values}}`, or `{leaf's name: values}` of one moment; the values
        may have any shape.

    Raises:
      InvalidType: if the moments are something else.
      InvalidValue: if there is nothing to draw.
    """
    return _histograms("weights", moments, "weight")


def activations(moments: Any) -> Any:
    """Returns a matplotlib `Figure` of the spread of what layers put out, a panel for each.

    Args:
      moments: `{step: {layer's name: outputs}}`, or `{layer's name: outputs}` of one moment; the
        outputs may have any shape.

    Raises:
      InvalidType: if the moments are something else.
      InvalidValue: if there is nothing to draw.
    """
    return _histograms("activations", moments, "output")


class Moments(NamedTuple):
    """What was seen of each layer at some steps.

    Attributes:
      steps: ascending; of one moment that has no step, `[nan]`.
      values: of each layer, in order, for each step: numbers, or `None` where it was not seen.
    """

    steps: list[float]
    values: dict[str, list[Any]]


def read(where: str, moments: Any) -> Moments:
    """Returns the moments in order, of one as of many; raises as `weights` does."""
    if not isinstance(moments, Mapping):
        raise InvalidType(
            where,
            "the moments have the wrong type",
            got=f"a {type(moments).__name__}",
            expected="a dict",
            fix="Write {step: {name: values}}",
        )
    nested = [isinstance(value, Mapping) for value in moments.values()]
    if any(nested) and not (all(nested) and all(_is_number(step) for step in moments)):
        raise InvalidType(
            where,
            "the moments have the wrong type",
            got=f"keys {', '.join(map(repr, list(moments)[:4]))}",
            expected="{step: {name: values}}, the steps being numbers",
            fix="Name leaves as in jaxnn.names.named_leaves: 'hidden/weight'",
        )
    by_step = dict(moments) if any(nested) else {np.nan: moments}
    steps = sorted(by_step)
    names = list(dict.fromkeys(name for step in steps for name in by_step[step]))
    values = {
        name: [_values(where, name, by_step[step].get(name)) for step in steps] for name in names
    }
    values = {name: each for name, each in values.items() if any(v is not None for v in each)}
    if not values:
        raise InvalidValue(
            where,
            "there is nothing to draw",
            got="no moment" if not moments else "moments without any numbers",
            expected="{step: {name: values}}",
            fix="Pass at least one layer's values",
        )
    return Moments([float(step) for step in steps], values)


def _is_number(step: Any) -> bool:
    return isinstance(step, int | float | np.number) and bool(np.isfinite(step))


def _values(where: str, name: str, values: Any) -> Any:
    if values is None:
        return None
    try:
        flat = np.asarray(values).astype(np.float64).ravel()  # of bfloat16 too
    except (TypeError, ValueError):
        raise InvalidType(
            where,
            f"the values of {name} are no numbers",
            got=f"a {type(values).__name__}",
            expected="an array",
            fix="Pass {name: values}, as jaxnn.names.named_leaves gives them",
        ) from None
    return flat if flat.size else None


def _histograms(where: str, moments: Any, of: str) -> Any:
    steps, values = read(where, moments)
    names = list(values)
    titles = dict(zip(names, shortened(names, 20)))
    if len(names) > MOST:
        names = [names[i] for i in np.linspace(0, len(names) - 1, MOST).round().astype(int)]
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    once = len(steps) == 1
    figure, grid = scheme.canvas(
        height=PANEL * rows + 0.55, rows=rows, columns=columns, sharex=not once, squeeze=False
    )
    for axes, name in zip(grid.flat, names):
        scheme.titled(axes, titles[name])
        (_histogram if once else _bands)(
            axes, *((values[name][0],) if once else (steps, values[name]))
        )
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    step = "" if np.isnan(steps[0]) else f" at step {scheme.number(steps[0])}"
    for axes in grid.flat[: len(names)][-columns:]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(of + step if once else "training steps")
    figure.supylabel(f"share of the {of}s" if once else of, fontsize=scheme.LABEL, color=scheme.INK)
    remarks = [f"Lines: the median, a half and nine tenths of the {of}s." if not once else ""]
    if any(v is not None and not np.isfinite(v).all() for name in names for v in values[name]):
        remarks.append("×: some are not finite.")
    if len(names) < len(values):
        remarks.append(f"{len(names)} of {len(values)} layers.")
    scheme.noted(figure, " ".join(filter(None, remarks)))
    return figure


def _reach(known: Any) -> tuple[float, float]:
    """Returns the values between which nearly all lie, with a margin."""
    low, high = map(float, np.quantile(known, REACH)) if len(known) else (0.0, 1.0)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _bins(count: int) -> int:
    """Returns how many bins show a shape, and not each number for itself."""
    return int(np.clip(np.sqrt(count), 4, BINS // 2)) * 2 + 1


def _bands(axes: Any, steps: list[float], values_at: list[Any]) -> None:
    """Draws a layer's numbers over the steps."""
    from matplotlib.colors import to_rgb

    finite = [np.array([]) if v is None else v[np.isfinite(v)] for v in values_at]
    low, high = _reach(np.concatenate(finite))
    edges = np.linspace(low, high, 1 + _bins(max(map(len, finite))))
    cells = np.zeros((len(edges) - 1, len(steps), 4))
    cells[..., :3] = to_rgb(scheme.COLOURS[0])
    for column, values in enumerate(finite):
        cells[:, column, 3] = np.histogram(values, edges)[0] / max(len(values), 1)
    peaks = cells[..., 3].max(0)
    cells[..., 3] = 0.85 * (cells[..., 3] / np.maximum(peaks, 1e-12)) ** FADING
    between = (np.array(steps[1:]) + np.array(steps[:-1])) / 2
    sides = np.concatenate([steps[:1], between, steps[-1:]])
    axes.pcolormesh(sides, edges, cells, linewidth=0, rasterized=True)
    lines = np.array([np.quantile(v, QUANTILES) if len(v) else 5 * [np.nan] for v in finite])
    for line, width in zip(lines.T, (0.4, 0.7, 1.2, 0.7, 0.4)):
        axes.plot(steps, line, color=scheme.INK, linewidth=width, gid="quantile")
    lost = [v is not None and not np.isfinite(v).all() for v in values_at]
    down = {"transform": axes.get_xaxis_transform(), "clip_on": False, "color": scheme.MARK}
    for begin, end in gaps(steps, np.where(lost, np.nan, 0.0)):
        axes.plot([begin, end], [0, 0], linewidth=1.4, zorder=3, **down)
        axes.plot(begin, 0, "x", markersize=4.5, markeredgewidth=1.2, zorder=4, **down)
    axes.set_xlim(steps[0], steps[-1])
    axes.set_ylim(low, high)
    scheme.linear(axes.xaxis, 4, whole=True)
    scheme.linear(axes.yaxis, 4)


def _histogram(axes: Any, values: Any) -> None:
    """Draws an ordinary histogram."""
    known = values[np.isfinite(values)]
    low, high = _reach(known)
    shares, edges = np.histogram(known, np.linspace(low, high, 1 + _bins(len(known))))
    shares = shares / max(len(values), 1)
    axes.stairs(shares, edges, fill=True, color=scheme.COLOURS[0], alpha=0.8)
    if len(known):
        axes.axvline(np.median(known), color=scheme.INK, linewidth=1.0, gid="quantile")
    if len(known) < len(values):
        axes.text(
            0.98, 0.95, f"× {len(values) - len(known):,} not finite",
            ha="right", va="top", fontsize=scheme.TICK, color=scheme.MARK,
            transform=axes.transAxes,
        )  # fmt: skip
    axes.set_xlim(low, high)
    axes.set_ylim(0, None)
    scheme.linear(axes.xaxis, 4)
    scheme.linear(axes.yaxis, 4)


LINE = 0.16  # inches, the height of a layer that has a name
HIGHEST = 6.0  # inches, of all layers together
SIZE = "gradient's root mean square"
DECADES = 6.0  # below the largest: what is smaller has the colour of the least


def gradient_flow(sizes: Any) -> Any:
    """Returns a matplotlib `Figure` of the gradient's size in each layer, over steps or at one.

    Args:
      sizes: `{name: root mean square}` in the order of the network, or that for each step:
        `{step: {name: root mean square}}`.

    Raises:
      InvalidType: if the sizes are something else.
      InvalidValue: if there are none, or one is negative or no single number.
    """
    steps, values_of = read("gradient_flow", sizes)
    names = list(values_of)
    table = np.full((len(names), len(steps)), np.nan)
    seen = np.zeros(table.shape, bool)
    for row, name in enumerate(names):
        for column, value in enumerate(values_of[name]):
            if value is not None:
                _check(name, value)
                table[row, column], seen[row, column] = value[0], True
    table[~np.isfinite(table)] = np.nan
    high = max(0.4, min(HIGHEST, LINE * len(names)))
    if len(steps) == 1:
        figure, axes = scheme.canvas(height=high + 0.75)
        _dots(axes, table[:, 0], steps[0])
    else:
        figure, (axes, key) = scheme.canvas(height=high + 1.15, rows=2, height_ratios=[high, 0.07])
        shown = _cells(axes, table, seen, steps)
        bar = scheme.key(figure, shown, SIZE, cax=key, orientation="horizontal")
        scheme.logarithmic(bar.ax.xaxis, *_limits(table))
    every = max(1, int(np.ceil(LINE * len(names) / HIGHEST)))
    axes.set_yticks(range(0, len(names), every), shortened(names, 22)[::every])
    axes.tick_params(axis="y", length=0, labelcolor=scheme.INK, pad=5)
    axes.set_ylim(len(names) - 0.5, -0.5)  # the input is above, as a network is read
    scheme.titled(axes, "layers, from the input to the output")
    remarks = [
        "○: zero." if (table == 0).any() else "",
        "×: not finite." if (seen & np.isnan(table)).any() else "",
        f"One of {every} layers is named." if every > 1 else "",
    ]
    scheme.noted(figure, " ".join(filter(None, remarks)))
    return figure


def _check(name: str, value: Any) -> None:
    if value.size != 1 or value[0] < 0:
        raise InvalidValue(
            "gradient_flow",
            "a size is no root of a mean square",
            got=f"{name}: " + (f"{value.size} numbers" if value.size != 1 else f"{value[0]:g}"),
            expected="one number of at least 0",
            fix="Pass jnp.sqrt(jnp.mean(gradient**2))",
        )


def _limits(table: Any) -> tuple[float, float]:
    """Returns the least and the largest of the sizes above 0, some decades apart at most."""
    known = table[table > 0]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.1, 1.0)
    low = max(low, high / 10**DECADES)
    return (low, high) if low < high else (low / 2, high * 2)


def _dots(axes: Any, sizes: Any, step: float) -> None:
    """Draws a dot for each layer, on a line from the left that the eye follows."""
    low, high = _limits(sizes)
    low, high = low / 2, high * 2
    rows = np.arange(len(sizes))
    known, zero, lost = sizes > 0, sizes == 0, np.isnan(sizes)
    axes.set_xscale("log")
    axes.hlines(rows[known], low, sizes[known], color=scheme.GRID, linewidth=1.0)
    axes.plot(sizes[known], rows[known], "o", color=scheme.COLOURS[0], markersize=4, gid="size")
    place = {
        "transform": axes.get_yaxis_transform(),
        "clip_on": False,
        "markerfacecolor": scheme.PAPER,
    }
    for at, mark in ((rows[zero], "o"), (rows[lost], "x")):
        if len(at):
            axes.plot(np.zeros(len(at)), at, mark, color=scheme.MARK, markersize=4, **place)
    axes.set_xlim(low, high)
    scheme.logarithmic(axes.xaxis, low, high)
    axes.set_xlabel(SIZE + ("" if np.isnan(step) else f" at step {scheme.number(step)}"))


def _cells(axes: Any, table: Any, seen: Any, steps: list[float]) -> Any:
    """Draws a cell for each layer and step, bright being large; returns what has the colours."""
    from matplotlib.colors import LogNorm

    at = np.array(steps)
    between = (at[1:] + at[:-1]) / 2
    sides = np.concatenate([at[:1], between, at[-1:]])
    rows = np.arange(len(table) + 1) - 0.5
    shown = axes.pcolormesh(
        sides, rows, np.ma.masked_where(~(table > 0), table),
        cmap=scheme.AMOUNT, norm=LogNorm(*_limits(table)), rasterized=True,
    )  # fmt: skip
    middle = (sides[1:] + sides[:-1]) / 2
    for what, mark in ((seen & (table == 0), "o"), (seen & np.isnan(table), "x")):
        down, across = np.nonzero(what)
        fill = {"markerfacecolor": "none", "markersize": 3, "markeredgewidth": 0.8}
        if len(down):
            axes.plot(middle[across], down, mark, color=scheme.MARK, clip_on=False, **fill)
    axes.set_xlim(at[0], at[-1])
    scheme.linear(axes.xaxis, whole=True)
    axes.set_xlabel("training steps")
    return shown
