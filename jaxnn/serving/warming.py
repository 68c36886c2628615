"""Before the first request: every program that a request may need is compiled, and tried."""

import jax
import numpy as np

from jaxnn.serving import text
from jaxnn.serving.served import Served
from jaxnn.typing import Any


def warm(served: Served) -> bool:
    """Compiles the programs of all buckets and of the layers; returns whether the model writes."""
    for bucket in served.buckets:
        served.predict(zeros(served, bucket))
    if served.layers is not None:
        served.layers(zeros(served, 1))
    return text.writes(served)


def zeros(served: Served, count: int) -> Any:
    """Returns so many examples of zeros."""
    window = text.window_of(served) if served.kind == "tokens" else 1

    def array(example: Any) -> np.ndarray:
        sizes = (window if size is None else size for size in example.shape)
        return np.zeros((count, *sizes), example.dtype)

    return jax.tree.map(array, served.inputs)
