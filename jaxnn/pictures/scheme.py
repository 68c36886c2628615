"""The common style of all pictures: colours, text sizes, axes, and conversion to SVG.

Pictures are as wide as a column of text, and legible at that width. Data are drawn in dark ink;
axes and remarks are fainter; the grid is faintest. The eight colours are also distinct for readers
with colour blindness, on light and on dark pages. No picture opens a window or changes matplotlib's
settings.

    >>> words("learning_rate")
    'learning rate'
"""

import io
import re
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from jaxnn.markup import escaped
from jaxnn.typing import Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # importing matplotlib takes time, which only drawing needs
    Axes = Figure = Any

WIDTH = 3.5  # inches, the width of a column
LABEL, TICK = 8, 7  # points: the text size of titles and axis labels, and of numbers and remarks

INK = "#24282e"  # data and labels
FAINT = "#68707c"  # axes, ticks and remarks; the contrast on white is 5 to 1
GRID = "#e4e7eb"
PAPER = "#ffffff"
NAMES = {"ink": INK, "faint": FAINT, "grid": GRID, "paper": PAPER}  # CSS variables in a page

LIGHT = "#fefefe"  # text on a coloured background, on light and dark pages

# These colours come from a search. In OKLab, the nearest two are 0.10 apart, for normal vision and
# for simulated red and green blindness (Machado et al., 2009). They are in order of use.
COLOURS = (
    "#3471b2",  # blue
    "#dd8736",  # orange
    "#188d7c",  # teal
    "#c03809",  # brick
    "#7e79f5",  # violet
    "#71516e",  # plum
    "#c48cd5",  # orchid
    "#84a98b",  # sage
)

# Each colour has one meaning: blue and orange are signs, and faint is a run's training data.
CLASSES = (
    "#7e79f5",  # violet
    "#a3a281",  # khaki
    "#71516e",  # plum
    "#d67dc7",  # pink
    "#b61e2d",  # crimson
    "#6635e4",  # indigo
    "#8f6d74",  # rose
    "#f67e01",  # amber
)
RIGHT, WRONG = COLOURS[2], COLOURS[3]
AMONG = COLOURS[5]  # frequencies in a distribution

SIGNED = ("#c8641b", "#f2f0ec", "#2c67ab")  # negative, zero, positive
AMOUNT = "viridis"  # small values are dark, large values are bright
MARK = "#c2255c"  # highlights, such as the best of many values, or values that are not finite


def preload() -> None:
    """Imports the parts of matplotlib that draw figures, so that the first figure is not slower."""
    from matplotlib.backends import backend_svg as backend_svg
    from matplotlib.figure import Figure as Figure


def signed() -> Any:
    """Returns a matplotlib colormap from negative to zero to positive, blended from `SIGNED`."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("signed", SIGNED)


def canvas(
    width: float = WIDTH,
    height: float | None = None,
    rows: int = 1,
    columns: int = 1,
    **sharing: Any,
) -> tuple[Figure, Any]:
    """Returns a matplotlib `Figure` and its axes in the style of `jaxnn.pictures`.

    Args:
      width: the width in inches.
      height: the height in inches. The default suits one row of panels.
      rows: the number of rows of panels. One row and one column give a single `Axes`, and more
        give an array of `Axes`.
      columns: the number of columns of panels.
      **sharing: arguments of `Figure.subplots`, such as `sharex`, `squeeze` or `height_ratios`.
    """
    from matplotlib.figure import Figure

    size = width, 0.66 * width if height is None else height
    figure = Figure(figsize=size, dpi=200, facecolor=PAPER, layout="constrained")
    axes = figure.subplots(rows, columns, **sharing)
    for one in figure.axes:
        styled(one)
    return figure, axes


def panels(
    count: int, columns: int, high: float, more: float, **sharing: Any
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with `count` panels in rows of `high` inches, plus `more` inches."""
    rows = -(-count // columns)
    height = high * rows + more
    figure, grid = canvas(height=height, rows=rows, columns=columns, squeeze=False, **sharing)
    for axes in grid.flat[count:]:
        axes.remove()
    return figure, list(grid.flat[:count])


def styled(axes: Any, *, grid: bool = False) -> Any:
    """Styles axes: two light spines, small ticks, and optionally a grid of horizontal lines."""
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=FAINT, linewidth=0.6)
    axes.tick_params(
        which="both", labelsize=TICK, labelcolor=FAINT, color=FAINT, width=0.6, length=2.5, pad=2
    )
    axes.tick_params(which="minor", length=1.5, width=0.4)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title):
        text.set(fontsize=LABEL, color=INK, parse_math=False)  # a $ in a name is a dollar sign
    if grid:
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    return axes


def titled(axes: Axes, title: str) -> None:
    """Writes a title above the left end of axes, where it takes no width from the plot."""
    # The height is set explicitly; otherwise matplotlib measures all tick labels again.
    axes.set_title(title, loc="left", y=1.0, fontsize=LABEL, color=INK, pad=4)


