"""The outputs of each layer for one example, encoded for the page."""

import base64

import jax
import numpy as np

from jaxnn.serving.served import Served
from jaxnn.typing import Any


def layers_of(served: Served, inputs: Any) -> list[dict[str, Any]]:
    """Returns the name, shape, largest value and data of each layer, in order.

    The data are signed bytes in base64, from -127 to 127 for minus to plus the largest absolute
    value. The outputs of a convolutional layer have the shape `[maps, height, width]`.
    """
    if served.layers is None:
        return []
    one = jax.tree.map(lambda x: x[:1], inputs)
    return [_shown(name, array[0]) for name, array in served.layers(one).items()]


def shapes_of(served: Served) -> list[dict[str, Any]]:
    """Returns the name and shape of each layer."""
    shown = layers_of(served, served.zeros(1))
    return [{"name": layer["name"], "shape": layer["shape"]} for layer in shown]


def _shown(name: str, array: np.ndarray) -> dict[str, Any]:
    array = np.nan_to_num(np.asarray(array, np.float32))
    if array.ndim == 3:
        array = np.moveaxis(array, -1, 0)
    high = float(abs(array).max())
    levels = np.rint(array / (high or 1.0) * 127).astype(np.int8)
    data = base64.b64encode(levels.tobytes()).decode()
    return {"name": name, "shape": list(array.shape), "high": high, "data": data}
