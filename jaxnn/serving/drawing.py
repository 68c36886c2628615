"""What a hand draws, as the images of training are: of their size, place, thickness and range.

MNIST scales a digit into 20x20 pixels and puts its centre of mass into the middle of 28x28. The UCI
digits fill the whole height of 8x8, are about as wide as each other, and have as much ink: so
drawings for such small images are set straighter, stretched, and drawn with the pen that takes.
A network reads drawings that are framed as it has learned.

>>> import numpy as np
>>> stroke = [[0.1, 0.1], [0.1, 0.3]]  # a short line in a corner
>>> image = drawn(Framing((28, 28), 1.0, 20 / 28), [stroke])
>>> rows = np.flatnonzero(image.sum(1) > 0.5)
>>> int(rows.min()), int(rows.max())
(4, 23)
"""

import math
from typing import NamedTuple

import numpy as np

from jaxnn.serving.refusals import Refused
from jaxnn.typing import Any

FINE = 8  # points of a drawing for each pixel, along each side
STROKES, POINTS = 200, 20_000  # of a drawing, at most
PEN = 0.1  # the width of a stroke, of the side of an image
SMALL = 16  # pixels of a side, up to which images have no margin, and the same ink
ASPECTS, INK = (0.5, 0.8), 0.305  # of such: width to height, and the share of the image
PENS = (0.12, 0.32)  # the widths of their strokes, of the side
SMALLEST = 0.12  # of the canvas: what is smaller is not drawn larger, so that a dot stays a dot


class Framing(NamedTuple):
    """How the images of training are framed.

    Attributes:
      shape: of an image, `(height, width)` or `(height, width, channels)`.
      high: the value of full ink.
      extent: the longer side of what is drawn, of the shorter side of the image.
      filled: whether what is drawn is upright, fills the image, and has the same ink in all.
      inverted: whether ink is low and paper high.
    """

    shape: tuple[int, ...]
    high: float
    extent: float
    filled: bool = False
    inverted: bool = False


def framing(example: Any, examples: Any = None) -> Framing:
    """Returns how images are framed, from some of them if there are any.

    Args:
      example: the shape and dtype of an image.
      examples: images of training, `[examples, height, width, ...]`.
    """
    shape, small = example.shape, min(example.shape[:2])
    real = np.issubdtype(example.dtype, np.floating)
    filled, inverted = small <= SMALL, False
    high = 1.0 if real else 16.0 if filled else 255.0
    extent = 1.0 if filled else 20 / 28
    if examples is not None and len(examples) and np.asarray(examples).shape[1:] == shape:
        images = np.asarray(examples, np.float64)
        top = float(images.max())
        high = next((each for each in (1.0, 16.0, 255.0) if top <= each), top)
        images = images.reshape(*images.shape[:3], -1).mean(-1) / high
        edge = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], 1)
        inverted = bool(np.median(edge) > 0.5)
        ink = 1 - images if inverted else images
        sides = [max(_extent(each, axis) for axis in (0, 1)) for each in ink if each.max() > 0.3]
        extent = float(np.clip(np.median(sides) / small, 0.4, 1.0)) if sides else extent
        filled = filled and extent > 0.95
    return Framing(shape, high, extent, filled, inverted)


def drawn(framing: Framing, strokes: Any) -> np.ndarray:
    """Returns strokes as an image in the form of training, float32.

    Args:
      framing: how the images of training are framed.
      strokes: lists of points `[x, y]`, of 0 to 1 from the upper left corner of the canvas.

    Raises:
      Refused: if they are something else.
    """
    from PIL import Image, ImageDraw

    lines = _checked(strokes)
    height, width = framing.shape[:2]
    size = np.array([width, height]) * FINE
    lines, pen = (_filling if framing.filled else _scaled)(framing, lines, min(size.tolist()))
    # Twice as large as the image, so that nothing is cut off before it is centred.
    canvas = Image.new("L", tuple((2 * size).tolist()))
    brush = ImageDraw.Draw(canvas)
    for line in lines:
        ends = [tuple(point) for point in (line + size).tolist()]
        if len(ends) > 1:
            brush.line(ends, fill=255, width=round(pen), joint="curve")
        for x, y in (ends[0], ends[-1]):
            brush.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=255)
    bitmap = np.asarray(canvas, np.float32) / 255
    return framed(framing, bitmap)


def _scaled(framing: Framing, lines: list[np.ndarray], side: int) -> tuple[list[np.ndarray], float]:
    """Returns centred strokes, whose longer side is that of training, and the width of the pen."""
    low, high = _box(lines)
    pen = PEN * side
    scale = (framing.extent * side - pen) / max(float((high - low).max()), SMALLEST)
    return [(line - (low + high) / 2) * scale for line in lines], pen


