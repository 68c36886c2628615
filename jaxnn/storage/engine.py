"""The engine that puts arrays on the disk: Orbax, with arrays by number and without compression.

Orbax stores arrays of any dtype and sharding, from one process or many, and later for clouds. What
it does not do is told in `checkpoints`, which does it. Arrays are known to it by their number in
the tree alone, so that no name from a file ever decides where something is written.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# Arrays that are read back at once, in bytes: what is read to be verified is not kept.
GROUP = 1 << 26


@contextmanager
def _checkpointer() -> Iterator[Any]:
    # Imported here: a fifth of a second that only those pay who keep checkpoints.
    import orbax.checkpoint as ocp

    # Its warnings are about options of its own, and its errors are raised too: neither has to stand
    # in the middle of a progress bar.
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    # Random numbers, which is what parameters are at first, do not compress; it takes 3 times as
    # long.
    handler = ocp.PyTreeCheckpointHandler(use_compression=False)
    try:
        with ocp.Checkpointer(handler) as checkpointer:
            yield checkpointer
    finally:
        logger.setLevel(before)


def write_arrays(folder: Path, arrays: Sequence[Any]) -> None:
    """Writes arrays to a new folder, without copying those on a CPU.

    Raises:
      OSError: if they cannot be written.
    """
    import orbax.checkpoint as ocp

    # It refuses an empty array, of which the shape says all.
    tree = {str(number): array for number, array in enumerate(arrays) if array.size}
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(tree))
    except ValueError as error:  # how it says that the disk is full
        raise OSError(f"{folder.parent.name} cannot be written: {error}") from error


def check_shapes(folder: Path, shapes: Sequence[tuple[tuple[int, ...], str]]) -> None:
    """Raises `ValueError` unless the arrays of a folder are as large as they should be.

    The engine takes as much memory as its own files ask for, whatever it was asked to read.
    """
    with _checkpointer() as checkpointer:
        found = checkpointer.metadata(folder.absolute()).item_metadata.tree
    for number, (shape, _) in enumerate(shapes):
        if 0 not in shape:
            each = found[str(number)]
            large = [n for n, most in zip(each.storage.chunk_shape, shape) if n > most]
            if each.shape != shape or large:
                raise ValueError(f"array {number} is of shape {each.shape} and not {shape}")


def read_arrays(
    folder: Path, shapes: Sequence[tuple[tuple[int, ...], str]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields `(number, array)` for all arrays of a folder, on the host, a group of them at a time.

    Args:
      folder: that `write_arrays` wrote.
      shapes: `(shape, dtype)` of each array.

    Raises:
      Exception: whatever the engine raises about files that are damaged.
    """
    import orbax.checkpoint as ocp

    group, size, last = [], 0, len(shapes) - 1
    with _checkpointer() as checkpointer:
        for number, (shape, dtype) in enumerate(shapes):
            if 0 in shape:
                yield number, np.zeros(shape, dtype)
            else:
                group.append(number)
                size += int(np.prod(shape)) * np.dtype(dtype).itemsize
            if group and (size >= GROUP or number == last):
                item = {
                    str(n): ocp.PLACEHOLDER for n in range(len(shapes)) if 0 not in shapes[n][0]
                }
                item |= {
                    str(n): np.broadcast_to(np.zeros((), shapes[n][1]), shapes[n][0]) for n in group
                }
                as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in item}
                args = ocp.args.PyTreeRestore(item=item, restore_args=as_numpy)
                found = checkpointer.restore(folder.absolute(), args=args)
                yield from ((n, found[str(n)]) for n in group)
                group, size = [], 0