def logarithmic(axis: Any, low: float, high: float) -> None:
    """Gives an axis or a colour bar logarithmic ticks, with enough labels to read values."""
    from matplotlib.ticker import LogLocator, NullFormatter

    decades = np.log10(high / low)
    digits = (1,) if decades > 2 else (1, 3) if decades > 1 else (1, 2, 5)
    digits = digits if decades > 0.5 else (1, 1.5, 2, 3, 4, 5, 7)
    axis.set_major_locator(LogLocator(subs=digits, numticks=6))
    axis.set_major_formatter(lambda value, _: number(value))
    axis.set_minor_formatter(NullFormatter())


def linear(axis: Any, most: int = 5, *, whole: bool = False) -> None:
    """Gives an axis at most `most` round ticks."""
    from matplotlib.ticker import MaxNLocator

    steps = [1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10]
    axis.set_major_locator(MaxNLocator(most, steps=steps, integer=whole))
    axis.set_major_formatter(lambda value, _: number(value))


def key(figure: Figure, shown: Any, name: str, **where: Any) -> Any:
    """Draws a colour bar and returns it; `where` holds arguments of `Figure.colorbar`."""
    bar = figure.colorbar(shown, **where)
    styled(bar.ax)
    bar.ax.spines[:].set_visible(False)
    bar.set_label(name)
    return bar


def legend(figure: Figure, where: Any, columns: int, **how: Any) -> None:
    """Draws a legend above or below the axes of a figure."""
    legend = figure.legend(
        loc=where, ncols=columns, frameon=False, fontsize=TICK, labelcolor=INK, **how
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def widened(low: float, high: float, share: float) -> tuple[float, float]:
    """Returns limits with a margin at both ends, which is a share of the range."""
    margin = share * (high - low) or share * abs(high) or 1.0
    return low - margin, high + margin


def words(name: str) -> str:
    """Returns a name with spaces for underscores: `learning_rate` becomes "learning rate"."""
    return name.replace("_", " ")


def number(value: float, digits: int | None = None) -> str:
    """Formats a number, rounded to `digits` significant digits, or to about four if `None`.

    >>> number(-0.25), number(43040.4), number(2.5e-7), number(float("nan"))
    ('−0.25', '43,040', '2.5×10⁻⁷', 'nan')
    """
    value = value if digits is None else float(f"{value:.{digits}g}")
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if value and np.isfinite(value) and not 1e-4 <= abs(value) < 1e6:
        factor, power = f"{value:.2e}".split("e")
        factor = factor.rstrip("0").rstrip(".").replace("-", "−")
        raised = "10" + str(int(power)).translate(_RAISED)
        return raised if factor == "1" else f"{factor}×{raised}"
    return text.replace("-", "−")


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def svg(figure: Figure, *, title: str, prefix: str) -> str:
    """Returns a figure as an SVG element for an HTML page.

    Text remains text, in the font of the page. `INK`, `FAINT`, `GRID` and `PAPER` become
    `var(--ink, ...)` and so on, so that the page can choose light or dark colours. The same figure
    always gives the same SVG.

    Args:
      figure: a matplotlib `Figure`.
      title: the title for screen readers and for the tooltip.
      prefix: the prefix of all ids, which must be unique within a page, such as `"curves"`.
    """
    import matplotlib

    file = io.StringIO()
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": prefix,
        "svg.image_inline": True,
        "figure.autolayout": False,
        "figure.constrained_layout.use": False,
    }
    with matplotlib.rc_context(settings):  # the SVG options exist only as settings; restored after
        layout = laid_out(figure)
        figure.set_layout_engine(None)  # otherwise savefig computes the layout a second time
        figure.savefig(file, format="svg", facecolor="none", metadata={"Date": None})
        figure.set_layout_engine(layout)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # A style element would apply to the whole page.
    text = re.sub(r"\s*<(metadata|style).*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>\s*", "", text)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(xlink:href="|url\()#', rf"\1#{prefix}-", text)
    for name, colour in NAMES.items():
        variable = f"var(--{name}, {colour})"
        text = re.sub(rf"(?<=: ){colour}", variable, text)
        text = re.sub(rf'\b(fill|stroke)="{colour}"', rf'style="\1: {variable}"', text)
    text = re.sub(r"font-family: [^;\"]*(; )?", "", text)
    box = re.search(r'viewBox="[^"]*"', text)
    label = escaped(title)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box.group() if box else ""} width="100%" role="img" aria-label="{label}" '
        f'style="stroke-linejoin: round; stroke-linecap: butt"><title>{label}</title>'
    )
    return opening + text[text.index(">") + 1 :].strip() + "\n"


def laid_out(figure: Figure) -> Any:
    """Computes the layout of a figure without drawing it; returns the layout engine, if any."""
    layout = figure.get_layout_engine()
    if figure.axes and layout is not None:
        layout.execute(figure)
    return layout


def noted(figure: Figure, *remarks: str) -> None:
    """Writes the non-empty remarks below a figure, in faint text wrapped to its width."""
    letters = int(figure.get_figwidth() * 72 / (0.56 * TICK))
    if lines := textwrap.fill(" ".join(filter(None, remarks)), letters):
        figure.supxlabel(lines, x=0.01, ha="left", fontsize=TICK, color=FAINT, linespacing=1.15)
