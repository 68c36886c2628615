"""Arrays of NumPy that JAX on CPU can share instead of copying: aligned, and read-only once filled.

>>> from jaxnn.data.aligned import aligned, fix, is_fixed
>>> array = aligned((2, 3), "float32")
>>> array[...] = 1
>>> is_fixed(array), is_fixed(fix(array))
(False, True)
"""

from typing import Any

import numpy as np

_BYTES = 64  # JAX on CPU copies memory that starts elsewhere


class _Memory(np.ndarray):
    """The memory of arrays of this module, which nobody else has a view of before it is filled."""


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Returns an uninitialized array that starts at a multiple of 64 bytes."""
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    memory = _Memory(size + _BYTES, np.uint8)
    return np.ndarray(shape, dtype, memory, offset=-memory.ctypes.data % _BYTES)


def fix(array: np.ndarray) -> np.ndarray:
    """Makes an array of `aligned` read-only for good; returns it."""
    memory: Any = array.base
    array.flags.writeable = memory.flags.writeable = False
    return array


def is_fixed(array: np.ndarray) -> bool:
    """Returns whether `fix` has made an array read-only; others that are may still change."""
    return isinstance(array.base, _Memory) and not array.flags.writeable
