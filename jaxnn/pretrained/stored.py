"""Tensors in files: their shapes, dtypes and readers.

Weight files are untrusted input: whoever wrote a file chose its sizes, offsets and names. The
readers in this package validate every value in a header against the size of the file before they
allocate memory for it. They then memory-map the file, so a tensor takes no memory until it is read.
"""

import math
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.typing import Any, Callable

# No real array has more elements than this; a larger shape is a mistake or an attack.
MOST_NUMBERS = 2**43
_POINTER = b"version https://git-lfs."


class Stored(NamedTuple):
    """A tensor in a file.

    Attributes:
      shape: the shape of the tensor.
      dtype: the dtype of the array that `read` returns.
      read: reads the tensor. The array may be a view of the mapped file: do not write to it.
      origin: the file that holds the tensor.
    """

    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[], np.ndarray]
    origin: Path

    @property
    def bytes(self) -> int:
        """The number of bytes that the tensor takes in memory when it is read."""
        return math.prod(self.shape) * jnp.dtype(self.dtype).itemsize


def corrupt(path: Path, wrong: str, got: str, expected: str) -> InvalidValue:
    """Returns the error for a file that does not follow its format."""
    return InvalidValue(
        "pretrained.load",
        f"{path.name} is corrupt: {wrong}",
        got=got,
        expected=expected,
        fix=f"Download {path} again, and compare its size and digest with the source's",
    )


def check_is_data(path: Path) -> None:
    """Raises if a file is the text that Git LFS leaves instead of a file that it did not fetch."""
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise InvalidValue(
                "pretrained.load",
                f"{path.name} is a pointer of Git LFS, not the weights",
                got=f"a text of {path.stat().st_size} bytes",
                expected="the file that it stands for",
                fix="Run git lfs pull in its folder, or use jaxnn.pretrained.download",
            )


def check_shape(path: Path, name: str, shape: Any) -> tuple[int, ...]:
    """Returns a shape from a file as a tuple of ints; raises if no array can have that shape."""
    whole = isinstance(shape, list | tuple) and len(shape) <= 8
    if not whole or not all(type(n) is int and 0 <= n <= MOST_NUMBERS for n in shape):
        raise corrupt(path, f"{name} has no valid shape", repr(shape)[:200], "integers")
    if math.prod(shape) > MOST_NUMBERS:
        raise corrupt(path, f"{name} is too large", repr(shape), f"at most {MOST_NUMBERS} elements")
    return tuple(shape)


def map_file(path: Path) -> np.ndarray:
    """Returns the bytes of a file as a memory map; pages are read from disk on access."""
    if path.stat().st_size == 0:
        raise corrupt(path, "it is empty", "0 bytes", "a file of weights")
    return np.memmap(path, np.uint8, mode="r").view(np.ndarray)  # an ndarray is faster to slice
