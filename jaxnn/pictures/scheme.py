"""One look for all pictures: their colours, their letters, and how they get into a page.

A picture is as wide as a column of text, and legible at that width. What it says is in ink; axes
and remarks are fainter; the grid is barely there. The eight colours differ for colour-blind eyes
too, and stand on a white page as on a dark one. No picture opens a window or touches matplotlib's
settings.

    >>> words("learning_rate")
    'learning rate'
    >>> number(0.001), number(25_000), number(0.0)
    ('0.001', '25,000', '0')
"""

import io
import re
import textwrap

import numpy as np

from jaxnn.markup import escaped
from jaxnn.typing import Any

WIDTH = 3.5  # inches: a column
LABEL, TICK = 8, 7  # points: names of axes and titles; numbers and remarks, the smallest letters

INK = "#24282e"  # what is said
FAINT = "#68707c"  # axes, ticks, remarks: 5 to 1 on white
GRID = "#e4e7eb"
PAPER = "#ffffff"
NAMES = {"ink": INK, "faint": FAINT, "grid": GRID, "paper": PAPER}  # in a page: var(--ink), ...

LIGHT = "#fefefe"  # on what has a colour of its own, on any page

# Chosen by search: in OKLab, the nearest two are 0.10 apart for eyes that see all colours as for
# those that see no red or no green (as Machado et al., 2009, simulate them). In order of use.
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

# One colour means one thing: blue and orange are signs, and of a run's data training is faint.
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
AMONG = COLOURS[5]  # how many there are of something

SIGNED = ("#c8641b", "#f2f0ec", "#2c67ab")  # negative, zero, positive
AMOUNT = "viridis"  # little is dark, much is bright
MARK = "#c2255c"  # what must be seen: the best of many, or where numbers ceased to be finite


def preload() -> None:
    """Imports what draws figures, of which the first would have to wait for it."""
    from matplotlib.backends import backend_svg as backend_svg
    from matplotlib.figure import Figure as Figure


