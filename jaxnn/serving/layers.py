"""What each layer puts out for one example, in bytes that a page can draw."""

import base64

import numpy as np

from jaxnn.serving.served import Served
from jaxnn.typing import Any

NODES = 128  # of a layer that are shown, at most
MAPS = 16  # of a convolutional layer


def layers_of(served: Served, inputs: Any) -> list[dict[str, Any]]:
    """Returns the layers in their order: a name, a shape, and shares of the largest, in base64.

    Signed bytes: -127 to 127 are minus to plus the largest. Of a convolutional layer, `maps` of
    `[maps, height, width]`.
    """
    import jax

    if served.layers is None:
        return []
    one = jax.tree.map(lambda x: x[:1], inputs)
    return [
        shown for name, array in served.layers(one).items() if (shown := _shown(name, array[0]))
    ]


def _shown(name: str, array: np.ndarray) -> dict[str, Any] | None:
    array = np.nan_to_num(np.asarray(array, np.float32))
    width = array.shape[-1] if array.ndim else 0
    if array.ndim == 3:
        array = np.moveaxis(array[..., :MAPS], -1, 0)
    elif array.ndim == 1:
        array = array[:NODES]
    else:
        return None
    high = float(abs(array).max())
    levels = np.rint(array / (high or 1.0) * 127).astype(np.int8)
    data = base64.b64encode(levels.tobytes()).decode()
    return {"name": name, "shape": list(array.shape), "of": width, "high": high, "data": data}
