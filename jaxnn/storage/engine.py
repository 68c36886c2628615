"""Reads whole arrays that Orbax has written, in checkpoints of format 1.

Arrays are identified by their number in the tree, and empty arrays are not stored, since Orbax does
not accept them.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.storage.manifest import Leaf


def read_arrays(folder: Path, leaves: Sequence[Leaf]) -> list[np.ndarray]:
    """Returns all arrays, in the order of their numbers.

    Raises:
      Exception: of any type, if files are corrupt.
    """
    # Imported here, since the import takes 0.2 s, which only runs of format 1 need.
    import orbax.checkpoint as ocp

    stored = {number: leaf for number, leaf in enumerate(leaves) if leaf.size}
    item = {str(n): np.broadcast_to(np.zeros((), x.dtype), x.shape) for n, x in stored.items()}
    as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in item}
    # Orbax also logs the errors that it raises, which would disturb the progress display.
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            _check_shapes(checkpointer.metadata(folder.absolute()).item_metadata.tree, stored)
            args = ocp.args.PyTreeRestore(item=item, restore_args=as_numpy)
            arrays = checkpointer.restore(folder.absolute(), args=args)
    finally:
        logger.setLevel(before)
    return [
        arrays[str(number)] if leaf.size else np.zeros(leaf.shape, leaf.dtype)
        for number, leaf in enumerate(leaves)
    ]


def _check_shapes(saved: Any, stored: dict[int, Leaf]) -> None:
    """Raises `ValueError` unless the arrays in Orbax's files have these shapes.

    Orbax allocates memory for the shapes in its files, regardless of the requested ones.
    """
    for number, leaf in stored.items():
        each = saved[str(number)]
        large = any(n > most for n, most in zip(each.storage.chunk_shape, leaf.shape))
        if each.shape != leaf.shape or large:
            raise ValueError(f"array {number} has shape {each.shape}, expected {leaf.shape}")
