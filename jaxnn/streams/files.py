"""The files of a source: their names, their sizes, and whether they changed since it was opened."""

import mmap
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.streams.source import digest
from jaxnn.typing import Any

# What NumPy raises for a corrupt header of an array, which it parses as Python.
HEADER_ERRORS = (ValueError, KeyError, TypeError, EOFError, OSError, SyntaxError, TokenError)


class Changed(InvalidValue):
    """A file changed while it was read."""


class Files:
    """The files of a source, with their sizes and times when the source was opened.

    Attributes:
      paths: the paths of the files, in order.
    """

    def __init__(self, where: str, paths: str | os.PathLike | Iterable, suffixes: Sequence[str]):
        self.where, self.paths = where, find(where, paths, suffixes)
        self._known = [size_and_time(path) for path in self.paths]
        # Computed now, so that it describes the files as they were opened.
        ends = [(path.name, known[0], _ends(path)) for path, known in zip(self.paths, self._known)]
        self._fingerprint = digest(*ends)

    def check(self) -> None:
        """Raises `Changed` if a file has changed since it was opened."""
        for path, known in zip(self.paths, self._known):
            check_unchanged(self.where, path, known)

    def fingerprint(self) -> str:
        """Returns a digest of names, sizes, and the first and last bytes of the files."""
        return self._fingerprint


def in_any_order(array: np.ndarray) -> np.ndarray:
    """Prepares a mapped array for random access to small slices.

    The system then does not read ahead. The result is a plain array, since slicing a `memmap` takes
    twice as long.
    """
    mapped = getattr(array, "_mmap", None)
    if hasattr(mmap, "MADV_RANDOM") and mapped is not None:
        mapped.madvise(mmap.MADV_RANDOM)
    return np.asarray(array)


def mapped(where: str, path: Path) -> np.ndarray:
    """Maps the array of a `.npy` file into memory.

    Raises:
      InvalidValue: if the file is truncated, or is not such a file.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except HEADER_ERRORS as error:
        raise corrupt(where, path, error) from None


def corrupt(where: str, path: Path, error: Exception) -> InvalidValue:
    """Returns the error for a file of arrays that cannot be read."""
    return InvalidValue(
        where,
        "a file cannot be read",
        got=f"{path}: {error}",
        expected="a file that numpy.save or numpy.savez wrote, whole",
        fix="Write or copy it again",
    )


def size_and_time(path: Path) -> tuple[int, int]:
    """Returns the size of a file in bytes, and the time of its last change in nanoseconds."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def check_unchanged(where: str, path: Path, known: tuple[int, int]) -> None:
    """Raises `Changed` unless a file has the given size and time."""
    try:
        now = size_and_time(path)
    except OSError:
        now = None
    if now != known:
        raise Changed(
            where,
            "a file changed while it was read",
            got=f"{path}, of {known[0]} bytes when it was opened"
            + (f" and {now[0]} now" if now else ", which is gone"),
            expected="files that stay as they are while a run reads them",
            fix="Start the run again once the file is whole",
        )


def _ends(path: Path, size: int = 4096) -> bytes:
    """Returns the first and last `size` bytes of a file."""
    with path.open("rb") as file:
        first = file.read(size)
        file.seek(max(0, path.stat().st_size - size))
        return first + file.read()


def find(where: str, paths: Any, suffixes: Sequence[str]) -> list[Path]:
    """Returns the files given by a file, a folder, a pattern with `*`, or a list of them.

    The files of a folder or pattern are sorted by name.

    Raises:
      InvalidValue: if there are no files, or a given file does not exist.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: list[Path] = []
    for entry in several:
        path = Path(entry).expanduser()
        if path.is_dir():
            files += sorted(x for x in path.iterdir() if x.suffix in suffixes)
        elif any(c in path.name for c in "*?["):
            files += sorted(path.parent.glob(path.name))
        elif not path.is_file():
            raise InvalidValue(
                where,
                "there is no such file",
                got=f"{path}",
                expected=f"a file, a folder of {', '.join(suffixes)} files, or a pattern",
                fix="Check the path",
            )
        else:
            files.append(path)
    if not files:
        raise InvalidValue(
            where,
            "no file to read",
            got=f"{', '.join(map(str, several)) or 'an empty list'}",
            expected=f"at least one file that ends in {', '.join(suffixes)}",
            fix="Name the files, or a folder that holds them",
        )
    return files


def missing(where: str, package: str) -> InvalidValue:
    """Returns the error for a package that is required to read files, but is not installed."""
    return InvalidValue(
        where,
        f"such files are read by {package}, which is not installed",
        got="no such package",
        expected=f"{package}, which the extra [data] brings",
        fix="Install it: pip install 'jaxnn-toolkit[data]'",
    )
