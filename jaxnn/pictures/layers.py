"""Draws distributions of weights, layer outputs and gradients, and how they change in training.

    weights({0: {"hidden/weight": before}, 900: {"hidden/weight": after}}).savefig("weights.png")
    gradient_flow({0: {"hidden_1": 0.02, "output": 0.4}, 900: {...}}).savefig("gradients.png")

In histograms over time, the x axis has the steps, the y axis has the values, and the opacity shows
how frequent a value is. The thick line is the median, and the thin lines enclose 50 % and 90 % of
the values. A single step is drawn as an ordinary histogram. A gradient that vanishes or explodes on
its way through the network shows as a trend from layer to layer.
"""

from collections.abc import Mapping

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, kind
from jaxnn.pictures import scheme
from jaxnn.pictures.labels import shortened
from jaxnn.pictures.scheme import Axes, Figure
from jaxnn.pictures.series import mark_gaps
from jaxnn.typing import Any

BINS = 49  # the largest number of bins; odd, so that a constant is in the middle of one
MOST = 12  # the largest number of layers
PANEL = 1.15  # inches, the height of a panel
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
REACH = (0.001, 0.999)  # the quantiles between which values are drawn, with a margin
FADING = 0.6  # the power of a density that is its opacity


def weights(moments: Any) -> Figure:
    """Returns a matplotlib `Figure` of the distribution of parameters, with a panel for each leaf.

    Args:
      moments: `{step: {name of the leaf: values}}`, or `{name of the leaf: values}` for one step.
        The values may have any shape.

    Raises:
      InvalidType: if `moments` has the wrong type.
      InvalidValue: if there is nothing to draw.
    """
    return _histograms("weights", moments, "weight")


def activations(moments: Any) -> Figure:
    """Returns a matplotlib `Figure` of the distribution of layer outputs, a panel for each layer.

    Args:
      moments: `{step: {name of the layer: outputs}}`, or `{name of the layer: outputs}` for one
        step. The outputs may have any shape.

    Raises:
      InvalidType: if `moments` has the wrong type.
      InvalidValue: if there is nothing to draw.
    """
    return _histograms("activations", moments, "output")


def _read(where: str, moments: Any) -> tuple[list[float], dict[str, list[np.ndarray]]]:
    """Returns the ascending steps, or `[nan]`, and the values of each layer at each step."""
    kind(where, "moments", moments, Mapping, fix="Write {step: {name: values}}")
    nested = [isinstance(value, Mapping) for value in moments.values()]
    are_steps = all(isinstance(s, int | float | np.number) and np.isfinite(s) for s in moments)
    if any(nested) and not (all(nested) and are_steps):
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
    values = {name: each for name, each in values.items() if any(map(len, each))}
    if not values:
        raise InvalidValue(
            where,
            "there is nothing to draw",
            got="no moment" if not moments else "moments without any numbers",
            expected="{step: {name: values}}",
            fix="Pass at least one layer's values",
        )
    return [float(step) for step in steps], values


