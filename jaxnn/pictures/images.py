"""A grid of images: what a network has drawn, or was shown, side by side.

    image_grid(images).savefig("samples.png")

It opens no window and leaves matplotlib's global state alone.
"""

import numpy as np

from jaxnn.checks import InvalidValue, positive_integer
from jaxnn.typing import Any

SIDE = 0.35  # inches, of an image
GAP = 1  # pixels between images


def image_grid(images: Any, *, columns: int = 10) -> Any:
    """Returns a matplotlib `Figure` of images in rows.

    Args:
      images: `[images, height, width]`, grey, or `[images, height, width, 3]`, red, green and blue:
        bytes, or numbers from 0 (black) to 1. Numbers outside are cut to those.
      columns: the images of a row; in the last row there may be fewer.

    Raises:
      InvalidValue: if these are no images, or `columns` is not positive.
    """
    from matplotlib.figure import Figure

    positive_integer("image_grid", "columns", columns)
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)) or 0 in images.shape:
        raise InvalidValue(
            "image_grid",
            "these are no images",
            got=f"an array of shape {images.shape}",
            expected="[images, height, width], or [images, height, width, 3]",
            fix="Reshape what the network gives: outputs.reshape(-1, 28, 28)",
        )
    scale = 255 if images.dtype == np.uint8 else 1
    images = np.clip(images.astype(np.float32) / scale, 0, 1)
    count, height, width = images.shape[:3]
    columns = min(columns, count)
    rows = -(-count // columns)
    high, wide = height + GAP, width + GAP
    sheet = np.ones((rows * high - GAP, columns * wide - GAP, *images.shape[3:]), np.float32)
    for number, image in enumerate(images):
        top, left = number // columns * high, number % columns * wide
        sheet[top : top + height, left : left + width] = image
    figure = Figure(figsize=(SIDE * columns, SIDE * rows * height / width), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure
