"""Draws a grid of images, such as the inputs or the samples of a network.

image_grid(images).savefig("samples.png")
"""

import numpy as np

from jaxnn.checks import positive_integer
from jaxnn.pictures.arguments import check_shapes
from jaxnn.pictures.scheme import Figure
from jaxnn.typing import Any

SIDE = 0.35  # inches, the width of an image
GAP = 1  # pixels between images


def image_grid(images: Any, *, columns: int = 10) -> Figure:
    """Returns a matplotlib `Figure` of images in rows.

    Args:
      images: grey images `[images, height, width]`, or RGB images `[images, height, width, 3]`. The
        values are uint8, or numbers from 0 (black) to 1. Other numbers are clipped to that range.
      columns: the number of images in a row. The last row may have fewer.

    Raises:
      InvalidValue: if `images` has another shape or is empty, or `columns` is not positive.
    """
    from matplotlib.figure import Figure

    positive_integer("image_grid", "columns", columns)
    images = np.asarray(images)
    check_shapes(
        "image_grid",
        images.ndim in (3, 4) and images.shape[3:] in ((), (1,), (3,)) and images.size,
        expected="[images, height, width], or [images, height, width, 3]",
        fix="Reshape what the network gives: outputs.reshape(-1, 28, 28)",
        images=images,
    )
    scale = 255 if images.dtype == np.uint8 else 1
    images = np.clip(images.astype(np.float32) / scale, 0, 1)
    count, height, width = images.shape[:3]
    columns = min(columns, count)
    rows = -(-count // columns)
    missing = (0, rows * columns - count), (0, GAP), (0, GAP), *[(0, 0)] * (images.ndim - 3)
    tiles = np.pad(images, missing, constant_values=1)
    tiles = tiles.reshape(rows, columns, *tiles.shape[1:]).swapaxes(1, 2)
    sheet = tiles.reshape(rows * (height + GAP), columns * (width + GAP), *images.shape[3:])
    figure = Figure(figsize=(SIDE * columns, SIDE * rows * height / width), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(
        sheet[:-GAP, :-GAP], cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto"
    )
    axes.set_axis_off()
    return figure
