"""A network as blocks, from its inputs at the top down to its outputs.

Each box is a part with weights, with what merely follows it, such as an activation, in the lines
below; beside it is the shape of one example behind it. A residual branch has its shortcut on the
left, down to the plus; a frame with "× 12" is there so often. What does not fit a page is summed
up, the innermost first, and the picture says so.

>>> from jaxnn.pictures.parts import Block
>>> blocks = Block("input", "input", output=(1, 4)), Block("out", "linear", "2 nodes", (1, 2))
>>> [text.get_text() for text in draw(blocks).axes[0].texts][:-1]
['input', '4', 'out', 'linear, 2 nodes', '2']
"""

import itertools
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxnn.pictures.parts import Block
from jaxnn.pictures.scheme import COLOURS, FAINT, GRID, INK, LABEL, PAPER, words
from jaxnn.pictures.sheet import POINTS, Sheet, fitted, width_of
from jaxnn.pictures.wording import (
    MINOR,
    all_words,
    depth_of,
    flat,
    minor_words,
    shape_words,
    summary,
    title_and_text,
    wrapped,
)
from jaxnn.typing import Any, Callable

EDGE, SHAPES = 6.0, 58.0  # points: the margin, and the room on the right for shapes
LINE, PAD, BETWEEN = 9.4, 3.2, 8.0  # points: a line of text, around it, and from box to box
INSET, LOOP, PLUS = 6.0, 10.0, 4.2  # points: inside a frame, for a shortcut, radius of the plus
NARROW = 56.0  # points: a box side by side with others is wider
TALLEST = 640.0  # points: a page

_COLOURS = {
    "linear": COLOURS[0], "conv": COLOURS[2], "depthwise_conv": COLOURS[2],
    "conv_transpose": COLOURS[2], "attention": COLOURS[4], "gru": COLOURS[6], "lstm": COLOURS[6],
    "embedding": COLOURS[1], "positions": COLOURS[1], "draw of a normal distribution": COLOURS[5],
}  # fmt: skip


class _Place(NamedTuple):
    """Where something is drawn, in points: below `top`, with what flows through it at `trunk`."""

    left: float
    right: float
    top: float
    trunk: float
    shapes: bool = True  # whether there is room on the right for shapes


class _Piece(NamedTuple):
    """Something to draw, its height, and whether it begins with a box, to which an arrow leads."""

    height: float
    draw: Callable[[Sheet, _Place], None]
    solid: bool = True


def draw(blocks: Sequence[Block], why: str = "") -> Any:
    """Returns a matplotlib `Figure` of blocks.

    Args:
      blocks: from the inputs to the outputs.
      why: a remark for the foot of the picture.
    """
    wide = POINTS - 2 * EDGE - SHAPES
    deepest = max(map(depth_of, blocks), default=0)
    depth, most = deepest, len(list(flat(blocks)))
    piece = _column(blocks, wide, depth, most)
    while piece.height > TALLEST and most > 2:
        depth, most = (depth - 1, most) if depth else (0, most - 1)
        piece = _column(blocks, wide, depth, most)
    remarks = [why] if why else []
    remarks.append("On the right: the shape of one example behind each block.")
    if depth < deepest:
        remarks.append("Of dashed boxes the inside is not drawn.")
    foot = textwrap.wrap(" ".join(remarks), 60)
    sheet = Sheet(piece.height + 2 * EDGE + (LINE * len(foot) + 6) * bool(foot))
    piece.draw(sheet, _Place(EDGE, EDGE + wide, EDGE, EDGE + wide / 2))
    for place, line in enumerate(foot):
        sheet.text(EDGE, EDGE + piece.height + 11 + LINE * place, line, ha="left")
    return sheet.figure


def _column(
    blocks: Iterable[Block], wide: float, depth: int, most: int = 999, flows: bool = True
) -> _Piece:
    """Returns blocks one below the other; of more than `most` those in the middle are left out."""
    pieces = _pieces(list(flat(blocks)), wide, depth)
    if len(pieces) > most:
        half = most // 2
        left_out = _text(f"… {len(pieces) - 2 * half} more", wide)
        pieces = [*pieces[:half], left_out, *pieces[len(pieces) - half :]]

    def draw(sheet: Sheet, place: _Place) -> None:
        for number, piece in enumerate(pieces):
            if number:
                if flows:
                    _arrow(sheet, place.trunk, place.top, place.top + BETWEEN, piece.solid)
                place = place._replace(top=place.top + BETWEEN)
            piece.draw(sheet, place)
            place = place._replace(top=place.top + piece.height)

    height = sum(piece.height for piece in pieces) + BETWEEN * max(len(pieces) - 1, 0)
    return _Piece(height, draw, not pieces or pieces[0].solid)


