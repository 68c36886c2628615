"""Tensors in files: what is known of each before it is read.

A file of weights is a hostile input until it is checked: its sizes, places and names come from
whoever wrote it. The readers of this room check everything that a header says against the size of
the file, before they reserve memory for it, and then map the file: a tensor is read when it is
asked for, and takes no memory until then.
"""

import math
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.typing import Any, Callable

# Arrays of more numbers than this are nobody's: what is larger is a mistake, or an attack.
MOST_NUMBERS = 2**43


class Stored(NamedTuple):
    """A tensor in a file.

    Attributes:
      shape: its sizes.
      dtype: of the array that is read.
      read: reads it; the array may be a part of the mapped file, so it is not to be written to.
      origin: the file that it is in.
    """

    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[], np.ndarray]
    origin: Path

    @property
    def bytes(self) -> int:
        """How much memory it takes when it is read."""
        return math.prod(self.shape) * jnp.dtype(self.dtype).itemsize


def corrupt(path: Path, wrong: str, got: str, expected: str) -> InvalidValue:
    """Returns the error that a file is not what it should be."""
    return InvalidValue(
        "pretrained.load",
        f"{path.name} is corrupt: {wrong}",
        got=got,
        expected=expected,
        fix=f"Download {path} again, and compare its size and digest with the source's",
    )


def check_shape(path: Path, name: str, shape: Any) -> tuple[int, ...]:
    """Returns a shape from a file as ints; raises unless it is one that an array can have."""
    whole = isinstance(shape, list | tuple) and len(shape) <= 8
    if not whole or not all(type(n) is int and 0 <= n <= MOST_NUMBERS for n in shape):
        raise corrupt(path, f"{name} has no valid shape", repr(shape)[:200], "whole numbers")
    if math.prod(shape) > MOST_NUMBERS:
        raise corrupt(path, f"{name} is too large", repr(shape), f"{MOST_NUMBERS} numbers at most")
    return tuple(shape)


def map_file(path: Path) -> np.ndarray:
    """Returns the bytes of a file, which are read from disk only where they are looked at."""
    if path.stat().st_size == 0:
        raise corrupt(path, "it is empty", "0 bytes", "a file of weights")
    return np.memmap(path, np.uint8, mode="r").view(np.ndarray)  # which is faster to cut
