"""What each layer puts out for one example, in bytes that a page can draw."""

import base64

import jax
import numpy as np

from jaxnn.serving.served import Served
from jaxnn.serving.warming import zeros
from jaxnn.typing import Any


def layers_of(served: Served, inputs: Any) -> list[dict[str, Any]]:
    """Returns the layers in their order: a name, a shape, and shares of the largest, in base64.

    Signed bytes: -127 to 127 are minus to plus the largest. Of a convolutional layer, `maps` of
    `[maps, height, width]`.
    """
    if served.layers is None:
        return []
    one = jax.tree.map(lambda x: x[:1], inputs)
    return [_shown(name, array[0]) for name, array in served.layers(one).items()]


def shapes_of(served: Served) -> list[dict[str, Any]]:
    """Returns the names and the shapes of the layers."""
    shown = layers_of(served, zeros(served, 1))
    return [{"name": layer["name"], "shape": layer["shape"]} for layer in shown]


def _shown(name: str, array: np.ndarray) -> dict[str, Any]:
    array = np.nan_to_num(np.asarray(array, np.float32))
    if array.ndim == 3:
        array = np.moveaxis(array, -1, 0)
    high = float(abs(array).max())
    levels = np.rint(array / (high or 1.0) * 127).astype(np.int8)
    data = base64.b64encode(levels.tobytes()).decode()
    return {"name": name, "shape": list(array.shape), "high": high, "data": data}
