"""Splits the rows of a table, at random, by class, by group or by time, once or in folds.

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
    """Splits a table into two polars `DataFrame`s, `(rest, held_out)`.

    Rows are shuffled, except with `time`.

    Args:
      table: a source that `read_table` accepts.
      fraction: the fraction of rows to hold out, between 0 and 1, rounded to whole rows.
      seed: an integer; the same seed gives the same split.
      stratify: the name of a column; the same fraction of the rows with each of its values is held
        out, to within one row.
      group: the name of a column; all rows with the same value are in the same part. Groups are
        added in random order until the fraction is as close as possible.
      time: the name of a column of dates or numbers. The latest rows are held out, rows with the
        same time are in the same part, and both parts are sorted by time.

    Raises:
      InvalidValue: if an option is invalid, or a part would be empty.
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
    """Yields `(rest, held_out)` for each fold of a cross-validation.

    Each row is held out exactly once, except that with `time` the earliest rows are never held out.

    Args:
      table: a source that `read_table` accepts.
      folds: the number of folds, at least 2.
      seed: as in `split_table`.
      stratify: the name of a column; the rows with each of its values are distributed evenly over
        the folds, to within one row.
      group: the name of a column; all rows with the same value are in the same fold. Groups are
        assigned to the smallest fold, the largest group first.
      time: the name of a column of dates or numbers. The rows are divided into `folds + 1` spans of
        about equal size; each span but the first is held out in turn, and `rest` is all earlier
        rows.

    Raises:
      InvalidValue: if an option is invalid, or there are too few rows, groups or times.
    """
    way, name = one_way("fold_table", stratify=stratify, group=group, time=time)
    table = read_table(table)
    codes = _codes("fold_table", table, way, name)
    for rest, held_out in held_out_in_folds("fold_table", codes, folds, seed=seed, way=way):
        yield table[rest], table[held_out]


def _codes(where: str, table: Any, way: str | None, name: Any) -> np.ndarray:
    """Returns an integer for each row that identifies its class, group or time; 0 without one."""
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
