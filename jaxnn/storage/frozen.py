"""The frozen base of a run: large arrays that no step changes, each saved once.

    checkpoints/base/3fc2a8...         the bytes of an array, or of a part of an array

The file name is the sha256 of the bytes, and the manifests of all checkpoints refer to it. So a run
that fine-tunes a large model stores the frozen weights once, and its checkpoints are small. No
checkpoint can be used without its base, so a corrupt base is an error that names the file, while a
corrupt checkpoint is skipped.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.scale import processes
from jaxnn.storage import files, shards
from jaxnn.storage.manifest import FOLDER, Leaf
from jaxnn.storage.parts import Shard, from_json


class CorruptBase(InvalidValue):
    """A file in the frozen base of a run is missing or corrupt."""


def write_base(
    checkpoints: Path, leaves: Sequence[Leaf], arrays: Sequence[Any]
) -> dict[str, dict[str, Any]]:
    """Writes arrays that are not in the base yet; returns their manifest entries by name.

    All processes of a run call this function, and each writes its own parts.

    Raises:
      OSError: if an array cannot be written, or reads back differently.
    """
    folder = checkpoints / FOLDER
    files.make(checkpoints)
    files.make(folder)
    written = shards.written_parts("base", leaves, lambda: [_write(folder, x) for x in arrays])

    def entries() -> dict[str, dict[str, Any]]:
        known = {}
        for entry in written():
            parts = entry.pop("shards")
            known[entry["name"]] = {**entry, "base": parts}
        return known

    return processes.agree("base entries", entries)


def _write(folder: Path, array: Any) -> list[Shard]:
    """Writes the parts of an array that this process is responsible for, and returns them."""
    written = []
    for bounds, data in shards.own_parts(array):
        content = shards.as_bytes(np.asarray(data))
        digest = sha256(content).hexdigest()
        path = folder / digest
        if not _is_intact(path, content.nbytes):
            # Several processes may write the same bytes.
            files.write(path, content, prefix=f"{processes.index()}-")
            if not _is_intact(path, content.nbytes):
                raise OSError(f"{path} does not read back as written")
        written.append(Shard(digest, 0, bounds, digest))
    return written


def _is_intact(path: Path, size: int) -> bool:
    """Returns whether a file has this size, and the digest in its name."""
    try:
        return files.digest(path) == (size, path.name)
    except (OSError, ValueError):
        return False


def check_base(checkpoint: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Raises `CorruptBase` unless all base files of a checkpoint exist and have the right size."""
    parts = [(entry, part) for entry in entries for part in map(from_json, entry["base"])]
    for entry, part in parts:
        path, size = checkpoint.parent / FOLDER / part.file, part.num_bytes(entry["dtype"])
        try:
            there = path.lstat()
        except OSError as error:
            raise _error(checkpoint, entry["name"], str(error.strerror), f"{path}") from None
        if path.is_symlink() or not path.is_file() or there.st_size != size:
            got = f"{there.st_size:,} bytes" if path.is_file() else "something that is not a file"
            got, expected = f"{got} at {path}", f"a file of {size:,} bytes"
            raise _error(checkpoint, entry["name"], got, expected)


def read_base(checkpoint: Path, entry: Mapping[str, Any], leaf: Leaf, place: Any) -> Any:
    """Reads an array of a checkpoint from the base, and verifies its digests; see `shards.read`.

    Raises:
      CorruptBase: if a file is missing or corrupt.
    """
    check_base(checkpoint, [entry])
    try:
        return shards.read(checkpoint.parent / FOLDER, entry["base"], leaf, place)
    except (OSError, ValueError) as error:
        expected = "the bytes that were written"
        raise _error(checkpoint, leaf.name, str(error), expected) from None


def discard_unused(checkpoints: Path, manifests: Sequence[Mapping[str, Any]]) -> None:
    """Deletes the base files that none of the manifests refer to."""
    used = {part[0] for each in manifests for entry in each["arrays"]
            for part in entry.get("base", ())}  # fmt: skip
    if (checkpoints / FOLDER).is_dir():
        for path in (checkpoints / FOLDER).iterdir():
            if path.name not in used:
                files.discard(path)


def _error(checkpoint: Path, name: str, got: str, expected: str) -> CorruptBase:
    return CorruptBase(
        "checkpoint",
        f"the frozen base of {checkpoint} is corrupt at {name}",
        got=got,
        expected=expected,
        fix=f"Restore {checkpoint.parent / FOLDER} from a backup, or choose another directory"
        " (--out) to start over",
    )