def _pieces(blocks: list[Block], wide: float, depth: int) -> list[_Piece]:
    """Returns a piece for each container, and for each part with the minor ones around it."""
    pieces, before = [], []
    while blocks:
        block = blocks.pop(0)
        if block.kind in MINOR and not block.blocks:
            before.append(block)
            continue
        after = []
        while blocks and blocks[0].kind in MINOR and (not block.blocks or block.kind == "residual"):
            after.append(blocks.pop(0))
        if block.blocks:
            pieces += [_box(before, wide)] if before else []
            pieces.append(_container(block, after, wide, depth))
        else:
            pieces.append(_box([*before, block, *after], wide))
        before = []
    return [*pieces, _box(before, wide)] if before else pieces


def _container(block: Block, after: list[Block], wide: float, depth: int) -> _Piece:
    if not depth:
        return _summary(block, after, wide)
    if block.kind == "residual" and block.times == 1:
        return _residual(block, after, wide, depth)
    if block.kind == "parallel" and block.times == 1:
        return _parallel(block, wide, depth)
    inside = (block._replace(times=1),) if block.kind in ("residual", "parallel") else block.blocks
    # A frame around one loop is no step further inside.
    depth -= sum(bool(part.blocks) or part.kind not in MINOR for part in inside) > 1
    flows = block.kind != "network"
    inner = _column(inside, wide - 2 * INSET, depth, flows=flows)
    said = "" if flows else block.detail
    return _framed(inner, ": ".join(filter(None, (words(block.name), said))), block.times, flows)


def _box(blocks: Sequence[Block], wide: float) -> _Piece:
    """Returns parts in one box, a line for the one that has weights and lines for the others."""
    lines: list[tuple[str, str]] = []  # what is said first, in ink, and what follows it
    for minor, group in itertools.groupby(blocks, lambda block: block.kind in MINOR):
        if minor:
            said = ", ".join(filter(None, map(minor_words, group)))
            lines += [("", line) for line in wrapped(said, wide - 12)]
        else:
            lead, rest = title_and_text(*group)
            room = wide - 12 - width_of(lead + "  ")
            one_line = width_of(rest) <= room
            lines.append((fitted(lead, wide - 12), rest if one_line else ""))
            lines += [] if one_line else [("", line) for line in wrapped(rest, wide - 12)]
    if all(block.kind in MINOR for block in blocks):
        lines = [(rest, "") for _, rest in lines] or [(words(blocks[-1].kind), "")]
    main = next((block for block in blocks if block.kind not in MINOR), blocks[-1])
    if main.kind == "input":
        return _text("input", wide, main.output)
    return _boxed(lines, blocks[-1].output, wide, _COLOURS.get(main.kind, FAINT))


def _boxed(lines, output: Any, wide: float, colour: str, dashed: bool = False) -> _Piece:
    height = LINE * len(lines) + 2 * PAD

    def draw(sheet: Sheet, place: _Place) -> None:
        style = {"linestyle": (0, (3, 2))} if dashed else {}
        sheet.box(
            place.left, place.top, wide, height, facecolor=PAPER, edgecolor=FAINT, zorder=3, **style
        )
        y = [place.top + 2, place.top + height - 2]
        sheet.line([place.left + 3.4] * 2, y, colour, 2.6, zorder=4)
        for number, (lead, rest) in enumerate(lines):
            x, y = place.left + 8, place.top + PAD + LINE * (number + 0.5)
            if lead:
                sheet.text(x, y, lead, INK, ha="left", zorder=5)
                x += width_of(lead + "  ")
            if rest:
                sheet.text(x, y, rest, ha="left", zorder=5)
        _shaped(sheet, place, height, output)

    return _Piece(height, draw)


def _text(said: str, wide: float, output: Any = None) -> _Piece:
    """Returns a line of text."""

    def draw(sheet: Sheet, place: _Place) -> None:
        sheet.text(place.trunk, place.top + LINE / 2, said, INK)
        _shaped(sheet, place, LINE, output)

    return _Piece(LINE, draw)


def _summary(block: Block, after: list[Block], wide: float) -> _Piece:
    """Returns a container as one box."""
    minor = ", ".join(filter(None, map(minor_words, after)))
    times = f"× {block.times}" if block.times > 1 else ""
    lead = words(block.name) or words(block.kind)
    lines = [(fitted(lead, wide - 40), times)]
    lines += [("", line) for line in wrapped(summary(block), wide - 12)]
    lines += [("", minor)] if minor else []
    output = after[-1].output if after else block.output
    return _boxed(lines, output, wide, FAINT, dashed=True)


def _framed(inner: _Piece, name: str, times: int, flows: bool = True) -> _Piece:
    """Returns a piece in a frame with a name, and how often it is there."""
    head = LINE + 3
    height = head + inner.height + INSET + 2

    def draw(sheet: Sheet, place: _Place) -> None:
        wide = place.right - place.left
        sheet.box(
            place.left, place.top, wide, height,
            facecolor=GRID, edgecolor=FAINT, alpha=0.4, zorder=1,
        )  # fmt: skip
        y = place.top + head / 2 + 0.5
        if flows:
            first, end = place.top + head, place.top + head + inner.height
            _arrow(sheet, place.trunk, place.top, first, head=False)
            sheet.line([place.trunk] * 2, [end, place.top + height], zorder=2)
        name_room = place.trunk - place.left - INSET - 4 if flows else wide - 2 * INSET
        sheet.text(place.left + INSET, y, fitted(name, name_room), ha="left")
        if times > 1:
            sheet.text(place.right - INSET, y, f"× {times}", INK, ha="right", fontsize=LABEL)
        left, right = place.left + INSET, place.right - INSET
        inner.draw(sheet, place._replace(left=left, right=right, top=place.top + head))

    return _Piece(height, draw)


