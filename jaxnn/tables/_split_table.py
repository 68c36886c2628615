"""Holding out rows of a table: by share, by class, by group, by time, once or in folds.

>>> train, test = split_table({"day": [3, 1, 2, 4], "size": [0.3, 0.1, 0.2, 0.4]}, 0.25, time="day")
>>> train["day"].to_list(), test["day"].to_list()
([1, 2, 3], [4])
"""

from collections.abc import Iterator

import numpy as np

from jaxnn.checks import InvalidValue, choice
from jaxnn.data.partitions import held_out_in_folds, held_out_once, one_way
from jaxnn.reading._read_table import read_table
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
    way, name = one_way("split_table", stratify=stratify, group=group, time=time)
    table = read_table(table)
    codes = _codes("split_table", table, way, name)
    rest, held_out = held_out_once("split_table", codes, fraction, seed=seed, way=way)
    return table[rest], table[held_out]


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
    way, name = one_way("fold_table", stratify=stratify, group=group, time=time)
    table = read_table(table)
    codes = _codes("fold_table", table, way, name)
    for rest, held_out in held_out_in_folds("fold_table", codes, folds, seed=seed, way=way):
        yield table[rest], table[held_out]


def _codes(where: str, table: Any, way: str | None, name: Any) -> np.ndarray:
    """Returns a whole number for each row: of its class, group or time; all 0 without them."""
    if way is None:
        return np.zeros(table.height, np.intp)
    choice(where, way, name, table.columns)
    values = table[name]
    ordered = values.dtype.is_numeric() or values.dtype.is_temporal()
    if way == "time" and (values.null_count() or not ordered):
        raise InvalidValue(
            where,
            f"time={name!r} does not order the rows",
            got=f"a column of {values.dtype} with {values.null_count()} missing values",
            expected="a date or a number in every row",
            fix="Drop those rows, or read its dates: read_table(..., dates=...)",
        )
    ranks = values.rank("dense").fill_null(0).to_numpy().astype(np.intp)
    return ranks - ranks.min() if len(ranks) else ranks
