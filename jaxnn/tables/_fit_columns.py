"""Fitting: from a table, its training part alone, to the encoding of its columns."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

from jaxnn.checks import Caution, InvalidType, InvalidValue, choice
from jaxnn.reading._read_table import import_polars, read_table
from jaxnn.reading.options import Reading, reading_of
from jaxnn.tables._columns import Columns
from jaxnn.tables.categories import Category
from jaxnn.tables.doubts import doubts
from jaxnn.tables.kinds import OF_TIMES, PARTS, Date, Ignored, Real, as_dates
from jaxnn.typing import Any

_DATES = ("time", "time_of_year", "weekday", "time_of_day")
_CLASSES = 20  # of more whole numbers, a label is an amount
_TASKS = ("classification", "regression", "multi_label")


def fit_columns(
    train: Any,
    *,
    labels: str | Sequence[str] | None = None,
    weights: str | None = None,
    task: str | None = None,
    kinds: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    one_hot: bool = False,
    dates: Sequence[str] | Mapping[str, Sequence[str]] = _DATES,
    fill: str = "mean",
    reading: Mapping[str, Any] | None = None,
) -> Columns:
    """Returns how the columns of a table are encoded, fitted on its training part.

    Numbers are standardized, text and booleans are categories, dates become numbers. A column of
    text with mostly different values, or with none, is left out; the table of the columns says so.

    Args:
      train: the rows that are trained on, whatever `read_table` reads.
      labels: the column to predict, or several.
      weights: a column with the weight of each row, 0 or more.
      task: `"classification"`, `"regression"` or `"multi_label"`. By default text, booleans and at
        most 20 different whole numbers, or 0 and 1 however they are stored, are classes, other
        numbers a regression, and several columns of booleans, or of 0 and 1, marks.
      kinds: `"number"`, `"category"`, `"one_hot"` or `"date"` for columns by name, where the type
        of the column says otherwise: `{"postal_code": "category"}`.
      ignore: columns to leave out.
      one_hot: whether categories become columns of 0 and 1, so that inputs are one array.
      dates: what becomes of dates, for all columns or by name: some of `"time"` (seconds),
        `"year"`, `"month"`, `"day"`, `"weekday"`, `"day_of_year"`, `"hour"`, `"minute"`, and
        `"time_of_day"`, `"time_of_week"`, `"time_of_year"`, each a sine and a cosine, for which
        midnight is beside midnight. Days have no hours: what is of times alone is left out.
      fill: what stands for a missing number, `"mean"` or `"median"`.
      reading: options of `read_table` for files that are encoded later, in this process or by
        `python -m jaxnn predict`; by default those of the last file that was read with these
        columns.

    Warns with a `Caution` of a column that numbers the rows, or tells the label.

    Raises:
      InvalidValue: if a name or an option is unknown, there is nothing to read, labels are missing,
        have a single class or one for most rows, or whole numbers are too large for float32.
      InvalidType: if a column cannot be what it should be.
    """
    table = read_table(train)
    targets = [labels] if isinstance(labels, str) else list(labels or ())
    ignore = [ignore] if isinstance(ignore, str) else list(ignore)
    kinds = dict(kinds or {})
    for name in (*targets, *kinds, *ignore, *([weights] if weights else [])):
        choice("fit_columns", "a column", name, table.columns)
    for kind in kinds.values():
        choice("fit_columns", "a kind", kind, ("number", "category", "one_hot", "date"))
    _check_targets(targets, kinds)
    choice("fit_columns", "fill", fill, ("mean", "median"))
    parts = {name: _parts(dates, name) for name in table.columns}
    inputs = []
    for column in table:
        if column.name in (*targets, weights):
            continue
        kind = "ignore" if column.name in ignore else kinds.get(column.name)
        inputs.append(_input(column, kind, one_hot, parts[column.name], fill))
    if all(isinstance(column, Ignored) for column in inputs):
        raise InvalidValue(
            "fit_columns",
            "no column is left to read",
            got=f"columns {', '.join(table.columns)}",
            expected="one at least beside labels and weights",
            fix="Shorten ignore=, or say what a column is: kinds={'name': 'category'}",
        )
    task = _task(table, targets, task)
    fitted = tuple(_label(table[name], str(task), fill) for name in targets)
    used = [c.name for c in (*inputs, *fitted) if not isinstance(c, Ignored)]
    known = reading_of(used) if reading is None else Reading.of(**reading)
    columns = Columns(tuple(inputs), fitted, task, weights, table.height, known)
    if weights:
        columns._weights(table)
    if targets:
        columns._labels(table)
    for doubt in doubts(table, inputs, fitted):
        warnings.warn(f"fit_columns: {doubt}", Caution, stacklevel=2)
    return columns


def _check_targets(targets: Sequence[str], kinds: Mapping[str, str]) -> None:
    twice = [name for name in targets if targets.count(name) > 1]
    if twice or set(targets) & set(kinds):
        raise InvalidValue(
            "fit_columns",
            "a label is named twice" if twice else "the kind of a label follows from the task",
            got=f"labels={targets!r}" + (f" and kinds={dict(kinds)!r}" if not twice else ""),
            expected="each label once, and kinds of other columns",
            fix="Leave it out" if twice else "Pass task='classification' or task='regression'",
        )


def _input(column: Any, kind: str | None, one_hot: bool, parts: tuple[str, ...], fill: str) -> Any:
    polars = import_polars("fit_columns")
    missing = column.null_count()
    if kind == "ignore":
        return Ignored(column.name, "as asked", missing)
    if missing == len(column):
        return Ignored(column.name, "there is no value", missing)
    if kind is None:
        if column.dtype.is_numeric() or column.dtype == polars.Duration:
            kind = "number"
        elif column.dtype in (polars.Date, polars.Datetime):
            kind = "date"
        else:
            kind = "category"
            different = column.n_unique() if column.dtype == polars.String else 0
            if different > 50 and different > (len(column) - missing) / 2:
                reason = f"{different:,} different texts in {len(column):,} rows"
                return Ignored(column.name, reason, missing)
    if kind == "number":
        return Real.fit(column, fill)
    if kind == "date":
        if not column.dtype.is_temporal():
            column = as_dates(column)
        if column.dtype == polars.Date:
            parts = tuple(part for part in parts if part not in OF_TIMES)
        if not parts:
            return Ignored(column.name, "days have no hours", missing)
        return Date.fit(column, parts, fill)
    return Category.fit(column, one_hot or kind == "one_hot")


def _label(column: Any, task: str, fill: str) -> Any:
    if task == "regression":
        return Real.fit(column, fill)
    if _is_whole(column):  # 1.0 is how pandas stores 1 beside a missing value
        column = column.cast(int)
    label = Category.fit(column)
    rows = len(column) - column.null_count()
    if task == "classification" and len(label.values) > max(50, rows / 2):
        raise InvalidValue(
            "fit_columns",
            f"the labels in column {column.name!r} are different in most rows",
            got=f"{len(label.values):,} classes in {rows:,} rows",
            expected="several rows of each class",
            fix="Predict another column, or task='regression' if they are numbers",
        )
    if task == "classification" and len(label.values) < 2:
        raise InvalidValue(
            "fit_columns",
            f"the labels in column {column.name!r} are all the same",
            got=f"the class {', '.join(label.labels)} alone",
            expected="two classes at least",
            fix="Split the table with stratify=, or predict another column",
        )
    if task == "multi_label":
        pair = (False, True) if label.dtype == "boolean" else (0, 1)
        if not set(label.values) <= {*pair, None}:
            raise InvalidValue(
                "fit_columns",
                f"column {column.name!r} does not hold marks",
                got=f"the values {', '.join(label.labels[:5])}",
                expected="true and false, or 1 and 0",
                fix=f"Make it booleans: table[{column.name!r}] == {label.labels[-1]!r}",
            )
        counts = dict(zip(label.values, label.counts))
        label = replace(label, values=pair, counts=tuple(counts.get(each, 0) for each in pair))
    return label


def _task(table: Any, targets: Sequence[str], task: str | None) -> str | None:
    if task is not None:
        choice("fit_columns", "task", task, _TASKS)
    if not targets:
        return None
    if task is not None:
        return task
    marks = [_is_mark(table[name]) for name in targets]
    if len(targets) > 1:
        if all(marks):
            return "multi_label"
        if all(table[name].dtype.is_numeric() for name in targets):
            return "regression"
        raise InvalidType(
            "fit_columns",
            "the columns of labels do not fit together",
            got=", ".join(f"{name} of {table[name].dtype}" for name in targets),
            expected="several columns of booleans, or of numbers",
            fix="Predict one column, or make a column of booleans of each class",
        )
    column = table[targets[0]]
    if column.dtype.is_temporal():
        raise InvalidType(
            "fit_columns",
            "dates cannot be predicted as they are",
            got=f"labels={column.name!r} of {column.dtype}",
            expected="a column of numbers, text or booleans",
            fix=f"Make it a number, such as days: (table[{column.name!r}] - start).dt.total_days()",
        )
    if not column.dtype.is_numeric() or marks[0]:
        return "classification"
    few = _is_whole(column) and column.n_unique() <= _CLASSES
    if few and column.dtype.is_float() and 10 * column.n_unique() <= len(column):
        text = (
            f"fit_columns: the labels in column {column.name!r} are {column.n_unique()} whole"
            " numbers, and taken as amounts; if they are classes, task='classification'"
        )
        warnings.warn(text, Caution, stacklevel=3)
    return "classification" if few and column.dtype.is_integer() else "regression"


def _is_whole(column: Any) -> bool:
    """Returns whether a column holds whole numbers alone, however they are stored."""
    if not column.dtype.is_float():
        return column.dtype.is_integer()
    return bool((column == column.round()).all()) and not column.is_infinite().any()


def _is_mark(column: Any) -> bool:
    if not column.dtype.is_numeric():
        return str(column.dtype) == "Boolean"
    return bool(((column == 0) | (column == 1)).all())


def _parts(dates: Any, name: str) -> tuple[str, ...]:
    parts = dates.get(name, _DATES) if isinstance(dates, Mapping) else dates
    parts = (parts,) if isinstance(parts, str) else tuple(parts)
    for part in parts:
        choice("fit_columns", "a part of a date", part, PARTS)
    return parts
