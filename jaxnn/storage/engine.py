"""Writes and reads whole arrays with Orbax, by number and without compression.

Arrays are identified by their number in the tree, so no name in a file determines where anything is
written. Orbax does not accept empty arrays; they need no storage, since the manifest contains their
shapes.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.storage.manifest import Leaf

# The number of bytes to read at once, which bounds the memory that verification needs.
GROUP = 1 << 26


@contextmanager
def _engine() -> Iterator[tuple[Any, Any]]:
    """Yields the module Orbax and a checkpointer."""
    # Imported here, since the import takes 0.2 s, which runs without checkpoints avoid.
    import orbax.checkpoint as ocp

    # Its warnings concern its own options, and its errors are also raised. Both would disturb the
    # progress display.
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    # With compression, writing takes 3 times as long, and parameters hardly compress.
    handler = ocp.PyTreeCheckpointHandler(use_compression=False)
    try:
        with ocp.Checkpointer(handler) as checkpointer:
            yield ocp, checkpointer
    finally:
        logger.setLevel(before)


def write_arrays(folder: Path, arrays: Sequence[Any]) -> None:
    """Writes arrays to a new folder; arrays on a CPU are not copied.

    Raises:
      OSError: if they cannot be written.
    """
    tree = {str(number): array for number, array in enumerate(arrays) if array.size}
    try:
        with _engine() as (ocp, checkpointer):
            checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(tree))
    except ValueError as error:  # raised if the disk is full
        raise OSError(f"{folder.parent.name} cannot be written: {error}") from error


def read_arrays(folder: Path, leaves: Sequence[Leaf]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields `(number, array)` for all arrays that `write_arrays` has written, in groups.

    Raises:
      Exception: of any type, if files are corrupt.
    """
    stored = {number: leaf for number, leaf in enumerate(leaves) if leaf.size}
    yield from (
        (n, np.zeros(leaf.shape, leaf.dtype)) for n, leaf in enumerate(leaves) if not leaf.size
    )
    ends = dict(zip(stored, itertools.accumulate(leaf.size for leaf in stored.values())))
    with _engine() as (ocp, checkpointer):
        _check_shapes(checkpointer.metadata(folder.absolute()).item_metadata.tree, stored)
        for _, group in itertools.groupby(stored, lambda number: ends[number] // GROUP):
            item: dict[str, Any] = {str(number): ocp.PLACEHOLDER for number in stored}
            numbers = [*group]
            for n in numbers:
                item[str(n)] = np.broadcast_to(np.zeros((), stored[n].dtype), stored[n].shape)
            as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in item}
            args = ocp.args.PyTreeRestore(item=item, restore_args=as_numpy)
            restored = checkpointer.restore(folder.absolute(), args=args)
            yield from ((number, restored[str(number)]) for number in numbers)


def _check_shapes(saved: Any, stored: dict[int, Leaf]) -> None:
    """Raises `ValueError` unless the arrays in Orbax's files have these shapes.

    Orbax allocates memory for the shapes in its files, regardless of the requested ones.
    """
    for number, leaf in stored.items():
        each = saved[str(number)]
        large = any(n > most for n, most in zip(each.storage.chunk_shape, leaf.shape))
        if each.shape != leaf.shape or large:
            raise ValueError(f"array {number} has shape {each.shape}, expected {leaf.shape}")
