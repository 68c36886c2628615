"""Detects input columns that are probably mistakes: row numbers, and copies of the label."""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxnn.tables.categories import Category
from jaxnn.tables.kinds import Ignored, Real, numbers
from jaxnn.typing import Any

_ROWS = 10_000  # the number of rows used to compare two columns
_LEAST = 20  # the minimum number of rows


def doubts(table: Any, inputs: Sequence[Any], labels: Sequence[Any]) -> Iterator[str]:
    """Yields a warning for each input column that is probably a mistake.

    Args:
      table: the training rows.
      inputs: the encodings of the input columns.
      labels: the encodings of the labels.
    """
    if table.height < _LEAST:
        return
    few = table.head(_ROWS)
    for column in inputs:
        if isinstance(column, Ignored):
            continue
        name = column.name
        leave = f"ignore it: ignore=[{name!r}]"
        if isinstance(column, Real) and _is_key(table[name]):
            yield f"column {name!r} looks like a row number or key; if it is one, {leave}"
        for label in labels:
            if _determines(few, column, label):
                yield (
                    f"column {name!r} determines the label {label.name!r}; if it is unknown when"
                    f" you predict, {leave}"
                )


def _is_key(column: Any) -> bool:
    """Returns whether a column contains distinct, nearly consecutive integers."""
    if not column.dtype.is_integer() or column.null_count():
        return False
    values = column.max() - column.min() + 1
    return len(column) <= values <= 3 * len(column) and column.n_unique() == len(column)


def _determines(few: Any, column: Any, label: Any) -> bool:
    """Returns whether a column is the label with other names, or in another unit."""
    if isinstance(column, Category) and isinstance(label, Category):
        count = len(label.values)
        if not count == len(column.values) > 1:
            return False
        pairs = few.select(a=column.name, b=label.name).unique()
        return pairs.height == count and pairs["a"].n_unique() == pairs["b"].n_unique() == count
    if isinstance(column, Real) and isinstance(label, Real):
        a, b = (numbers(few[each.name]) for each in (column, label))
        both = np.isfinite(a) & np.isfinite(b)
        a, b = a[both], b[both]
        if len(a) < _LEAST or not a.std() or not b.std():
            return False
        return bool(abs(np.corrcoef(a, b)[0, 1]) > 1 - 1e-9)
    return False
