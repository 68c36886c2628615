"""Combines several sources: `concatenate` joins them, `mix` interleaves them by weights.

>>> one, other = [{"inputs": 0.0}] * 3, [{"inputs": 1.0}] * 2
>>> [float(example["inputs"]) for example in concatenate([one, other])]
[0.0, 0.0, 0.0, 1.0, 1.0]
>>> mixed = mix([one, other], [0.75, 0.25], length=8)
>>> [float(mixed[i]["inputs"]) for i in range(8)]
[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
"""

from collections.abc import Sequence

import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.streams.source import Parts, check_source, digest, fingerprint, read_rows
from jaxnn.typing import Any


class Concatenated(Parts):
    """The examples of several sources, concatenated."""

    words = "concatenate"

    def __init__(self, sources: Sequence[Any]):
        super().__init__(map(len, sources))
        self.sources = list(sources)

    def read_part(self, number: int, index: np.ndarray) -> dict[str, Any]:
        """Returns the given examples of a source."""
        return read_rows(self.sources[number], index)

    def place_in(self, number: int, index: int) -> str:
        """Returns a description of where the source stores an example."""
        source = self.sources[number]
        return source.place(index) if hasattr(source, "place") else f"{index} of source {number}"

    def fingerprint(self) -> str:
        """Returns a digest of all sources."""
        return digest(self.words, len(self), *map(fingerprint, self.sources))

    def __repr__(self) -> str:
        return f"{self.words}({', '.join(map(repr, self.sources))})"


class Mixed(Concatenated):
    """The examples of several sources, interleaved in a repeated pattern."""

    def __init__(self, sources: Sequence[Any], counts: np.ndarray, length: int | None):
        super().__init__(sources)
        self.counts, self.pattern = counts, _pattern(counts)
        numbers = range(len(counts))
        same = [self.pattern == number for number in numbers]
        self.before = np.stack([np.cumsum(own) - own for own in same])
        self.sizes = np.diff(self.starts)
        whole = int(np.ceil(self.sizes / counts).max()) * len(self.pattern)
        self.length = whole if length is None else int(length)
        self.words = f"mix{counts.tolist()}"

    def __len__(self) -> int:
        return self.length

    def locate(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the source of each example, and its index in the source."""
        turn, place = np.divmod(index, len(self.pattern))
        which = self.pattern[place]
        inner = turn * self.counts[which] + self.before[which, place]
        return which, inner % self.sizes[which]


def concatenate(sources: Sequence[Any]) -> Concatenated:
    """Returns a source with the examples of several sources, concatenated."""
    for source in sources:
        check_source(source)
    return Concatenated(sources)


def mix(sources: Sequence[Any], weights: Sequence[float], *, length: int | None = None) -> Mixed:
    """Returns a source that interleaves the examples of several sources evenly by weight.

    Weights are normalized and rounded to thousandths, at least one. The first `n` examples contain
    about `n * weight` examples of each source. A source that is exhausted starts again.

    Args:
      sources: the sources, whose examples have the same fields.
      weights: the relative weight of each source, positive.
      length: the number of examples in an epoch. By default, every source is read at least once.

    Raises:
      InvalidValue: if a weight is not positive, or the numbers of weights and sources differ.
    """
    shares = np.asarray(weights, np.float64)
    if shares.shape != (len(sources),) or not (np.isfinite(shares) & (shares > 0)).all():
        raise InvalidValue(
            "mix",
            "the weights do not fit the sources",
            got=f"weights={list(weights)} of {len(sources)} sources",
            expected="a number above 0 for each",
            fix="Leave out a source that is not to be read",
        )
    for source in sources:
        check_source(source)
    # Rounded to thousandths of the total, so that a short pattern can be repeated.
    counts = np.maximum(1, np.rint(shares / shares.sum() * 1000)).astype(np.int64)
    counts //= np.gcd.reduce(counts)
    return Mixed(sources, counts, length)


def _pattern(counts: np.ndarray) -> np.ndarray:
    """Returns the index of the source at each place of the pattern, spread evenly."""
    total = int(counts.sum())
    # Example j of c is due in the middle of the j-th of c equal parts of the pattern.
    due = np.concatenate([(np.arange(c) + 0.5) / c for c in counts])
    which = np.repeat(np.arange(len(counts)), counts)
    return which[np.lexsort((which, due))][:total]
