"""Holding out rows of a table: by share, by class, by group, by time, once or in folds.

>>> train, test = split_table({"day": [3, 1, 2, 4], "size": [0.3, 0.1, 0.2, 0.4]}, 0.25, time="day")
>>> train["day"].to_list(), test["day"].to_list()
([1, 2, 3], [4])
"""

from collections.abc import Iterator

import numpy as np

from jaxnn.checks import InvalidValue, choice, number, positive_integer
from jaxnn.data import split
from jaxnn.tables._read_table import read_table
from jaxnn.typing import Any


def split_table(
    table: Any,
    fraction: float,
    *,
    seed: int = 0,
    stratify: str | None = None,
    group: str | None = None,
    time: str | None = None,
) -> tuple[Any, Any]:
    """Returns `(rest, held_out)`, two polars `DataFrame`s: every row is in exactly one.

    Args:
      table: whatever `read_table` reads.
      fraction: the share that is held out, between 0 and 1, to the nearest row.
      seed: a whole number; the same seed gives the same split.
      stratify: a column of which each value is held out in the same share, to within one row.
      group: a column of which all rows with the same value are in the same part. The share of rows
        is the nearest that adding groups in a random order gives.
      time: a column of dates or numbers: the latest rows are held out, and rows of the same time
        are in the same part. Both parts are in the order of time, all others are shuffled.

    Raises:
      InvalidValue: if an option cannot be used, or a part would be empty.
    """
    number("split_table", "fraction", fraction, low=0.0, high=1.0, open_low=True)
    table = read_table(table)
    codes = _codes("split_table", table, stratify, group, time)
    rows = np.arange(table.height)
    if time is not None:
        order = np.argsort(codes, kind="stable")
        borders = np.flatnonzero(np.diff(codes[order])) + 1
        cut = _nearest("split_table", borders, (1 - fraction) * len(order), time)
        return table[order[:cut]], table[order[cut:]]
    if group is not None:
        groups = np.random.default_rng(seed).permutation(codes.max() + 1)
        sizes = np.cumsum(np.bincount(codes)[groups])
        cut = _nearest("split_table", sizes[:-1], fraction * len(rows), group)
        held = np.isin(codes, groups[: np.searchsorted(sizes, cut) + 1])
        order = np.random.default_rng(seed).permutation(rows)
        return table[order[~held[order]]], table[order[held[order]]]
    fields = {"rows": rows} if stratify is None else {"rows": rows, "classes": codes}
    parts = split(fields, fraction, seed=seed, stratify=stratify and "classes")
    return table[parts[0]["rows"]], table[parts[1]["rows"]]


def fold_table(
    table: Any,
    folds: int,
    *,
    seed: int = 0,
    stratify: str | None = None,
    group: str | None = None,
    time: str | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Yields `(rest, held_out)` for each fold: each row is held out once, by time the later ones.

    Args:
      table: whatever `read_table` reads.
      folds: how many, at least 2.
      seed: as in `split_table`.
      stratify: a column of which each value is spread evenly over the folds, to within one row.
      group: a column of which all rows with the same value are in one fold; the largest first, each
        into the smallest fold.
      time: a column of dates or numbers: each fold is later than the rows that it is held out from,
        which are all earlier ones; there are `folds + 1` spans of about equally many rows.

    Raises:
      InvalidValue: if an option cannot be used, or there are too few rows, groups or times.
    """
    positive_integer("fold_table", "folds", folds)
    table = read_table(table)
    codes = _codes("fold_table", table, stratify, group, time)
    most = table.height if stratify is not None or codes.max() == 0 else codes.max() + 1
    if folds < 2 or folds + (time is not None) > most:
        raise InvalidValue(
            "fold_table",
            "there cannot be so many folds",
            got=f"folds={folds} for {most} {'groups or times' if group or time else 'rows'}",
            expected="at least 2, and one row, group or time for each",
            fix="Pass, say, folds=5" if folds < 2 else "Pass fewer folds",
        )
    draw = np.random.default_rng(seed)
    if time is not None:
        order = np.argsort(codes, kind="stable")
        cuts = np.arange(1, folds + 1) * len(order) // (folds + 1)
        spans = np.searchsorted(codes[order], codes[order[cuts]])
        if len({0, *spans}) <= folds:
            raise InvalidValue(
                "fold_table",
                "too many rows are of one time",
                got=f"folds={folds} in column {time!r}",
                expected="spans of about equally many rows that begin at different times",
                fix="Pass fewer folds",
            )
        for start, stop in zip(spans, [*spans[1:], len(order)]):
            yield table[order[:start]], table[order[start:stop]]
        return
    if group is not None:
        fold_of, sizes = np.zeros(codes.max() + 1, int), np.zeros(folds, int)
        counts = np.bincount(codes)
        for each in np.argsort(-counts, kind="stable"):
            fold_of[each] = sizes.argmin()
            sizes[fold_of[each]] += counts[each]
        fold = fold_of[codes]
    else:
        order = draw.permutation(len(codes))
        order = order[np.argsort(codes[order], kind="stable")]
        fold = np.empty(len(codes), int)
        fold[order] = np.arange(len(codes)) % folds
    for held in range(folds):
        order = draw.permutation(len(codes))
        yield table[order[fold[order] != held]], table[order[fold[order] == held]]


def _codes(
    where: str, table: Any, stratify: str | None, group: str | None, time: str | None
) -> np.ndarray:
    """Returns a whole number for each row: of its class, group or time; all 0 without them."""
    given = {"stratify": stratify, "group": group, "time": time}
    asked = {name: column for name, column in given.items() if column is not None}
    if len(asked) > 1 or table.height < 2:
        raise InvalidValue(
            where,
            "the table cannot be split so",
            got=f"{table.height} rows by {' and '.join(asked) or 'share'}",
            expected="two rows at least, and one of stratify, group and time",
            fix="Pass group= alone: what belongs together must not be in both parts",
        )
    for name, column in asked.items():
        choice(where, name, column, table.columns)
        values = table[column]
        if name == "time" and (values.null_count() or not _is_ordered(values)):
            raise InvalidValue(
                where,
                f"time={column!r} does not order the rows",
                got=f"a column of {values.dtype} with {values.null_count()} missing values",
                expected="a date or a number in every row",
                fix="Drop those rows, or read its dates: read_table(..., dates=...)",
            )
        return values.rank("dense").fill_null(0).to_numpy().astype(np.intp) - (
            0 if values.null_count() else 1
        )
    return np.zeros(table.height, np.intp)


def _is_ordered(values: Any) -> bool:
    return values.dtype.is_numeric() or values.dtype.is_temporal()


def _nearest(where: str, borders: np.ndarray, wanted: float, name: str) -> int:
    if not len(borders):
        raise InvalidValue(
            where,
            f"all rows are of one {name}",
            got=f"one value in column {name!r}",
            expected="two different values at least",
            fix="Name another column, or split by share",
        )
    return int(borders[np.argmin(np.abs(borders - wanted))])
