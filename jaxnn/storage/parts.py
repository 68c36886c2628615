"""Parts of arrays: their bounds in the array, and their offset in a file."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Bounds = tuple[tuple[int, int], ...]
"""The start and end of a part of an array along each axis."""


class Shard(NamedTuple):
    """A part of an array in a file. In a manifest, it is the list of its fields.

    Attributes:
      file: the name of the file.
      offset: the byte offset of the part in the file.
      bounds: the start and end of the part in the array, along each axis.
      sha256: the digest of its bytes.
    """

    file: str
    offset: int
    bounds: Bounds
    sha256: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the part."""
        return tuple(end - start for start, end in self.bounds)

    def num_bytes(self, dtype: str | np.dtype) -> int:
        """Returns the size of the part in bytes."""
        return num_bytes(self.shape, dtype)


def num_bytes(shape: Sequence[int], dtype: str | np.dtype) -> int:
    """Returns the size of an array in bytes."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def from_json(value: Any) -> Shard:
    """Returns a shard from a manifest."""
    file, offset, bounds, digest = value
    return Shard(file, offset, tuple((start, end) for start, end in bounds), digest)


def check_parts(leaf: Any, shards: Sequence[Shard], sizes: Mapping[str, int]) -> None:
    """Raises `ValueError` unless parts are inside their array and file, and have its total size.

    Args:
      leaf: the array.
      shards: its parts.
      sizes: the sizes of the files, by name.
    """
    size = 0
    for shard in shards:
        numbers = [shard.offset, *(number for pair in shard.bounds for number in pair)]
        inside = all(0 <= a < b <= n for (a, b), n in zip(shard.bounds, leaf.shape, strict=True))
        if not all(type(number) is int for number in numbers) or not inside:
            raise ValueError(f"a part of {leaf.name} has the bounds {shard.bounds}")
        part = shard.num_bytes(leaf.dtype)
        if not 0 <= shard.offset <= sizes[shard.file] - part:
            raise ValueError(f"a part of {leaf.name} is outside {shard.file}")
        size += part
    if size != leaf.size:
        raise ValueError(f"the parts of {leaf.name} have {size:,} bytes, not {leaf.size:,}")


def check_whole_files(leaf: Any, parts: Sequence[Shard]) -> None:
    """Raises `ValueError` unless each part is a whole file that is named by its digest."""
    for part in parts:
        if part.file != part.sha256 or part.offset or not re.fullmatch("[0-9a-f]{64}", part.file):
            raise ValueError(f"a part of {leaf.name} has the name {part.file!r}")
    check_parts(leaf, parts, {part.file: part.num_bytes(leaf.dtype) for part in parts})


def bounds_of(index: Sequence[slice], shape: Sequence[int]) -> Bounds:
    """Returns the bounds of an index into an array."""
    return tuple(each.indices(n)[:2] for each, n in zip(index, shape))


def put(array: np.ndarray, sharding: Any) -> Any:
    """Places a whole array with a sharding; with `None`, it stays on the host."""
    if sharding is None:
        return array
    return jax.make_array_from_callback(array.shape, sharding, lambda i: np.array(array[i]))