def _values(where: str, name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray([] if values is None else values).astype(np.float64).ravel()
    except (TypeError, ValueError):
        raise InvalidType(
            where,
            f"the values of {name} are not numbers",
            got=f"a {type(values).__name__}",
            expected="an array",
            fix="Pass {name: values}, as jaxnn.names.named_leaves gives them",
        ) from None


def _histograms(where: str, moments: Any, of: str) -> Figure:
    steps, values = _read(where, moments)
    titles = dict(zip(values, shortened(list(values), 20)))
    places = np.linspace(0, len(values) - 1, min(MOST, len(values))).round().astype(int)
    shown = [list(values.items())[place] for place in places]
    columns, once = 3 if len(shown) in (3, 5, 6) else min(2, len(shown)), len(steps) == 1
    figure, panels = scheme.panels(len(shown), columns, PANEL, 0.55, sharex=not once)
    for axes, (name, each) in zip(panels, shown):
        scheme.titled(axes, titles[name])
        if once:
            _histogram(axes, each[0])
        else:
            _bands(axes, steps, each)
    step = "" if np.isnan(steps[0]) else f" at step {scheme.number(steps[0])}"
    for axes in panels[-columns:]:  # the lowest panel of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(of + step if once else "training steps")
    figure.supylabel(f"share of the {of}s" if once else of, fontsize=scheme.LABEL, color=scheme.INK)
    finite = all(np.isfinite(v).all() for _, each in shown for v in each)
    scheme.noted(
        figure,
        "" if once else f"Lines: the median, a half and nine tenths of the {of}s.",
        "" if finite else "×: some are not finite.",
        f"{MOST} of {len(values)} layers." if len(values) > MOST else "",
    )
    return figure


def _edges(finite: list[np.ndarray]) -> np.ndarray:
    """Returns the edges of bins that enclose nearly all values, and show the distribution."""
    known = np.concatenate(finite)
    low, high = np.quantile(known, REACH) if len(known) else (0.0, 1.0)
    bins = int(np.clip(np.sqrt(max(map(len, finite))), 4, BINS // 2)) * 2 + 1
    return np.linspace(*scheme.widened(low, high, 0.08), 1 + bins)


def _bands(axes: Axes, steps: list[float], values_at: list[np.ndarray]) -> None:
    """Draws the distribution of a layer's values over the steps."""
    from matplotlib.colors import to_rgb

    finite = [v[np.isfinite(v)] for v in values_at]
    edges = _edges(finite)
    cells = np.zeros((len(edges) - 1, len(steps), 4))
    cells[..., :3] = to_rgb(scheme.AMONG)
    for column, values in enumerate(finite):
        shares = np.histogram(values, edges)[0] / max(len(values), 1)
        cells[:, column, 3] = 0.85 * (shares / max(shares.max(), 1e-12)) ** FADING
    axes.pcolormesh(_sides(steps), edges, cells, linewidth=0, rasterized=True)
    lines = np.array([np.quantile(v, QUANTILES) if len(v) else 5 * [np.nan] for v in finite])
    for line, width in zip(lines.T, (0.4, 0.7, 1.2, 0.7, 0.4)):
        axes.plot(steps, line, color=scheme.INK, linewidth=width, gid="quantile")
    mark_gaps(axes, np.array(steps), [not np.isfinite(values).all() for values in values_at])
    axes.set_xlim(steps[0], steps[-1])
    axes.set_ylim(edges[0], edges[-1])
    scheme.linear(axes.xaxis, 3, whole=True)
    scheme.linear(axes.yaxis, 4)


def _sides(steps: list[float]) -> np.ndarray:
    """Returns the edges of the cells of the steps, which are halfway between the steps."""
    at = np.array(steps)
    return np.concatenate([at[:1], (at[1:] + at[:-1]) / 2, at[-1:]])


def _histogram(axes: Axes, values: np.ndarray) -> None:
    """Draws an ordinary histogram."""
    known = values[np.isfinite(values)]
    shares, edges = np.histogram(known, _edges([known]))
    shares = shares / max(len(values), 1)
    axes.stairs(shares, edges, fill=True, color=scheme.AMONG, alpha=0.8)
    if len(known):
        axes.axvline(np.median(known), color=scheme.INK, linewidth=1.0, gid="quantile")
    if len(known) < len(values):
        axes.text(
            0.98, 0.95, f"× {len(values) - len(known):,} not finite",
            ha="right", va="top", fontsize=scheme.TICK, color=scheme.MARK,
            transform=axes.transAxes,
        )  # fmt: skip
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, None)
    scheme.linear(axes.xaxis, 4)
    scheme.linear(axes.yaxis, 4)


LINE = 0.16  # inches, the height of a layer with a name
HIGHEST = 6.0  # inches, the height of all layers together
SIZE = "gradient's root mean square"
DECADES = 6.0  # the range of the colour scale; smaller values have the colour of its lower end


def gradient_flow(sizes: Any) -> Figure:
    """Returns a matplotlib `Figure` of the gradient's size in each layer, at one or more steps.

    Args:
      sizes: `{name: root mean square}` in the order of the network, or such a dict for each step,
        `{step: {name: root mean square}}`.

    Raises:
      InvalidType: if `sizes` has the wrong type.
      InvalidValue: if there are no sizes, or one is negative or is not a single number.
    """
    steps, values = _read("gradient_flow", sizes)
    names = list(values)
    table = np.full((len(names), len(steps)), np.nan)  # infinite where a size is not finite
    for row, (name, each) in enumerate(values.items()):
        for column, value in enumerate(each):
            if len(value):
                _check(name, value)
                table[row, column] = value[0] if np.isfinite(value[0]) else np.inf
    high = max(0.4, min(HIGHEST, LINE * len(names)))
    if len(steps) == 1:
        figure, axes = scheme.canvas(height=high + 0.75)
        _dots(axes, table[:, 0], steps[0])
    else:
        figure, (axes, key) = scheme.canvas(height=high + 1.15, rows=2, height_ratios=[high, 0.07])
        shown = _cells(axes, table, steps)
        bar = scheme.key(figure, shown, SIZE, cax=key, orientation="horizontal")
        scheme.logarithmic(bar.ax.xaxis, *_limits(table))
    every = max(1, int(np.ceil(LINE * len(names) / HIGHEST)))
    axes.set_yticks(range(0, len(names), every), shortened(names, 22)[::every], parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=scheme.INK, pad=5)
    axes.set_ylim(len(names) - 0.5, -0.5)  # the input is at the top
    scheme.titled(axes, "layers, from the input to the output")
    scheme.noted(
        figure,
        "○: zero." if (table == 0).any() else "",
        "×: not finite." if np.isinf(table).any() else "",
        f"One of {every} layers is named." if every > 1 else "",
    )
    return figure


def _check(name: str, value: np.ndarray) -> None:
    if value.size != 1 or value[0] < 0:
        raise InvalidValue(
            "gradient_flow",
            "a size is not a root mean square",
            got=f"{name}: " + (f"{value.size} numbers" if value.size != 1 else f"{value[0]:g}"),
            expected="one number of at least 0",
            fix="Pass jnp.sqrt(jnp.mean(gradient**2))",
        )


def _limits(table: np.ndarray) -> tuple[float, float]:
    """Returns the least and largest positive sizes, at most `DECADES` apart."""
    known = table[(table > 0) & np.isfinite(table)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.1, 1.0)
    low = max(low, high / 10**DECADES)
    return (low, high) if low < high else (low / 2, high * 2)


def _dots(axes: Axes, sizes: np.ndarray, step: float) -> None:
    """Draws a dot for each layer, and a guide line from the left to the dot."""
    low, high = _limits(sizes)
    low, high = low / 2, high * 2
    rows, known = np.arange(len(sizes)), (sizes > 0) & np.isfinite(sizes)
    axes.set_xscale("log")
    axes.hlines(rows[known], low, sizes[known], color=scheme.GRID, linewidth=1.0)
    axes.plot(sizes[known], rows[known], "o", color=scheme.AMONG, markersize=4, gid="size")
    at_left = {"transform": axes.get_yaxis_transform(), "markerfacecolor": scheme.PAPER}
    _marks(axes, sizes, np.zeros(len(sizes)), rows, markersize=4, **at_left)
    axes.set_xlim(low, high)
    scheme.logarithmic(axes.xaxis, low, high)
    axes.set_xlabel(SIZE + ("" if np.isnan(step) else f" at step {scheme.number(step)}"))


def _cells(axes: Axes, table: np.ndarray, steps: list[float]) -> Any:
    """Draws a cell for each layer and step, brighter for larger sizes; returns the mesh."""
    from matplotlib.colors import LogNorm

    sides, rows = _sides(steps), np.arange(len(table) + 1) - 0.5
    known = (table > 0) & np.isfinite(table)
    shown = axes.pcolormesh(
        sides, rows, np.ma.masked_where(~known, table),
        cmap=scheme.AMOUNT, norm=LogNorm(*_limits(table)), rasterized=True,
    )  # fmt: skip
    x, y = np.meshgrid((sides[1:] + sides[:-1]) / 2, rows[1:] - 0.5)
    _marks(axes, table, x, y, markersize=3, markerfacecolor="none", markeredgewidth=0.8)
    axes.set_xlim(sides[0], sides[-1])
    scheme.linear(axes.xaxis, whole=True)
    axes.set_xlabel("training steps")
    return shown


def _marks(axes: Axes, sizes: np.ndarray, x: np.ndarray, y: np.ndarray, **how: Any) -> None:
    """Marks sizes that are zero or not finite."""
    for which, mark in ((sizes == 0, "o"), (np.isinf(sizes), "x")):
        if which.any():
            axes.plot(x[which], y[which], mark, color=scheme.MARK, clip_on=False, **how)
