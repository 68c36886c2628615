"""A sheet for drawing diagrams, with coordinates in points from the upper left corner.

Text is also measured in points, so that boxes, wires and their labels have the same proportions as
the text at the width of a column.

>>> sheet = Sheet(40)
>>> sheet.text(10, 20, "hidden 1").get_text(), width_of("hidden 1") < 40
('hidden 1', True)
"""

import functools

from jaxnn.pictures.scheme import FAINT, INK, PAPER, TICK, WIDTH, Axes
from jaxnn.typing import Any

POINTS = 72 * WIDTH  # the width of a column


class Sheet:
    """A figure as wide as a column, with invisible axes that fill it."""

    def __init__(self, height: float):
        from matplotlib.figure import Figure
        from matplotlib.path import Path
        from matplotlib.transforms import IdentityTransform, TransformedPath

        self.height = height
        self.figure = Figure(figsize=(WIDTH, height / 72), dpi=200, facecolor=PAPER)
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, POINTS), ylim=(height, 0))
        self.axes.set_axis_off()
        # Artists share a clip path; creating one for each takes a third of the drawing time.
        clip = TransformedPath(Path.unit_rectangle(), IdentityTransform())
        self._whole: dict[str, Any] = {"clip_path": clip, "clip_on": False}

    def text(self, x: float, y: float, text: str, colour: str = FAINT, **how: Any) -> Any:
        """Writes text, centred at `x` by default, with the middle of lower-case letters at `y`."""
        how = {"ha": "center", "va": "center_baseline", "fontsize": TICK} | how
        how["parse_math"] = False  # do not interpret a $ in a name as math
        return self.axes.text(x, y, text, color=colour, **how)

    def image(self, x: float, y: float, wide: float, high: float, pixels: Any, **how: Any) -> Any:
        """Draws pixels, or numbers as shades, with the upper left corner at `(x, y)`."""
        how = {"extent": (x, x + wide, y + high, y), "aspect": "auto"} | how
        return self.axes.imshow(pixels, interpolation="nearest", **how)

    def inset(self, x: float, y: float, wide: float, high: float) -> Axes:
        """Returns inset axes on the sheet, with the upper left corner at `(x, y)`."""
        bottom = 1 - (y + high) / self.height
        return self.figure.add_axes((x / POINTS, bottom, wide / POINTS, high / self.height))

    def line(self, x: Any, y: Any, colour: str = FAINT, width: float = 0.8, **how: Any) -> Any:
        """Draws a line through points."""
        from matplotlib.lines import Line2D

        how = {"solid_capstyle": "butt", "solid_joinstyle": "round"} | self._whole | how
        # This is much faster than `plot`, which also updates limits and units.
        return self.axes.add_artist(Line2D(x, y, color=colour, linewidth=width, **how))

    def lines(self, lines: Any, colours: Any, widths: Any, styles: Any, **how: Any) -> Any:
        """Draws many lines in order, in a tenth of the time of separate calls to `line`."""
        from matplotlib.collections import LineCollection

        how = {"colors": colours, "linewidths": widths, "linestyles": styles} | self._whole | how
        return self.axes.add_artist(LineCollection(lines, **how))

    def circles(
        self, places: Any, radius: float, fills: Any = PAPER, edges: Any = INK, **how: Any
    ) -> Any:
        """Draws circles of the same radius in order."""
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Circle

        how = {"facecolors": fills, "edgecolors": edges, "linewidths": 0.7} | self._whole | how
        circles = PatchCollection([Circle(place, radius) for place in places], **how)
        return self.axes.add_artist(circles)

    def box(self, x: float, y: float, wide: float, high: float, **how: Any) -> Any:
        """Draws a rectangle with rounded corners and the upper left corner at `(x, y)`."""
        from matplotlib.patches import FancyBboxPatch

        how = {"boxstyle": "round,pad=0,rounding_size=2.5", "linewidth": 0.7} | how
        return self.axes.add_artist(FancyBboxPatch((x, y), wide, high, **how))


@functools.cache
def width_of(text: str, size: float = TICK) -> float:
    """Returns the width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    return TextToPath().get_text_width_height_descent(text, FontProperties(size=size), False)[0]


def fitted(text: str, room: float, size: float = TICK) -> str:
    """Shortens a text with an ellipsis if it is wider than `room` points."""
    if width_of(text, size) <= room:
        return text
    while text and width_of(text + "…", size) > room:
        text = text[:-1].rstrip(" ,·")
    return text + "…"


def wrapped(text: str, room: float) -> list[str]:
    """Breaks a text at spaces into lines that are at most `room` points wide."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and width_of(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(fitted(word, room))
    return lines