def _residual(block: Block, after: list[Block], wide: float, depth: int) -> _Piece:
    """Returns a branch with its shortcut on the left, and the plus where they meet."""
    branch, shortcut = block.blocks
    inner = _column((branch,), wide - LOOP, depth - 1)
    said = [] if shortcut.kind == "identity" else [f"shortcut: {all_words(shortcut)}"]
    minor = ", ".join(filter(None, map(minor_words, after)))
    room = (wide - LOOP) / 2 - 8
    lines = [line for text in (*said, minor) if text for line in wrapped(text, room)]
    foot = max(2 * PLUS, LINE * len(lines)) + 2
    height = 4 + BETWEEN + inner.height + BETWEEN + foot

    def draw(sheet: Sheet, place: _Place) -> None:
        x, y = place.left + 3, place.top + height - foot / 2 - 1
        split = place.top + 3
        sheet.line([place.trunk, x, x, place.trunk - PLUS], [split, split, y, y], zorder=2)
        first = place.top + 4 + BETWEEN
        _arrow(sheet, place.trunk, place.top, first)
        inner.draw(sheet, place._replace(left=place.left + LOOP, top=first))
        _arrow(sheet, place.trunk, first + inner.height, y - PLUS)
        _joined(sheet, place.trunk, y, "+")
        for number, line in enumerate(lines):
            at = y + LINE * (number - (len(lines) - 1) / 2)
            sheet.text(place.trunk + PLUS + 4, at, line, ha="left")
        sheet.line([place.trunk] * 2, [y + PLUS, place.top + height], zorder=2)
        if after or said:
            _shaped(sheet, place._replace(top=y - 5), 10, (after[-1] if after else block).output)

    return _Piece(height, draw, solid=False)


def _parallel(block: Block, wide: float, depth: int) -> _Piece:
    """Returns branches side by side, or one below the other where they are many."""
    count = len(block.blocks)
    each = (wide - INSET * (count - 1)) / count
    if each < NARROW:
        inner = _column(block.blocks, wide - 2 * INSET, depth - 1, flows=False)
        return _framed(inner, f"{count} branches on the same inputs", 1, flows=False)
    pieces = [_column((branch,), each, depth - 1) for branch in block.blocks]
    tallest = max(piece.height for piece in pieces)
    height = 3 + BETWEEN + tallest + BETWEEN + 2 * PLUS

    def draw(sheet: Sheet, place: _Place) -> None:
        y = place.top + height - PLUS
        top = place.top + 3 + BETWEEN
        sheet.line([place.trunk] * 2, [place.top, place.top + 3], zorder=2)
        for number, piece in enumerate(pieces):
            left = place.left + number * (each + INSET)
            middle = left + each / 2
            sheet.line([place.trunk, middle], [place.top + 3] * 2, zorder=2)
            _arrow(sheet, middle, place.top + 3, top)
            piece.draw(sheet, _Place(left, left + each, top, middle, shapes=False))
            sheet.line([middle, middle, place.trunk], [top + piece.height, y, y], zorder=2)
        _joined(sheet, place.trunk, y, {"product": "×", "add": "+"}.get(block.detail, ""))
        _shaped(sheet, place._replace(top=y - 5), 10, block.output)

    return _Piece(height, draw, solid=False)


def _joined(sheet: Sheet, x: float, y: float, sign: str) -> None:
    """Draws a circle in which ways meet, with a plus or a cross in it."""
    sheet.circle(x, y, PLUS, PAPER, INK, zorder=4)
    reach = 0.55 * PLUS
    if sign == "+":
        sheet.line([x - reach, x + reach], [y, y], INK, 0.9, zorder=5)
        sheet.line([x, x], [y - reach, y + reach], INK, 0.9, zorder=5)
    elif sign:
        sheet.line([x - reach, x + reach], [y - reach, y + reach], INK, 0.9, zorder=5)
        sheet.line([x - reach, x + reach], [y + reach, y - reach], INK, 0.9, zorder=5)


def _arrow(sheet: Sheet, x: float, top: float, bottom: float, head: bool = True) -> None:
    sheet.line([x, x], [top, bottom - 2 * head], zorder=2)
    if head:
        sheet.axes.fill(
            [x - 1.8, x + 1.8, x], [bottom - 3.6, bottom - 3.6, bottom], FAINT, zorder=2
        )


def _shaped(sheet: Sheet, place: _Place, height: float, output: Any) -> None:
    """Writes the shape of an example at the right edge."""
    if place.shapes and output is not None:
        y = place.top + height / 2
        sheet.text(POINTS - EDGE, y, fitted(shape_words(output), SHAPES - 4), ha="right")
