"""Renders drawings by hand with the size, position, thickness and range of the training images.

A network only recognizes drawings that look like its training images. MNIST scales a digit to 20x20
pixels, and moves its centre of mass to the centre of 28x28. The UCI digits fill the full height of
8x8, and have similar widths and amounts of ink. Drawings for such small images are therefore
straightened, stretched, and drawn with a pen whose width gives the same amount of ink.

>>> import numpy as np
>>> stroke = [[0.1, 0.1], [0.1, 0.3]]  # a short line in a corner
>>> image = drawn(Framing((28, 28), 1.0, 20 / 28), [stroke])
>>> rows = np.flatnonzero(image.sum(1) > 0.5)
>>> int(rows.min()), int(rows.max())
(4, 23)
"""

import math
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.serving.refusals import Refused
from jaxnn.typing import Any

FINE = 8  # supersampling factor along each axis
STROKES, POINTS = 200, 20_000  # maximum numbers per drawing
PEN = 0.1  # width of a stroke, as a fraction of the side of the image
SMALL = 16  # images up to this many pixels wide have no margin, and equal amounts of ink
ASPECTS, INK = (0.5, 0.8), 0.305  # for small images: range of width / height, fraction of ink
PENS = (0.12, 0.32)  # for small images: range of stroke widths
SMALLEST = 0.12  # of the canvas; smaller drawings are scaled less, so that a dot remains a dot


class Framing(NamedTuple):
    """The framing of the training images.

    Attributes:
      shape: the shape of an image, `(height, width)` or `(height, width, channels)`.
      high: the highest pixel value.
      extent: the longer side of the drawing, as a fraction of the shorter side of the image.
      filled: whether drawings are upright, fill the image, and have equal amounts of ink.
      inverted: whether ink is 0 and paper is `high`, instead of the reverse.
    """

    shape: tuple[int, ...]
    high: float
    extent: float
    filled: bool = False
    inverted: bool = False


def framing(example: jax.ShapeDtypeStruct, examples: np.ndarray | None = None) -> Framing:
    """Infers the framing of images from training images, or else from their shape and dtype.

    Args:
      example: the shape and dtype of an image.
      examples: training images, `[examples, height, width, ...]`, or `None`.
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
    """Renders strokes as a float32 image that is framed like the training images.

    Args:
      framing: the framing of the training images.
      strokes: lists of points `[x, y]` from 0 to 1, relative to the upper left corner.

    Raises:
      Refused: if the strokes have another form.
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
    """Centres strokes and scales them to the extent of training; also returns the pen width."""
    low, high = _box(lines)
    pen = PEN * side
    scale = (framing.extent * side - pen) / max(float((high - low).max()), SMALLEST)
    return [(line - (low + high) / 2) * scale for line in lines], pen


def _filling(
    framing: Framing, lines: list[np.ndarray], side: int
) -> tuple[list[np.ndarray], float]:
    """Centres strokes and scales them to the height of the image; also returns the pen width.

    The pen width is chosen such that the drawing has as much ink as the training images.
    """
    low, high = _box(lines)
    if (high - low).max() < SMALLEST:
        return _scaled(framing, lines, side)
    lines = _upright(lines)
    low, high = _box(lines)
    wide, tall = np.maximum(high - low, 1e-3)
    pen, scaled = PENS[0] * side, lines
    for _ in range(4):  # pen width and scale depend on each other
        inner = np.array([np.clip(wide / tall, *ASPECTS), 1.0]) * side - pen
        # The bound on the width prevents a vertical line from being stretched.
        scale = np.minimum(np.maximum(inner, 1) / (wide, tall), [4 * side / tall, np.inf])
        scaled = [(line - (low + high) / 2) * scale for line in lines]
        length = sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in scaled)
        pen = float(np.clip(INK * side * side / (length + side / 8), *np.array(PENS) * side))
    return scaled, pen


def _upright(lines: list[np.ndarray]) -> list[np.ndarray]:
    """Removes half of the slant of strokes, which is their horizontal drift towards the top.

    Without any slant, a 7 is not recognized; with all the slant of some people, few digits are.
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
    """Centres and downsamples a bitmap of twice the image size, and scales its values.

    The centre of mass moves to the centre of the image, unless that cuts off part of the drawing.
    """
    height, width = framing.shape[:2]
    corner = []
    for axis, size in ((0, height * FINE), (1, width * FINE)):
        mass = bitmap.sum(1 - axis)
        at = np.flatnonzero(mass > 0)
        centre = float((mass * np.arange(len(mass))).sum() / mass.sum()) + 0.5
        first = round(centre - size / 2)
        # Between these bounds, the whole drawing is inside.
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
    """Converts an image to the dtype of the training images."""
    whole = np.issubdtype(dtype, np.integer)
    high = np.iinfo(dtype).max if whole else math.inf
    return np.clip(np.rint(image) if whole else image, 0, high).astype(dtype)
