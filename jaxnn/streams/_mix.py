"""Several sources as one: one after another, or mixed by weights.

>>> one, other = [{"inputs": 0.0}] * 3, [{"inputs": 1.0}] * 2
>>> [float(example["inputs"]) for example in concatenate([one, other])]
[0.0, 0.0, 0.0, 1.0, 1.0]
>>> mixed = mix([one, other], [0.75, 0.25], length=8)
>>> [float(mixed[i]["inputs"]) for i in range(8)]
[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
"""

from collections.abc import Sequence

import jax
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.streams.source import Rows, check_source, digest, fingerprint, read_rows
from jaxnn.typing import Any


class Several(Rows):
    """Sources as one: example `i` is example `place[i]` of source `which[i]`, both computed."""

    def __init__(self, sources: Sequence[Any], length: int, locate: Any, words: str):
        self.sources, self.length, self.locate, self.words = list(sources), length, locate, words

    def __len__(self) -> int:
        return self.length

    def rows(self, index: np.ndarray) -> dict[str, Any]:
        """Returns the examples with these numbers, from wherever they are."""
        which, place = self.locate(np.asarray(index, np.int64))
        parts, order = [], []
        for number in np.unique(which):
            mine = np.flatnonzero(which == number)
            parts.append(read_rows(self.sources[number], place[mine]))
            order.append(mine)
        back = np.argsort(np.concatenate(order))
        return jax.tree.map(lambda *xs: np.concatenate(xs)[back], *parts)

    def place(self, index: int) -> str:
        """Returns where the source has the example."""
        which, inner = (int(x[0]) for x in self.locate(np.array([index])))
        source = self.sources[which]
        return source.place(inner) if hasattr(source, "place") else f"{inner} of source {which}"

    def fingerprint(self) -> str:
        """Returns a digest of all sources."""
        return digest(self.words, self.length, *map(fingerprint, self.sources))

    def __repr__(self) -> str:
        return f"{self.words}({', '.join(map(repr, self.sources))})"


def concatenate(sources: Sequence[Any]) -> Several:
    """Returns sources as one, one after another."""
    for source in sources:
        check_source(source)
    starts = np.cumsum([0, *map(len, sources)])

    def locate(index):
        which = np.searchsorted(starts, index, "right") - 1
        return which, index - starts[which]

    return Several(sources, int(starts[-1]), locate, "concatenate")


def mix(sources: Sequence[Any], weights: Sequence[float], *, length: int | None = None) -> Several:
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
    pattern = _pattern(counts)
    before = np.stack([np.cumsum(pattern == k) - (pattern == k) for k in range(len(counts))])
    sizes = np.array([len(source) for source in sources])
    if length is None:
        length = int(np.ceil(sizes / counts).max()) * len(pattern)

    def locate(index):
        turn, place = np.divmod(index, len(pattern))
        which = pattern[place]
        return which, (turn * counts[which] + before[which, place]) % sizes[which]

    return Several(sources, int(length), locate, f"mix{counts.tolist()}")


def _pattern(counts: np.ndarray) -> np.ndarray:
    """Returns which source each place of a period has, spread as evenly as possible."""
    total = int(counts.sum())
    # Example j of a source is due at the middle of the j-th of its equal parts of the period.
    due = np.concatenate([(np.arange(c) + 0.5) / c for c in counts])
    which = np.repeat(np.arange(len(counts)), counts)
    return which[np.lexsort((which, due))][:total]
