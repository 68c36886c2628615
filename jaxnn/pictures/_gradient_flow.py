"""Whether a gradient reaches every layer: its size in each, from the input's to the output's.

    gradient_flow({0: {"hidden_1": 0.02, "output": 0.4}, 900: {...}}).savefig("gradients.png")

A size is the root of the mean square of a leaf's gradient, on a logarithmic scale: a gradient that
vanishes or explodes on its way through the network is seen as a slope.
"""

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.pictures import scheme
from jaxnn.pictures.histograms import read
from jaxnn.pictures.labels import shortened
from jaxnn.typing import Any

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
    steps, found = read("gradient_flow", sizes)
    names = list(found)
    table = np.full((len(names), len(steps)), np.nan)
    seen = np.zeros(table.shape, bool)
    for row, name in enumerate(names):
        for column, value in enumerate(found[name]):
            if value is not None:
                _check(name, value)
                table[row, column], seen[row, column] = value[0], True
    table[~np.isfinite(table)] = np.nan
    high = max(0.4, min(HIGHEST, LINE * len(names)))
    if len(steps) == 1:
        figure, axes = scheme.canvas(height=high + 0.75)
        _once(axes, table[:, 0], steps[0])
    else:
        figure, (axes, key) = scheme.canvas(height=high + 1.15, rows=2, height_ratios=[high, 0.07])
        shown = _over(axes, table, seen, steps)
        bar = scheme.key(figure, shown, axes, SIZE, below=key)
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


def _once(axes: Any, sizes: Any, step: float) -> None:
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


def _over(axes: Any, table: Any, seen: Any, steps: list[float]) -> Any:
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
