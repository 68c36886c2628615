"""The bytes of arrays: each process writes its own parts, and reads the parts that it needs.

A process appends the bytes of its parts to one file, such as `shards-00002.bin`. The manifest lists
the bounds, the offset and the sha256 of each part. An array without shards is a single part, and a
replicated part is written once. No process collects other parts: a host stores its own parts, and
one more array while it reads. An array can be read with any other sharding, from the parts that
overlap with the requested ones.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnn.scale import processes
from jaxnn.storage import files
from jaxnn.storage.manifest import Leaf, entry_of
from jaxnn.storage.parts import Bounds, Shard, bounds_of, from_json

Array = jax.Array | np.ndarray | np.generic


def write_all(
    draft: Path, leaves: Sequence[Leaf], arrays: Sequence[Array]
) -> Callable[[], list[dict[str, Any]]]:
    """Writes the parts of this process; see `written_parts`."""
    return written_parts("shards", leaves, lambda: _write(draft, arrays))


def written_parts(
    name: str, leaves: Sequence[Leaf], write: Callable[[], list[list[Shard]]]
) -> Callable[[], list[dict[str, Any]]]:
    """Writes the parts of this process with `write`, and reports them to the first process.

    The processes wait for each other's files, but do not synchronize over the devices.

    Returns:
      A function for the first process that returns the manifest entries of the arrays. It raises
      `OSError` if another process could not write its parts.

    Raises:
      OSError: if a single process cannot write them.
    """
    try:
        outcome = {"parts": write(), "error": None}
    except OSError as error:
        if processes.count() == 1:
            raise
        outcome = {"parts": [], "error": str(error)}
    outcomes = processes.report(name, outcome) or []

    def entries() -> list[dict[str, Any]]:
        for number, each in enumerate(outcomes):
            if each["error"] is not None:
                raise OSError(f"process {number} could not write its part: {each['error']}")
        every = zip(leaves, *(each["parts"] for each in outcomes))
        return [
            entry_of(leaf, [from_json(shard) for own in mine for shard in own])
            for leaf, *mine in every
        ]

    return entries


def _write(draft: Path, arrays: Sequence[Any]) -> list[list[Shard]]:
    """Writes the parts of arrays that this process is responsible for; returns them by array."""
    path = draft / f"shards-{processes.index():05d}.bin"
    parts: list[list[Shard]] = []
    offset = 0
    with open(path, "wb") as file:
        for array in arrays:
            parts.append([])
            for bounds, data in own_parts(array):
                content = as_bytes(np.asarray(data))
                file.write(content)
                digest = sha256(content).hexdigest()
                parts[-1].append(Shard(path.name, offset, bounds, digest))
                offset += content.nbytes
        file.flush()
        os.fsync(file.fileno())
    with open(path, "rb") as file:
        for array, mine in zip(arrays, parts):
            if any(_read(file, shard, array.dtype) is None for shard in mine):
                raise OSError(f"{path.name} does not read back as written")
    return parts


def own_parts(array: Array) -> Iterator[tuple[Bounds, Any]]:
    """Yields the parts that this process writes: of replicas, only the one with number 0.

    The first process writes arrays that are on the host, or fully replicated.
    """
    if not isinstance(array, jax.Array) or array.is_fully_replicated:
        if processes.is_first() and array.size:
            yield _whole(array.shape), array
        return
    for shard in array.addressable_shards:
        if shard.replica_id == 0 and shard.data.size:
            yield bounds_of(shard.index, array.shape), shard.data


def as_bytes(array: np.ndarray) -> memoryview:
    """Returns the bytes of an array, without a copy if it is contiguous."""
    # A view as bytes, since bfloat16 does not support the buffer protocol.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _whole(shape: Sequence[int]) -> Bounds:
    return tuple((0, n) for n in shape)


def _read(file: BufferedReader, shard: Shard, dtype: Any) -> bytes | None:
    """Returns the bytes of a part, or `None` if they are not those that were written."""
    file.seek(shard.offset)
    content = file.read(shard.num_bytes(dtype))
    return content if sha256(content).hexdigest() == shard.sha256 else None


def read(folder: Path, parts: Sequence[Any], leaf: Leaf, place: Any) -> Array:
    """Reads an array, and of it only the parts that this process needs.

    Args:
      folder: the folder of the files.
      parts: the parts of the array, as in a manifest.
      leaf: the description of the array.
      place: the sharding of the array; `None` for a whole array on the host.

    Raises:
      ValueError: if a part is corrupt or missing.
      OSError: if a file cannot be read.
    """
    shards = [from_json(part) for part in parts]
    if place is None:
        return _read_parts(folder, leaf, shards, [_whole(leaf.shape)])[0]
    indices = place.addressable_devices_indices_map(leaf.shape).values()
    wanted = list({bounds_of(index, leaf.shape): None for index in indices})
    own = dict(zip(wanted, _read_parts(folder, leaf, shards, wanted)))

    def part(index: Any) -> np.ndarray:
        return np.array(own[bounds_of(index, leaf.shape)])

    return jax.make_array_from_callback(leaf.shape, place, part)


def _read_parts(
    folder: Path, leaf: Leaf, shards: Sequence[Shard], wanted: Sequence[Bounds]
) -> list[np.ndarray]:
    """Returns an array for each of the wanted bounds, from the parts that overlap with them."""
    dtype = np.dtype(leaf.dtype)
    parts = [np.zeros([end - start for start, end in bounds], dtype) for bounds in wanted]
    missing = [part.size for part in parts]
    for shard in shards:
        overlaps = [_overlap(shard.bounds, bounds) for bounds in wanted]
        if all(overlap is None for overlap in overlaps):
            continue
        with files.open_regular(folder / shard.file) as file:
            content = _read(file, shard, leaf.dtype)
        if content is None:
            raise ValueError(f"other bytes at {leaf.name} in {shard.file}")
        data = np.frombuffer(content, dtype).reshape(shard.shape)
        for number, (bounds, overlap) in enumerate(zip(wanted, overlaps)):
            if overlap is not None:
                source, target = (_within(overlap, each) for each in (shard.bounds, bounds))
                parts[number][target] = data[source]
                missing[number] -= data[source].size
    if any(missing):
        raise ValueError(f"parts of {leaf.name} are missing")
    return parts


def _overlap(a: Bounds, b: Bounds) -> Bounds | None:
    both = tuple((max(x[0], y[0]), min(x[1], y[1])) for x, y in zip(a, b))
    return both if all(start < end for start, end in both) else None


def _within(bounds: Bounds, outer: Bounds) -> tuple[slice, ...]:
    return tuple(slice(start - low, end - low) for (start, end), (low, _) in zip(bounds, outer))
