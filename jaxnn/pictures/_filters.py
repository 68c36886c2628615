"""Draws the weights of the nodes in the first layer as images, in the layout of their inputs.

    filters(params["hidden_1"]["weight"], (8, 8)).savefig("filters.png")

A node responds most to an image that is bright where its weights are positive, and dark where they
are negative. All filters share one colour scale, which the key shows.

>>> import numpy as np
>>> of_pixels(np.arange(12.0).reshape(4, 3), (2, 2))[0, :, :, 0].tolist()
[[0.0, 3.0], [6.0, 9.0]]
"""

import math

import numpy as np

from jaxnn.pictures.arguments import check_shapes
from jaxnn.pictures.scheme import INK, MARK, Figure, number, signed
from jaxnn.pictures.sheet import POINTS, Sheet
from jaxnn.typing import Any

MOST, CHANNELS = 64, 4  # the largest numbers of nodes and of channels in a figure
LARGEST, EDGE, GAP, KEY = 46.0, 8.0, 3.0, 20.0  # points: the side, the margin, the gap, the key


def filters(weights: Any, shape: tuple[int, ...] | None = None) -> Figure:
    """Returns a matplotlib `Figure` of weights as small images, one for each node.

    At most 64 nodes are drawn, the first ones, and at most 4 channels, side by side. A remark in
    the figure says what is omitted.

    Args:
      weights: `[pixels, nodes]`, which requires `shape`, or the weights of a convolution,
        `[height, width, channels, nodes]`.
      shape: the shape of the images, `(height, width)` or `(height, width, channels)`.

    Raises:
      InvalidValue: if the weights have neither form, or do not match the shape.
    """
    from matplotlib.colors import to_rgba

    images = of_pixels(np.asarray(weights, float), shape)
    count, _, _, channels = images.shape
    known = np.isfinite(images)
    scale = np.abs(images[known]).max(initial=0.0) or 1.0
    remarks = ["Node 0, 1, ... row by row" if count > 1 else "One node"]
    remarks[0] += f"; the first {MOST} of {count:,}." if count > MOST else "."
    if channels > CHANNELS:
        remarks.append(f"The first {CHANNELS} of {channels:,} channels are drawn, side by side.")
    elif channels > 1:
        remarks.append(f"The {channels} channels of a node are side by side.")
    if lost := int((~known).sum()):
        remarks.append(f"Not finite, in red: {lost:,} weight{'s' * (lost > 1)}.")

    tiles = np.concatenate(np.moveaxis(images[:MOST, ..., :CHANNELS], -1, 0), 2)
    count, high, wide = tiles.shape
    columns = _columns(count, high / wide)
    side = min((POINTS - 2 * EDGE + GAP) / columns - GAP, LARGEST * max(1.0, wide / high))
    step = side * high / wide + GAP
    end = EDGE + step * -(-count // columns)
    sheet = Sheet(end + KEY + 10.0 * len(remarks))
    shades = signed()
    for place, tile in enumerate(tiles):
        colours = shades(0.5 + 0.5 * np.nan_to_num(tile) / scale)
        colours[~np.isfinite(tile)] = to_rgba(MARK)
        x, y = EDGE + place % columns * (side + GAP), EDGE + place // columns * step
        sheet.image(x, y, side, step - GAP, colours, gid=f"filter:{place}")
    x, y, said = EDGE + 62, end + 6, number(scale, 2)
    sheet.text(EDGE, y, "weight", INK, ha="left")
    sheet.text(x - 4, y, f"−{said}", ha="right")
    sheet.image(x, y - 3, 80, 6, shades(np.linspace(0, 1, 64))[None], gid="key")
    sheet.text(x + 84, y, said, ha="left")
    for place, remark in enumerate(remarks):
        sheet.text(EDGE, y + 12 + 10 * place, remark, ha="left")
    return sheet.figure


def of_pixels(weights: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """Returns weights as `[nodes, height, width, channels]`; raises the errors of `filters`."""
    if shape is None:
        fits = weights.ndim == 4
    else:
        fits = weights.ndim == 2 and len(shape) in (2, 3) and math.prod(shape) == len(weights)
    check_shapes(
        "filters",
        fits and weights.size,
        expected="[pixels, nodes] with the shape (height, width) of the pixels, or [height, width,"
        f" channels, nodes] of a convolution, not shape={shape}",
        fix="Pass those of the first layer: filters(params['hidden_1']['weight'], (8, 8))",
        weights=weights,
    )
    images = np.moveaxis(weights, -1, 0) if shape is None else weights.T.reshape(-1, *shape)
    return images if images.ndim == 4 else images[..., None]


def _columns(count: int, tall: float) -> int:
    """Returns the number of filters in a row, chosen to fill all rows where possible."""
    best = max(1, round(math.sqrt(1.2 * count * tall)))
    even = [columns for columns in range(best - 1, best + 2) if columns and count % columns == 0]
    return min(count, even[-1] if even else best)