def _filling(
    framing: Framing, lines: list[np.ndarray], side: int
) -> tuple[list[np.ndarray], float]:
    """Returns centred strokes as high as the image, and the pen that takes the ink of training."""
    low, high = _box(lines)
    if (high - low).max() < SMALLEST:
        return _scaled(framing, lines, side)
    lines = _upright(lines)
    low, high = _box(lines)
    wide, tall = np.maximum(high - low, 1e-3)
    pen, scaled = PENS[0] * side, lines
    for _ in range(4):  # the wider the pen, the shorter the strokes that fill the image
        inner = np.array([np.clip(wide / tall, *ASPECTS), 1.0]) * side - pen
        # A line stays a line: its width is that of the pen.
        scale = np.minimum(np.maximum(inner, 1) / (wide, tall), [4 * side / tall, np.inf])
        scaled = [(line - (low + high) / 2) * scale for line in lines]
        length = sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in scaled)
        pen = float(np.clip(INK * side * side / (length + side / 8), *np.array(PENS) * side))
    return scaled, pen


def _upright(lines: list[np.ndarray]) -> list[np.ndarray]:
    """Returns strokes with half of their slant, which is their sideways trend towards the top.

    Upright, a 7 is no 7; slanted as some people write, hardly anything is read.
    """
    middles = np.concatenate([(line[1:] + line[:-1]) / 2 for line in lines])
    weights = np.concatenate([np.hypot(*np.diff(line, axis=0).T) for line in lines])
    if weights.sum() < 1e-6:
        return lines
    x, y = (middles - np.average(middles, 0, weights)).T
    spread = np.average(y * y, weights=weights)
    slant = np.average(x * y, weights=weights) / spread if spread > 1e-6 else 0.0
    slant = float(np.clip(slant / 2, -0.4, 0.4))
    return [line - [[slant, 0.0]] * line[:, 1:] for line in lines]


def _box(lines: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    points = np.concatenate(lines)
    return points.min(0), points.max(0)


def framed(framing: Framing, bitmap: np.ndarray) -> np.ndarray:
    """Returns a fine bitmap, of twice the size of the image, centred and in the form of training.

    The centre of mass comes into the middle, as far as that leaves all of the drawing inside.
    """
    height, width = framing.shape[:2]
    corner = []
    for axis, size in ((0, height * FINE), (1, width * FINE)):
        mass = bitmap.sum(1 - axis)
        at = np.flatnonzero(mass > 0)
        centre = float((mass * np.arange(len(mass))).sum() / mass.sum()) + 0.5
        first = round(centre - size / 2)
        # Between these, all is inside.
        first = min(max(first, int(at[-1]) + 1 - size), int(at[0]))
        corner.append(min(max(first, 0), size))
    top, left = corner
    cut = bitmap[top : top + height * FINE, left : left + width * FINE]
    image = cut.reshape(height, FINE, width, FINE).mean((1, 3), dtype=np.float32)
    image = (1 - image if framing.inverted else image) * np.float32(framing.high)
    if len(framing.shape) == 3:
        image = np.repeat(image[..., None], framing.shape[2], 2)
    return image


def _extent(image: np.ndarray, axis: int) -> int:
    at = np.flatnonzero(image.max(1 - axis) > 0.15)
    return int(at[-1] - at[0]) + 1 if len(at) else 0


def _checked(strokes: Any) -> list[np.ndarray]:
    lines, points = [], 0
    if isinstance(strokes, list) and 0 < len(strokes) <= STROKES:
        for stroke in strokes:
            line = _line(stroke)
            points += 0 if line is None else len(line)
            if line is None or points > POINTS:
                break
            lines.append(line)
        else:
            return lines
    raise Refused(
        422,
        "the strokes are not strokes",
        got=f"a {type(strokes).__name__}" + f" of {len(strokes)}" * isinstance(strokes, list | str),
        expected=f"1 to {STROKES} lists of points [x, y], from 0 to 1, {POINTS:,} in all",
        fix='Send {"strokes": [[[0.2, 0.5], [0.8, 0.5]]]} for a line from left to right',
    )


def _line(stroke: Any) -> np.ndarray | None:
    try:
        line = np.asarray(stroke)
    except (ValueError, OverflowError):
        return None
    good = line.dtype.kind in "if" and line.ndim == 2 and line.shape[1] == 2 and len(line)
    return line.astype(np.float64) if good and bool((abs(line - 0.5) <= 1).all()) else None


def rounded(image: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns an image in the dtype of training."""
    whole = np.issubdtype(dtype, np.integer)
    high = np.iinfo(dtype).max if whole else math.inf
    return np.clip(np.rint(image) if whole else image, 0, high).astype(dtype)