def signed() -> Any:
    """Returns the matplotlib colormap from negative by zero to positive: `SIGNED`, blended."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("signed", SIGNED)


def canvas(
    width: float = WIDTH,
    height: float | None = None,
    rows: int = 1,
    columns: int = 1,
    **sharing: Any,
) -> tuple[Any, Any]:
    """Returns a matplotlib `Figure` and its axes, which have the look of `jaxnn.pictures`.

    Args:
      width: in inches.
      height: in inches; none is as high as pleases the eye, for one row.
      rows: of panels. With one row and one column, the axes are one `Axes`; else an array of them.
      columns: of panels.
      **sharing: as `Figure.subplots` takes it: `sharex`, `squeeze`, `height_ratios`, ...
    """
    from matplotlib.figure import Figure

    size = width, 0.66 * width if height is None else height
    figure = Figure(figsize=size, dpi=200, facecolor=PAPER, layout="constrained")
    axes = figure.subplots(rows, columns, **sharing)
    for one in figure.axes:
        styled(one)
    return figure, axes


def panels(count: int, columns: int, high: float, more: float, **sharing: Any) -> tuple[Any, Any]:
    """Returns a figure and its panels, in rows of `high` inches, with `more` for what is beside."""
    rows = -(-count // columns)
    height = high * rows + more
    figure, grid = canvas(height=height, rows=rows, columns=columns, squeeze=False, **sharing)
    for axes in grid.flat[count:]:
        axes.remove()
    return figure, grid.flat[:count]


def styled(axes: Any, *, grid: bool = False) -> Any:
    """Gives axes the look: two light spines, small ticks, and a grid of rows if one is wanted."""
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=FAINT, linewidth=0.6)
    axes.tick_params(
        which="both", labelsize=TICK, labelcolor=FAINT, color=FAINT, width=0.6, length=2.5, pad=2
    )
    axes.tick_params(which="minor", length=1.5, width=0.4)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title):
        text.set(fontsize=LABEL, color=INK)
    if grid:
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    return axes


def titled(axes: Any, title: str) -> None:
    """Writes a title over the left end of axes, where it is read first and takes no width."""
    # At a height that is given: else all numbers of both axes are measured again to find one.
    axes.set_title(title, loc="left", y=1.0, fontsize=LABEL, color=INK, pad=4)


def logarithmic(axis: Any, low: float, high: float) -> None:
    """Gives an axis, or that of a bar, logarithmic ticks with numbers enough to read values by."""
    from matplotlib.ticker import LogLocator, NullFormatter

    decades = np.log10(high / low)
    digits = (1,) if decades > 2 else (1, 3) if decades > 1 else (1, 2, 5)
    digits = digits if decades > 0.5 else (1, 1.5, 2, 3, 4, 5, 7)
    axis.set_major_locator(LogLocator(subs=digits, numticks=6))
    axis.set_major_formatter(lambda value, _: number(value))
    axis.set_minor_formatter(NullFormatter())


def linear(axis: Any, most: int = 5, *, whole: bool = False) -> None:
    """Gives an axis at most so many round ticks."""
    from matplotlib.ticker import MaxNLocator

    steps = [1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10]
    axis.set_major_locator(MaxNLocator(most, steps=steps, integer=whole))
    axis.set_major_formatter(lambda value, _: number(value))


def key(figure: Any, shown: Any, name: str, **where: Any) -> Any:
    """Draws the bar that says what colours mean, and returns it; `where` is for matplotlib."""
    bar = figure.colorbar(shown, **where)
    styled(bar.ax)
    bar.ax.spines[:].set_visible(False)
    bar.set_label(name)
    return bar


def legend(figure: Any, where: str, columns: int, **how: Any) -> None:
    """Says what marks mean, above or below the axes of a figure."""
    legend = figure.legend(
        loc=where, ncols=columns, frameon=False, fontsize=TICK, labelcolor=INK, **how
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a $ in a name is a $


def widened(low: float, high: float, share: float) -> tuple[float, float]:
    """Returns limits with a margin at both ends, a share of what is between them."""
    margin = share * (high - low) or share * abs(high) or 1.0
    return low - margin, high + margin


def words(name: str) -> str:
    """Returns a name as words: `learning_rate` is "learning rate"."""
    return name.replace("_", " ")


def number(value: float, digits: int | None = None) -> str:
    """Returns a number as people write it, rounded to so many digits; to about four if `None`."""
    value = value if digits is None else float(f"{value:.{digits}g}")
    if value and not 1e-4 <= abs(value) < 1e6:
        factor, power = f"{value:.2e}".split("e")
        raised, factor = power_of_ten(int(power)), factor.rstrip("0").rstrip(".")
        return raised if factor == "1" else f"{factor}×{raised}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def power_of_ten(power: int) -> str:
    """Returns 10 to the given power in letters that stay text: "10⁻³"."""
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def svg(figure: Any, *, title: str, prefix: str) -> str:
    """Returns a figure as SVG that stands inside of an HTML page.

    Text stays text, in the page's font. `INK`, `FAINT`, `GRID` and `PAPER` become `var(--ink, ...)`
    and so on, so that the page decides between light and dark. Drawn again, a figure gives the same
    text.

    Args:
      figure: of matplotlib.
      title: what a screen reader says, and what shows under the pointer.
      prefix: of all ids, which must differ from picture to picture of a page: `"curves"`.
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
    with matplotlib.rc_context(settings):  # the format is set nowhere else, and it is put back
        layout = laid_out(figure)
        figure.set_layout_engine(None)  # or all would be drawn twice, once for the layout
        figure.savefig(file, format="svg", facecolor="none", metadata={"Date": None})
        figure.set_layout_engine(layout)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # A style element would hold for the whole page.
    text = re.sub(r"\s*<(metadata|style).*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>\s*", "", text)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(xlink:href="|url\()#', rf"\1#{prefix}-", text)
    for name, colour in NAMES.items():
        variable = f"var(--{name}, {colour})"
        text = re.sub(rf"(?<=: ){colour}", variable, text)
        text = re.sub(rf'\b(fill|stroke)="{colour}"', rf'style="\1: {variable}"', text)
    text = re.sub(r"font-family: [^;\"]*(; )?", "", text)
    text = re.sub(r"font: ([^;\"]*?)([\d.]+px) [^;\"]*", _font, text)  # as before matplotlib 3.10
    box = re.search(r'viewBox="[^"]*"', text)
    label = escaped(title)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box.group() if box else ""} width="100%" role="img" aria-label="{label}" '
        f'style="stroke-linejoin: round; stroke-linecap: butt"><title>{label}</title>'
    )
    return opening + text[text.index(">") + 1 :].strip() + "\n"


def laid_out(figure: Any) -> Any:
    """Gives axes their places without drawing anything, and returns what does so, if anything."""
    layout = figure.get_layout_engine()
    if figure.axes and layout is not None:
        layout.execute(figure)
    return layout


def _font(match: re.Match[str]) -> str:
    """Returns a font without its family, which is the page's."""
    weight = "; font-weight: 700" if re.search("bold|[67]00", match[1]) else ""
    style = "; font-style: italic" if "italic" in match[1] else ""
    return f"font-size: {match[2]}{weight}{style}"


def noted(figure: Any, *remarks: str) -> None:
    """Writes remarks, but for empty ones, under a figure, faint and in lines that fit its width."""
    letters = int(figure.get_figwidth() * 72 / (0.56 * TICK))
    if lines := textwrap.fill(" ".join(filter(None, remarks)), letters):
        figure.supxlabel(lines, x=0.01, ha="left", fontsize=TICK, color=FAINT, linespacing=1.15)


def elided(name: str, letters: int) -> str:
    """Returns a name of at most `letters`, with an ellipsis for its middle if it is longer.

    >>> elided("a very long name of a run", 12)
    'a ver… a run'
    """
    if len(name) <= letters:
        return name
    head = (letters - 1) // 2
    return name[:head].rstrip() + "…" + name[len(name) - (letters - 1 - head) :]
