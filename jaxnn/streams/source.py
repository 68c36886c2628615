"""The protocol of sources, which a stream reads from: `len(source)` and `source[i]`.

Lists of dicts, map-style datasets of PyTorch, datasets of Hugging Face and custom classes are
sources. A source can also define a method `rows`, which reads many examples at once:

    >>> source = [{"inputs": [0.0, 1.0], "labels": 0}, {"inputs": [2.0, 3.0], "labels": 1}]
    >>> read_rows(source, np.array([1, 1]))["labels"].tolist()
    [1, 1]
"""

import hashlib
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from jaxnn.checks import Invalid, InvalidType, InvalidValue
from jaxnn.typing import Any

MOST = 2**31 - 1  # the maximum number of examples of a source, since indices are int32


@runtime_checkable
class Source(Protocol):
    """Examples that are read on demand.

    An example is a dict of fields, `{"inputs": ..., "labels": ...}`. Three methods are optional:
    `rows(index)` returns the examples at the given indices as a dict of arrays `[examples, ...]`,
    `fingerprint()` returns a short string that changes when the examples change, and `place(index)`
    describes where an example is stored, for error messages.
    """

    def __len__(self) -> int:
        """Returns the number of examples."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Returns an example."""
        ...


class Rows(ABC):
    """A source that implements `source[i]` by `rows`, which reads many examples at once."""

    @abstractmethod
    def rows(self, index: np.ndarray) -> dict[str, Any]:
        """Returns the examples at the given indices, `[examples, ...]` each field."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        rows = self.rows(np.array([index % len(self)]))
        return jax.tree.map(lambda x: x[0], rows)


class Parts(Rows):
    """A source that concatenates several parts, such as files.

    Attributes:
      starts: the index of the first example of each part, and the total number of examples.
      paths: the file of each part; the parts of a file are consecutive.
    """

    def __init__(self, counts: Iterable[int], paths: Sequence[Path] = ()):
        self.starts, self.paths = np.cumsum([0, *counts]), paths

    @abstractmethod
    def read_part(self, number: int, index: np.ndarray) -> dict[str, Any]:
        """Returns examples of one part, by their indices in the part."""

    def place_in(self, number: int, index: int) -> str:
        """Returns a description of where an example of a part is stored: the row and the file."""
        path = self.paths[number]
        before = self.starts[number] - self.starts[self.paths.index(path)]
        return f"row {before + index} of {path}"

    def locate(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the part of each example, and its index in the part."""
        which = np.searchsorted(self.starts, index, "right") - 1
        return which, index - self.starts[which]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def rows(self, index: np.ndarray) -> dict[str, Any]:
        """Returns the examples at the given indices, which may be in several parts."""
        which, places = self.locate(np.asarray(index, np.int64))
        groups = [(int(n), np.flatnonzero(which == n)) for n in np.unique(which)]
        reads = [self.read_part(number, places[mine]) for number, mine in groups]
        if len(reads) == 1:
            return reads[0]
        back = np.argsort(np.concatenate([mine for _, mine in groups]))
        return jax.tree.map(lambda *xs: np.concatenate(xs)[back], *reads)

    def place(self, index: int) -> str:
        """Returns a description of where an example is stored."""
        (number,), (inner,) = self.locate(np.array([index]))
        return self.place_in(int(number), int(inner))


def read_rows(source: Any, index: np.ndarray) -> dict[str, Any]:
    """Returns the examples of a source at the given indices, `[examples, ...]` each field."""
    if hasattr(source, "rows"):
        return source.rows(index)
    return stacked([source[int(i)] for i in index])


def place_of(source: Any, index: int) -> str:
    """Returns where an example is stored, ` (row 3 of FILE)`; `""` if the source has no `place`."""
    words = source.place(index) if hasattr(source, "place") else ""
    return f" ({words})" if words else ""


@contextmanager
def explained(index: int, place: str) -> Iterator[None]:
    """Adds the index of an example, and where it is stored, to an error message."""
    try:
        yield
    except Invalid as error:
        raise type(error)(f"in example {index}{place}, {error}") from error


