"""The protocol of sources, which a stream reads from: `len(source)` and `source[i]`.

Lists of dicts, map-style datasets of PyTorch, datasets of Hugging Face and custom classes are
sources. A source can also define a method `rows`, which reads many examples at once:

    >>> source = [{"inputs": [0.0, 1.0], "labels": 0}, {"inputs": [2.0, 3.0], "labels": 1}]
    >>> read_rows(source, np.array([1, 1]))["labels"].tolist()
    [1, 1]
"""

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from jaxnn.checks import Caution, Invalid, InvalidType, InvalidValue
from jaxnn.streams.schema import combined
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
        return combined(
            lambda column: np.concatenate(column)[back],
            reads,
            lambda n: self.place_in(groups[n][0], int(places[groups[n][1][0]])),
            axes=1,
        )

    def place(self, index: int) -> str:
        """Returns a description of where an example is stored."""
        (number,), (inner,) = self.locate(np.array([index]))
        return self.place_in(int(number), int(inner))


def read_rows(source: Any, index: np.ndarray) -> dict[str, Any]:
    """Returns the examples of a source at the given indices, `[examples, ...]` each field."""
    if hasattr(source, "rows"):
        return source.rows(index)
    examples = [source[int(i)] for i in index]
    return combined(np.stack, examples, lambda row: words_for(source, int(index[row])))


def place_of(source: Any, index: int) -> str:
    """Returns where an example is stored, ` (row 3 of FILE)`; `""` if the source has no `place`."""
    words = source.place(index) if hasattr(source, "place") else ""
    return f" ({words})" if words else ""


def words_for(source: Any, index: int) -> str:
    """Returns the index of an example and where it is stored, `example 5 (row 3 of FILE)`."""
    return f"example {index}{place_of(source, index)}"


@contextmanager
def explained(index: int, place: str) -> Iterator[None]:
    """Adds the index of an example, and where it is stored, to an error message."""
    try:
        yield
    except Invalid as error:
        raise type(error)(f"in example {index}{place}, {error}") from error


def fingerprint(source: Any) -> str:
    """Returns a short string that changes when a change of the source is detected.

    This is `source.fingerprint()` if defined. Otherwise it depends on the type, the length, and the
    first and last examples, since reading all examples would take as long as training on them.
    Issues a `Caution` if these examples change when they are read again.
    """
    if hasattr(source, "fingerprint"):
        return str(source.fingerprint())
    known = type(source).__name__, len(source)

    def known_and_ends():
        ends = [read_rows(source, np.array([i])) for i in (0, len(source) - 1)]
        return digest(*known, *jax.tree.leaves(ends))

    result = known_and_ends()
    if result != known_and_ends():
        text = (
            f"stream: reading an example of the {known[0]} twice gives different results, so that a"
            " run cannot be repeated. Augment in read=, with the generator that it is given"
        )
        warnings.warn(text, Caution, stacklevel=2)
        return digest(*known)
    return result


def digest(*parts: Any) -> str:
    """Returns a short digest of bytes, arrays, and any other values with a stable `repr`."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes | np.ndarray):
            array = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
            if array.dtype.hasobject:  # its bytes are addresses
                array = np.frombuffer(repr(array.tolist()).encode(), np.uint8)
            total.update(f"{array.dtype}{array.shape}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
        else:
            total.update(repr(part).encode())
    return total.hexdigest()[:16]


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
