"""Writes files and folders atomically, even if the machine stops.

A draft is written next to the final path, flushed to disk with fsync, and renamed in one system
call. Deletion first renames a path to a name that is never read. An interruption leaves only drafts
and trash behind, which the next writer removes.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import uuid
from io import BufferedReader
from pathlib import Path

DRAFT, TRASH = ".draft-", ".trash-"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def write(
    path: Path, content: bytes | memoryview, *, forced: bool = True, prefix: str = ""
) -> None:
    """Writes a file atomically, and flushes it to disk unless `forced` is false.

    Processes that may write the same file at once need a different `prefix` of its draft.

    Raises:
      OSError: if the file cannot be written; an existing file then remains unchanged.
    """
    draft = path.with_name(f"{DRAFT}{prefix}{path.name}")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            if forced:
                file.flush()
                os.fsync(file.fileno())
        if forced:
            rename(draft, path)
        else:
            os.replace(draft, path)
    except OSError:
        discard(draft)
        raise


def rename(draft: Path, path: Path) -> None:
    """Renames a file or a folder, and flushes the new name to disk."""
    os.replace(draft, path)
    force(path.parent)


def force(path: Path) -> None:
    """Flushes a file, or the names in a folder, to disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def make(folder: Path) -> None:
    """Creates a folder and its parents, and flushes its name to disk."""
    folder.mkdir(parents=True, exist_ok=True)
    force(folder.parent)


def remove(folder: Path) -> None:
    """Removes a folder; a partly removed folder is never visible under its name."""
    trash = folder.with_name(f"{TRASH}{uuid.uuid4().hex[:8]}-{folder.name}")
    os.replace(folder, trash)
    discard(trash)


def discard(path: Path) -> None:
    """Removes a draft or trash as far as possible; the next writer removes the rest."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def sweep(folder: Path) -> None:
    """Removes the drafts and trash of writers that were stopped."""
    for path in folder.glob(".*"):
        if path.name.startswith((DRAFT, TRASH)):
            discard(path)


def is_safe(name: str) -> bool:
    """Returns whether a name, or a path of names, stays inside its folder."""
    return all(_NAME.fullmatch(part) for part in name.split("/"))


def read(path: Path, at_most: int = 1 << 28, start: int = 0) -> bytes:
    """Reads a file from byte `start` to its end, without following a symbolic link.

    Raises:
      OSError: if the file does not exist, is a symbolic link, or cannot be read.
      ValueError: if the path is a folder or a pipe, or the file is larger than `at_most` bytes.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > at_most:
            raise ValueError(f"{path.name} is larger than {at_most:,} bytes")
        file.seek(start)
        return file.read()


def digest(path: Path) -> tuple[int, str]:
    """Returns the size of a file in bytes, and its sha256."""
    with open_regular(path) as file:
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(path: Path) -> BufferedReader:
    """Opens a regular file, without following a symbolic link or blocking on a pipe.

    Raises:
      OSError: if the file does not exist, is a symbolic link, or cannot be read.
      ValueError: if the path is a folder or a pipe.
    """
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise ValueError(f"{path.name} is not a file")
    return open(number, "rb")
