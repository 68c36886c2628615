"""What is seldom meant in a table: keys among the inputs, and the label under another name."""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxnn.tables.categories import Category
from jaxnn.tables.kinds import Ignored, Real, numbers
from jaxnn.typing import Any

_ROWS = 10_000  # are enough to compare two columns
_LEAST = 20  # of fewer rows, nothing follows


def doubts(table: Any, inputs: Sequence[Any], labels: Sequence[Any]) -> Iterator[str]:
    """Yields a sentence for each column of the inputs that is probably not meant.

    Args:
      table: the training rows.
      inputs: how its columns are encoded.
      labels: how the labels are.
    """
    if table.height < _LEAST:
        return
    few = table.head(_ROWS)
    for column in inputs:
        if isinstance(column, Ignored):
            continue
        name = column.name
        leave = f"leave it out: ignore=[{name!r}]"
        if isinstance(column, Real) and _is_key(table[name]):
            yield f"column {name!r} numbers the rows, as a key does; if it is one, {leave}"
        for label in labels:
            if _tells(few, column, label):
                yield (
                    f"column {name!r} tells the label {label.name!r}, which new rows do not have;"
                    f" if they do not have it either, {leave}"
                )


def _is_key(column: Any) -> bool:
    """Returns whether the rows are numbered by a column, with gaps of rows that are held out."""
    if not column.dtype.is_integer() or column.null_count():
        return False
    values = column.max() - column.min() + 1
    return len(column) <= values <= 3 * len(column) and column.n_unique() == len(column)


def _tells(few: Any, column: Any, label: Any) -> bool:
    """Returns whether a column is the label in other words or another unit."""
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
