"""Compiles and runs the programs of a model before the first request."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxnn.serving.served import Served
from jaxnn.typing import Any


def warm(served: Served, buckets: Sequence[int] | None = None) -> None:
    """Compiles the programs for the given or all buckets, for layers, and for text."""
    for bucket in served.buckets if buckets is None else buckets:
        served.predict(zeros(served, bucket))
    if served.layers is not None:
        served.layers(zeros(served, 1))
    if served.writes:
        served.writer.warm()  # pyright: ignore


def zeros(served: Served, count: int) -> Any:
    """Returns `count` examples of zeros; dynamic sizes are 1."""

    def array(example: Any) -> np.ndarray:
        sizes = (1 if size is None else size for size in example.shape)
        return np.zeros((count, *sizes), example.dtype)

    return jax.tree.map(array, served.inputs)
