"""What the first nodes look for: their weights in the places of the pixels that they weigh.

    filters(params["hidden_1"]["weight"], (8, 8)).savefig("filters.png")

A node answers most to an image that is bright where its weights are positive, and dark where they
are negative. All have one scale, which the key explains.

>>> import numpy as np
>>> of_pixels(np.arange(12.0).reshape(4, 3), (2, 2))[0].tolist()
[[0.0, 3.0], [6.0, 9.0]]
"""

import math

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.pictures.scheme import FAINT, INK, MARK, number, signed
from jaxnn.pictures.sheet import POINTS, Sheet
from jaxnn.typing import Any

MOST, CHANNELS = 64, 4  # nodes and channels that are drawn
LARGEST, EDGE, KEY = 46.0, 8.0, 20.0  # points: of a filter, the margin, the key


def filters(weights: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Returns a matplotlib `Figure` of weights as small images, one for each node.

    Of more than 64 nodes the first 64 are drawn, and of more than 4 channels the first 4, side by
    side; the picture says so.

    Args:
      weights: `[pixels, nodes]` with the shape of the images, or those of a convolution, `[height,
        width, channels, nodes]`.
      shape: of the images, `(height, width)` or `(height, width, channels)`.

    Raises:
      InvalidValue: if the weights have neither form, or do not fit the shape.
    """
    from matplotlib.colors import to_rgba

    images = of_pixels(np.asarray(weights, float), shape)
    count, high, wide = images.shape[:3]
    channels = math.prod(images.shape[3:])
    known = np.abs(images[np.isfinite(images)])
    scale = float(known.max(initial=0.0)) or 1.0
    remarks = _remarks(images, count, channels)
    shown = images.reshape(count, high, wide, channels)[:MOST, :, :, :CHANNELS]
    tiles = np.concatenate(np.moveaxis(shown, -1, 0), 2)  # channels side by side
    columns, side = _columns(len(tiles), high, tiles.shape[2])
    rows = -(-len(tiles) // columns)
    step = side * high / tiles.shape[2] + 3.0
    sheet = Sheet(EDGE + rows * step + KEY + 10.0 * len(remarks))
    shades = signed()
    for place, tile in enumerate(tiles):
        colours = shades(0.5 + 0.5 * np.nan_to_num(tile) / scale)
        colours[~np.isfinite(tile)] = to_rgba(MARK)
        left = EDGE + place % columns * (side + 3.0)
        top = EDGE + place // columns * step
        sheet.axes.imshow(
            colours, extent=(left, left + side, top + step - 3.0, top), aspect="auto",
            interpolation="nearest", gid=f"filter:{place}",
        )  # fmt: skip
    y = EDGE + rows * step + 6
    _key(sheet, y, scale)
    for place, remark in enumerate(remarks):
        sheet.text(EDGE, y + 12 + 10 * place, remark, ha="left")
    return sheet.figure


def of_pixels(weights: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """Returns weights as `[nodes, height, width, ...]`.

    Raises:
      InvalidValue: as `filters`.
    """
    if weights.ndim == 2 and shape is not None and len(shape) in (2, 3):
        if math.prod(shape) == len(weights) and weights.size:
            return weights.T.reshape(-1, *shape)
    elif weights.ndim == 4 and shape is None and weights.size:
        return np.moveaxis(weights, -1, 0)
    raise InvalidValue(
        "filters",
        "the weights are not those of images",
        got=f"weights of shape {weights.shape} and shape={shape}",
        expected="[pixels, nodes] with the shape (height, width) of the pixels, or [height, width,"
        " channels, nodes] of a convolution",
        fix="Pass those of the first layer: filters(params['hidden_1']['weight'], (8, 8))",
    )


def _columns(count: int, high: int, wide: int) -> tuple[int, float]:
    """Returns how many filters are side by side, and how wide they are in points."""
    room = POINTS - 2 * EDGE + 3.0
    best = max(1, round(math.sqrt(1.2 * count * high / wide)))
    near = [columns for columns in range(best - 1, best + 2) if columns and count % columns == 0]
    columns = min(count, near[-1] if near else best)
    side = min(room / columns - 3.0, LARGEST * max(1.0, wide / high))
    return columns, side


def _remarks(images: np.ndarray, count: int, channels: int) -> list[str]:
    said = "Node 0, 1, ... row by row" if count > 1 else "One node"
    said += f"; the first {MOST} of {count:,}" if count > MOST else ""
    remarks = [f"{said}."]
    if channels > CHANNELS:
        remarks.append(f"The first {CHANNELS} of {channels:,} channels are drawn, side by side.")
    elif channels > 1:
        remarks.append(f"The {channels} channels of a node are side by side.")
    lost = int((~np.isfinite(images)).sum())
    if lost:
        remarks.append(f"Not finite, in red: {lost:,} weight{'s' * (lost > 1)}.")
    return remarks


def _key(sheet: Sheet, y: float, scale: float) -> None:
    """Explains the colours."""
    said = number(float(f"{scale:.2g}"))
    sheet.text(EDGE, y, "weight", INK, ha="left")
    x, ramp = EDGE + 62, signed()(np.linspace(0, 1, 64))[None]
    sheet.text(x - 4, y, f"−{said}", FAINT, ha="right")
    sheet.axes.imshow(ramp, extent=(x, x + 80, y + 3, y - 3), aspect="auto", gid="key")
    sheet.text(x + 84, y, said, FAINT, ha="left")
