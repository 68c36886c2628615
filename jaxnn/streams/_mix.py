"""Several sources as one: one after another, or mixed by weights.

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
    """Sources as one, one after another."""

    words = "concatenate"

    def __init__(self, sources: Sequence[Any]):
        super().__init__(map(len, sources))
        self.sources = list(sources)

    def read_part(self, number: int, index: np.ndarray) -> dict[str, Any]:
        """Returns examples of a source."""
        return read_rows(self.sources[number], index)

    def place_in(self, number: int, index: int) -> str:
        """Returns where the source has the example."""
        source = self.sources[number]
        return source.place(index) if hasattr(source, "place") else f"{index} of source {number}"

    def fingerprint(self) -> str:
        """Returns a digest of all sources."""
        return digest(self.words, len(self), *map(fingerprint, self.sources))

    def __repr__(self) -> str:
        return f"{self.words}({', '.join(map(repr, self.sources))})"


class Mixed(Concatenated):
    """Sources as one, by a pattern that is repeated."""

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
        """Returns the source of each example, and its number there."""
        turn, place = np.divmod(index, len(self.pattern))
        which = self.pattern[place]
        inner = turn * self.counts[which] + self.before[which, place]
        return which, inner % self.sizes[which]


def concatenate(sources: Sequence[Any]) -> Concatenated:
    """Returns sources as one, one after another."""
    for source in sources:
        check_source(source)
    return Concatenated(sources)


def mix(sources: Sequence[Any], weights: Sequence[float], *, length: int | None = None) -> Mixed:
    """Returns sources mixed by weights, as evenly as whole numbers allow.

    Among the first `n` examples each source has `n * weight`, within one. An example of a small
    source comes again when it has been used up.

    Args:
      sources: with the same fields.
      weights: the share of each, in any unit.
      length: how many examples an epoch has; by default until each source was used up once.

    Raises:
      InvalidValue: if a weight is not above 0, or there are not as many as sources.
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
    # In whole thousandths of the smallest, so that the pattern repeats and can be looked up.
    counts = np.maximum(1, np.rint(shares / shares.sum() * 1000)).astype(np.int64)
    counts //= np.gcd.reduce(counts)
    return Mixed(sources, counts, length)


def _pattern(counts: np.ndarray) -> np.ndarray:
    """Returns which source each place of a period has, spread as evenly as possible."""
    total = int(counts.sum())
    # Example j of a source is due at the middle of the j-th of its equal parts of the period.
    due = np.concatenate([(np.arange(c) + 0.5) / c for c in counts])
    which = np.repeat(np.arange(len(counts)), counts)
    return which[np.lexsort((which, due))][:total]
