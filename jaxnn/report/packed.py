"""Encodes arrays compactly as text for a page.

255 levels are enough for numbers that are only displayed. The weights at all steps are encoded as
integers from -127 to 127 with one scale, so that equal widths of wires represent equal weights.

>>> packed = levels(np.array([[0.5, -1.0], [np.nan, 1.0]]))
>>> packed["scale"], packed["shape"], base64.b64decode(packed["data"])
(1.0, [2, 2], b'@\\x81\\x80\\x7f')
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnn.storage.recording import Frame


def levels(values: Any, scale: float | None = None) -> dict[str, Any]:
    """Encodes an array as signed bytes: `value = byte / 127 * scale`; -128 is not finite.

    `scale` is the largest absolute value; by default that of the array. Larger values are clipped.
    """
    array = np.asarray(values, np.float64)
    finite = np.isfinite(array)
    largest = float(np.abs(array, where=finite, out=np.zeros(array.shape)).max(initial=0.0))
    scale = (largest if scale is None else scale) or 1.0
    whole = np.clip(np.round(np.where(finite, array, 0.0) / scale * 127), -127, 127)
    data = np.where(finite, whole, -128).astype(np.int8)
    return {"shape": list(array.shape), "scale": scale, "data": text(data.tobytes())}


def shares(values: Any) -> dict[str, Any]:
    """Encodes numbers from 0 to 1 as bytes: `value = byte / 254`; 255 is not finite."""
    array = np.asarray(values, np.float64)
    whole = np.round(np.clip(np.nan_to_num(array), 0, 1) * 254)
    data = np.where(np.isfinite(array), whole, 255).astype(np.uint8)
    return {"shape": list(array.shape), "data": text(data.tobytes())}


def text(content: bytes) -> str:
    """Returns bytes as text (base64)."""
    return base64.b64encode(content).decode()


def png(image: Any) -> str:
    """Returns the address (`data:`) of an image, `[height, width]` or `[height, width, 3]`."""
    from PIL import Image  # as matplotlib does

    file = io.BytesIO()
    Image.fromarray(np.asarray(image, np.uint8)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + text(file.getvalue())


def pixels(inputs: Any, shape: tuple[int, ...] | None = None) -> np.ndarray | None:
    """Returns examples as images of bytes, `None` if they are none.

    `inputs` are `[examples, height, width]` or `[..., 1 or 3]`, or flat, with the `shape` of one.
    """
    array = np.asarray(inputs)
    if array.ndim == 2 and shape and array.shape[1] == int(np.prod(shape)):
        array = array.reshape(len(array), *shape)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    image = array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)
    if not image or min(array.shape[1:3]) < 4 or array.dtype.kind not in "uif" or not array.size:
        return None
    if array.dtype == np.uint8 and array.max() > 16:
        return array
    finite = np.nan_to_num(array.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = finite.min(), finite.max()
    return np.round((finite - low) / ((high - low) or 1.0) * 255).astype(np.uint8)


def stacked(frames: Sequence[Frame], name: str) -> np.ndarray | None:
    """Stacks an array over all recorded steps, with NaN where it is missing; `None` if always."""
    shapes = [frame.arrays[name].shape for frame in frames if name in frame.arrays]
    if not shapes:
        return None
    empty = np.full(shapes[-1], np.nan)
    each = [frame.arrays.get(name, empty) for frame in frames]
    fits = [x.shape == empty.shape and x.dtype.kind in "fiub" for x in each]
    return np.stack([x.astype(float) if fit else empty for x, fit in zip(each, fits)])
