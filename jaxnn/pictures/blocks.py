"""Draws a network as blocks, from the inputs at the top to the outputs; frames hold nested parts.

The output shape of a block, for one example, is on its right. If the network does not fit on
a page, the innermost parts are summarized first, and a remark in the figure says so.

>>> parts = Part("input", "input", output=(1, 4)), Part("out", "linear", "linear, 2 nodes", (1, 2))
>>> [text.get_text() for text in draw(parts).axes[0].texts][:-1]
['input', '4', 'out', 'linear, 2 nodes', '2']
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxnn.pictures.outline import Part, summary
from jaxnn.pictures.scheme import FAINT, GRID, INK, PAPER, Figure
from jaxnn.pictures.sheet import POINTS, Sheet, fitted, width_of, wrapped

EDGE, SHAPES = 6.0, 58.0  # points: the margin, and the space on the right for shapes
LINE, PAD, GAP, INSET = 9.4, 3.2, 4.0, 7.0  # points: text, padding, between blocks, inside frames
TALLEST = 640.0  # points: the height of a page


class _Row(NamedTuple):
    """A block: its part, its lines of text, its depth, and the number of rows that it frames."""

    part: Part
    lines: list[str]
    depth: int
    framed: int

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + (3.0 if self.framed else 2 * PAD)


def draw(parts: Sequence[Part], why: str = "") -> Figure:
    """Returns a matplotlib `Figure` of a network as blocks, with a remark at the bottom."""
    depth, most = _depth(parts), 999
    rows = [*_rows(parts, depth, most)]
    while _places(rows)[1] > TALLEST and most > 2:
        depth, most = (depth - 1, most) if depth else (0, min(most, len(rows)) - 1)
        rows = [*_rows(parts, depth, most)]
    remarks = f"{why} On the right: the shape of one example behind each block."
    if depth < _depth(parts):
        remarks += " Of dashed blocks the inside is not drawn."
    foot = wrapped(remarks.strip(), POINTS - 4 * EDGE)
    tops, height = _places(rows)
    sheet = Sheet(height + 2 * EDGE + LINE * len(foot) + 4)
    for place, row in enumerate(rows):
        last = place + row.framed
        below = tops[last] + rows[last].height + GAP * (rows[last].depth - row.depth)
        _block(sheet, row, EDGE + tops[place], EDGE + below)
    for place, line in enumerate(foot):
        sheet.text(EDGE, EDGE + height + 9 + LINE * place, line, ha="left")
    return sheet.figure


def _depth(parts: Sequence[Part]) -> int:
    return max((1 + _depth(part.children) for part in parts if part.children), default=0)


def _rows(parts: Sequence[Part], limit: int, most: int, depth: int = 0) -> Iterator[_Row]:
    """Yields the rows of parts down to depth `limit`; middle parts beyond `most` are left out."""
    if len(parts) > most:
        half = most // 2
        more = Part(f"… {len(parts) - 2 * half} more", "left out")
        parts = [*parts[:half], more, *parts[len(parts) - half :]]
    for part in parts:
        inside = [*_rows(part.children, limit, most, depth + 1)] if depth < limit else []
        folded = part.children and not inside
        text = ": ".join(filter(None, (part.text, summary(part)))) if folded else part.text
        times = f" × {part.times}" if part.times > 1 else ""
        room = POINTS - 2 * EDGE - SHAPES - 2 * depth * INSET - 18
        title = fitted(part.title, room - width_of(times)) + times
        line = f"{title}  {text}" if text else title
        lines = [line] if width_of(line) <= room else [title, *wrapped(text, room)]
        yield _Row(part, lines if part.title or times else lines[-1:], depth, len(inside))
        yield from inside


def _places(rows: Sequence[_Row]) -> tuple[list[float], float]:
    """Returns the top of each row, and the bottom of the last row and the frames that end there."""
    tops, y = [], 0.0
    for row, after in itertools.zip_longest(rows, rows[1:]):
        tops.append(y)
        ends = max(row.depth - (after.depth if after else 0), 0)
        y += row.height + GAP * (ends + bool(after))
    return tops, y


def _block(sheet: Sheet, row: _Row, top: float, bottom: float) -> None:
    """Draws a block, or the frame of a part that contains other blocks."""
    part, left = row.part, EDGE + row.depth * INSET
    wide = POINTS - 2 * EDGE - SHAPES - 2 * row.depth * INSET
    if row.framed:
        sheet.box(left, top, wide, bottom - top, facecolor=GRID, edgecolor=FAINT, alpha=0.4)
    elif part.kind not in ("input", "left out"):
        style = {"linestyle": (0, (3, 2))} if part.children else {}
        sheet.box(left, top, wide, row.height, facecolor=PAPER, edgecolor=FAINT, **style)
        sheet.line([left + 3.4] * 2, [top + 2, top + row.height - 2], part.colour, 2.6, zorder=3)
    y = top + (row.height - LINE * (len(row.lines) - 1)) / 2
    for number, line in enumerate(row.lines):
        title, _, text = line.partition("  ") if not number else ("", "", line)
        sheet.text(left + 8, y, title, INK, ha="left")
        if text:
            sheet.text(left + 8 + width_of(f"{title}  ") * bool(title), y, text, ha="left")
        y += LINE
    if part.shape and not row.framed:
        sheet.text(POINTS - EDGE, top + row.height / 2, fitted(part.shape, SHAPES - 4), ha="right")
