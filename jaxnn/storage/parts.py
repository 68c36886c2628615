"""Parts of arrays: where they begin in the array and in a file, and on which devices they lie."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

Bounds = tuple[tuple[int, int], ...]
"""Where a part of an array begins and ends along each axis."""


@dataclass(frozen=True)
class Shard:
    """A part of an array in a file.

    Attributes:
      file: its name.
      offset: the byte at which it begins there.
      bounds: where it begins and ends in the array, along each axis.
      sha256: of its bytes.
    """

    file: str
    offset: int
    bounds: Bounds
    sha256: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the part."""
        return tuple(end - start for start, end in self.bounds)

    def as_json(self) -> list[Any]:
        """Returns it as a manifest has it."""
        return [self.file, self.offset, [list(pair) for pair in self.bounds], self.sha256]


def from_json(value: Any) -> Shard:
    """Returns a shard that `as_json` wrote."""
    file, offset, bounds, digest = value
    return Shard(file, offset, tuple((start, end) for start, end in bounds), digest)


def check_parts(leaf: Any, shards: Sequence[Shard], sizes: Mapping[str, int]) -> None:
    """Raises `ValueError` unless parts lie inside their array and their file, and have its size.

    Args:
      leaf: the array.
      shards: its parts.
      sizes: of the files, by name.
    """
    size, itemsize = 0, np.dtype(leaf.dtype).itemsize
    for shard in shards:
        numbers = [shard.offset, *(number for pair in shard.bounds for number in pair)]
        inside = all(0 <= a < b <= n for (a, b), n in zip(shard.bounds, leaf.shape, strict=True))
        if not all(type(number) is int for number in numbers) or not inside:
            raise ValueError(f"a part of {leaf.name} has the bounds {shard.bounds}")
        part = int(np.prod(shard.shape, dtype=object)) * itemsize
        if not 0 <= shard.offset <= sizes[shard.file] - part:
            raise ValueError(f"a part of {leaf.name} is outside {shard.file}")
        size += part
    if size != leaf.size:
        raise ValueError(f"the parts of {leaf.name} have {size:,} bytes, not {leaf.size:,}")


def check_whole_files(leaf: Any, parts: Sequence[Shard]) -> None:
    """Raises `ValueError` unless parts are whole files, which are named by their digests."""
    for part in parts:
        if part.file != part.sha256 or part.offset or not re.fullmatch("[0-9a-f]{64}", part.file):
            raise ValueError(f"a part of {leaf.name} has the name {part.file!r}")
    itemsize = np.dtype(leaf.dtype).itemsize
    sizes = {part.file: int(np.prod(part.shape, dtype=object)) * itemsize for part in parts}
    check_parts(leaf, parts, sizes)


def bounds_of(index: Sequence[slice], shape: Sequence[int]) -> Bounds:
    """Returns the bounds of an index into an array."""
    return tuple(each.indices(n)[:2] for each, n in zip(index, shape))


def put(array: np.ndarray, sharding: Any) -> Any:
    """Returns a whole array with each device's part of it there; on the host if that is `None`."""
    if sharding is None:
        return array
    return jax.make_array_from_callback(array.shape, sharding, lambda i: np.array(array[i]))