def stacked(examples: Sequence[Any]) -> Any:
    """Stacks examples along a new leading axis.

    Raises:
      InvalidValue: if the fields or shapes of the examples differ.
    """
    first = jax.tree.structure(examples[0], is_leaf=_is_array)
    for example in examples:
        if (other := jax.tree.structure(example, is_leaf=_is_array)) != first:
            raise InvalidValue(
                "stream",
                "examples of one source have different fields",
                got=f"{other} beside {first}",
                expected="the same fields in each",
                fix="Let the source, or read, give every example the same fields",
            )
    try:
        return jax.tree.map(lambda *xs: np.stack(xs), *examples, is_leaf=_is_array)
    except ValueError:
        shapes = sorted({str(jax.tree.map(np.shape, x, is_leaf=_is_array)) for x in examples})
        raise InvalidValue(
            "stream",
            "examples of one batch have different shapes",
            got=" and ".join(shapes[:3]),
            expected="one shape for each field",
            fix="Pad, crop or resize them in read",
        ) from None


def _is_array(x: Any) -> bool:
    return isinstance(x, list | tuple) and not any(isinstance(part, dict) for part in x)


def fingerprint(source: Any) -> str:
    """Returns a short string that changes when a change of the source is detected.

    This is `source.fingerprint()` if defined. Otherwise it depends on the type, the length, and the
    first and last examples, since reading all examples would take as long as training on them.
    """
    if hasattr(source, "fingerprint"):
        return str(source.fingerprint())
    ends = [read_rows(source, np.array([i])) for i in (0, len(source) - 1)]
    return digest(type(source).__name__, len(source), *jax.tree.leaves(ends))


def digest(*parts: Any) -> str:
    """Returns a short digest of bytes, arrays, and any other values with a stable `repr`."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes | np.ndarray):
            array = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
            total.update(f"{array.dtype}{array.shape}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
        else:
            total.update(repr(part).encode())
    return total.hexdigest()[:16]


class Files:
    """The files of a source, with their sizes and times when the source was opened.

    Attributes:
      paths: the paths of the files, in order.
    """

    def __init__(self, where: str, paths: str | os.PathLike | Iterable, suffixes: Sequence[str]):
        self.where, self.paths = where, find(where, paths, suffixes)
        self._known = [_known(path) for path in self.paths]
        # Computed now, so that it describes the files as they were opened.
        ends = [(path.name, known[0], _ends(path)) for path, known in zip(self.paths, self._known)]
        self._fingerprint = digest(*ends)

    def check(self) -> None:
        """Raises `InvalidValue` if a file has changed since it was opened."""
        for path, known in zip(self.paths, self._known):
            try:
                now = _known(path)
            except OSError:
                now = None
            if now != known:
                raise InvalidValue(
                    self.where,
                    "a file changed while it was read",
                    got=f"{path}, of {known[0]} bytes when it was opened"
                    + (f" and {now[0]} now" if now else ", which is gone"),
                    expected="files that stay as they are while a run reads them",
                    fix="Start the run again once the file is whole",
                )

    def fingerprint(self) -> str:
        """Returns a digest of names, sizes, and the first and last bytes of the files."""
        return self._fingerprint


def in_any_order(array: np.memmap) -> np.ndarray:
    """Prepares a mapped array for random access to small slices.

    The system then does not read ahead. The result is a plain array, since slicing a `memmap` takes
    twice as long.
    """
    mapped = getattr(array, "_mmap", None)
    if hasattr(mmap, "MADV_RANDOM") and mapped is not None:
        mapped.madvise(mmap.MADV_RANDOM)
    return np.asarray(array)


def _known(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


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
        fix="pip install 'jaxnn-toolkit[data]'",
    )


def check_source(source: Any) -> None:
    """Raises if `source` has no length, no random access or no examples."""
    if isinstance(source, dict) or not (
        hasattr(source, "__len__") and hasattr(source, "__getitem__")
    ):
        is_iterator = hasattr(source, "__next__") or hasattr(source, "__iter__")
        raise InvalidType(
            "stream",
            "the source has no random access",
            got=f"a {type(source).__name__}",
            expected="an object with len(source) and source[i]",
            fix="Write what it yields to a file once, python -m jaxnn pack SOURCE FILE, and stream"
            " that"
            if is_iterator and not isinstance(source, dict)
            else "For arrays in memory use resident(arrays, batch_size=64), or give a list of"
            " examples, such as those that jaxnn.streams opens from files",
        )
    if len(source) > MOST:
        raise InvalidValue(
            "stream",
            "the source has too many examples",
            got=f"{len(source):,} of them",
            expected=f"at most {MOST:,}",
            fix="Stream a part of it, or windows of tokens that begin further apart (stride=)",
        )
    if not len(source):
        raise InvalidValue(
            "stream",
            "the source is empty",
            got=f"a {type(source).__name__} of length 0",
            expected="at least one example",
            fix="Check where it comes from",
        )
