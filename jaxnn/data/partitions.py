"""Computes the indices of held-out examples at random, or by class, group or time.

>>> rest, held_out = held_out_once("split", np.array([0, 1, 1, 2]), 0.25, way="time")
>>> rest.tolist(), held_out.tolist()
([0, 1, 2], [3])
"""

import math
from collections.abc import Iterator

import numpy as np

from jaxnn.checks import InvalidValue, number, positive_integer


def one_way(where: str, **given: str | None) -> tuple[str | None, str | None]:
    """Returns the requested way to split and its field, or two `None`; raises if there are two."""
    asked = [(way, name) for way, name in given.items() if name is not None]
    if len(asked) > 1:
        raise InvalidValue(
            where,
            "the examples cannot be held out in several ways at once",
            got=" and ".join(f"{way}={name!r}" for way, name in asked),
            expected="one of stratify, group and time",
            fix="Pass group= alone: what belongs together must not be in both parts",
        )
    return asked[0] if asked else (None, None)


def held_out_once(
    where: str, codes: np.ndarray, fraction: float, *, seed: int = 0, way: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the examples in `(rest, held_out)`.

    Args:
      where: the name of the calling function, for error messages.
      codes: the class, group or time of each example as integers from 0, in sorted order; zeros
        for a random split.
      fraction: the held-out fraction, between 0 and 1.
      seed: a non-negative integer.
      way: `"stratify"`, `"group"`, `"time"`, or `None` for a random split.

    Raises:
      InvalidValue: if the fraction is out of range, or a part would be empty.
    """
    number(where, "fraction", fraction, low=0.0, high=1.0, open_low=True)
    _check_count(where, codes)
    if way == "time":
        order = np.argsort(codes, kind="stable")
        borders = np.flatnonzero(np.diff(codes[order])) + 1
        cut = borders[_nearest(where, way, borders, (1 - fraction) * len(order))]
        return order[:cut], order[cut:]
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(codes))
    if way == "group":
        groups = draw.permutation(codes.max() + 1)
        sizes = np.cumsum(np.bincount(codes)[groups])
        last = _nearest(where, way, sizes[:-1], fraction * len(codes))
        held = np.isin(codes[order], groups[: last + 1])
    else:
        held = _shares(codes[order], fraction, draw)
    return order[~held], order[held]


def held_out_in_folds(
    where: str, codes: np.ndarray, folds: int, *, seed: int = 0, way: str | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the indices of the examples in `(rest, held_out)` for each fold.

    Args:
      where: the name of the calling function, for error messages.
      codes: as in `held_out_once`.
      folds: the number of folds, at least 2.
      seed: a non-negative integer.
      way: as in `held_out_once`. With `"time"`, the rest are the earlier ones of `folds + 1` spans.

    Raises:
      InvalidValue: if there are too few examples, groups or times.
    """
    positive_integer(where, "folds", folds)
    _check_count(where, codes)
    most = codes.max() + 1 if way in ("group", "time") else len(codes)
    if folds < 2 or folds + (way == "time") > most:
        raise InvalidValue(
            where,
            "there cannot be so many folds",
            got=f"folds={folds} for {most} {f'{way}s' if way in ('group', 'time') else 'examples'}",
            expected="at least 2, and one example, group or time for each",
            fix="Pass, say, folds=5" if folds < 2 else "Pass fewer folds",
        )
    draw = np.random.default_rng(seed)
    if way == "time":
        order = np.argsort(codes, kind="stable")
        cuts = np.arange(1, folds + 1) * len(order) // (folds + 1)
        starts = np.searchsorted(codes[order], codes[order[cuts]])
        if len({0, *starts}) <= folds:
            raise InvalidValue(
                where,
                "too many examples are of one time",
                got=f"folds={folds}",
                expected="spans of about equally many examples that begin at different times",
                fix="Pass fewer folds",
            )
        for start, stop in zip(starts, [*starts[1:], len(order)]):
            yield order[:start], order[start:stop]
        return
    fold = _smallest_folds(codes, folds) if way == "group" else np.empty(len(codes), np.intp)
    if way != "group":
        order = draw.permutation(len(codes))
        fold[order[np.argsort(codes[order], kind="stable")]] = np.arange(len(codes)) % folds
    for each in range(folds):
        order = draw.permutation(len(codes))
        yield order[fold[order] != each], order[fold[order] == each]


def _shares(codes: np.ndarray, fraction: float, draw: np.random.Generator) -> np.ndarray:
    """Returns a mask of the held-out examples: the same fraction of each class."""
    sizes = np.bincount(codes)
    shares = sizes * fraction
    quotas = np.floor(shares).astype(np.intp)
    wanted = min(max(math.floor(len(codes) * fraction + 0.5), 1), len(codes) - 1)
    most_lacking = np.lexsort((draw.random(len(sizes)), quotas - shares))
    quotas[most_lacking[: wanted - quotas.sum()]] += 1
    # The rank of each example within its class: the first `quota` of a class are held out.
    rank = np.empty(len(codes), np.intp)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    rank[np.argsort(codes, kind="stable")] = np.arange(len(codes)) - starts
    return rank < quotas[codes]


def _smallest_folds(codes: np.ndarray, folds: int) -> np.ndarray:
    """Assigns groups to folds in decreasing order of size, each to the smallest fold."""
    counts = np.bincount(codes)
    fold_of, sizes = np.zeros(len(counts), np.intp), np.zeros(folds, np.intp)
    for group in np.argsort(-counts, kind="stable"):
        fold_of[group] = sizes.argmin()
        sizes[fold_of[group]] += counts[group]
    return fold_of[codes]


def _nearest(where: str, way: str, borders: np.ndarray, wanted: float) -> int:
    if not len(borders):
        raise InvalidValue(
            where,
            f"all examples are of one {way}",
            got=f"one value for {way}=",
            expected="two different values at least",
            fix="Name another column, or split by share",
        )
    return int(np.argmin(np.abs(borders - wanted)))


def _check_count(where: str, codes: np.ndarray) -> None:
    if len(codes) < 2:
        raise InvalidValue(
            where,
            "there is nothing to hold out",
            got=f"{len(codes)} examples",
            expected="two at least",
            fix="Give more examples",
        )
