"""Before the first request: what it may need is compiled, and tried."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxnn.serving.served import Served
from jaxnn.typing import Any


def warm(served: Served, buckets: Sequence[int] | None = None) -> None:
    """Compiles the programs of these buckets, or of all, and those of layers and of text."""
    for bucket in served.buckets if buckets is None else buckets:
        served.predict(zeros(served, bucket))
    if served.layers is not None:
        served.layers(zeros(served, 1))
    if served.writes:
        served.writer.warm()  # pyright: ignore


def zeros(served: Served, count: int) -> Any:
    """Returns so many examples of zeros; a size that is free is 1."""

    def array(example: Any) -> np.ndarray:
        sizes = (1 if size is None else size for size in example.shape)
        return np.zeros((count, *sizes), example.dtype)

    return jax.tree.map(array, served.inputs)
