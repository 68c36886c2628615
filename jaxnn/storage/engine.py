"""The engine that puts arrays on the disk: Orbax, with arrays by number and without compression.

Orbax stores arrays of any dtype and sharding, from one process or many; `checkpoints` adds what it
lacks. It names arrays by their number in the tree alone, so no name in a file ever chooses where
anything is written.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# Bytes of arrays that are read at once: verification then holds no more than these.
GROUP = 1 << 26


@contextmanager
def _checkpointer() -> Iterator[Any]:
    # Imported here: it takes a fifth of a second, which runs without checkpoints save.
    import orbax.checkpoint as ocp

    # Its warnings concern its own options, and its errors are raised too: neither belongs in the
    # middle of a progress display.
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    # Compression takes 3 times as long, and random parameters do not compress.
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

    # Orbax refuses empty arrays; the manifest has their shapes.
    tree = {str(number): array for number, array in enumerate(arrays) if array.size}
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(tree))
    except ValueError as error:  # of a full disk
        raise OSError(f"{folder.parent.name} cannot be written: {error}") from error


def check_shapes(folder: Path, shapes: Sequence[tuple[tuple[int, ...], str]]) -> None:
    """Raises `ValueError` unless the arrays in a folder have these shapes.

    Orbax allocates the memory that its own files ask for, whatever it is asked to read.
    """
    with _checkpointer() as checkpointer:
        saved = checkpointer.metadata(folder.absolute()).item_metadata.tree
    for number, (shape, _) in enumerate(shapes):
        if 0 not in shape:
            each = saved[str(number)]
            large = [n for n, most in zip(each.storage.chunk_shape, shape) if n > most]
            if each.shape != shape or large:
                raise ValueError(f"array {number} has shape {each.shape}, expected {shape}")


def read_arrays(
    folder: Path, shapes: Sequence[tuple[tuple[int, ...], str]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields `(number, array)` for all arrays of a folder, on the host, a group at a time.

    Args:
      folder: written by `write_arrays`.
      shapes: `(shape, dtype)` of each array.

    Raises:
      Exception: of any type, if files are corrupt.
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
                stored = (n for n, (shape, _) in enumerate(shapes) if 0 not in shape)
                item: dict[str, Any] = {str(n): ocp.PLACEHOLDER for n in stored}
                for n in group:
                    shape, dtype = shapes[n]
                    item[str(n)] = np.broadcast_to(np.zeros((), dtype), shape)
                as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in item}
                args = ocp.args.PyTreeRestore(item=item, restore_args=as_numpy)
                restored = checkpointer.restore(folder.absolute(), args=args)
                yield from ((n, restored[str(n)]) for n in group)
                group, size = [], 0
