"""Fits the encoding of the columns of a table on its training rows."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

from jaxnn.checks import Caution, InvalidType, InvalidValue, choice
from jaxnn.reading._read_table import import_polars, read_table
from jaxnn.reading.options import Reading, reading_of
from jaxnn.tables._columns import Columns, check_labels
from jaxnn.tables.categories import Category
from jaxnn.tables.doubts import doubts
from jaxnn.tables.kinds import OF_TIMES, PARTS, Date, Ignored, Real, as_dates
from jaxnn.typing import Any

_DATES = ("time", "time_of_year", "weekday", "time_of_day")
_CLASSES = 20  # integer labels with more distinct values are regression targets
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
    """Fits the encoding of the columns of a table on its training rows.

    Numbers are standardized, text and booleans become categories, and dates become numbers. Columns
    of text with mostly distinct values, and empty columns, are ignored; printing the result shows
    the reason. Issues a `Caution` for a column that looks like a row number, or that determines the
    label.

    Args:
      train: the training rows, a source that `read_table` accepts.
      labels: the name of the column to predict, or several names.
      weights: the name of a column with the weight of each row, at least 0.
      task: `"classification"`, `"regression"` or `"multi_label"`. By default, a column of text,
        booleans, 0 and 1, or at most 20 distinct integers is a classification; other numbers are a
        regression; and several columns of booleans, or of 0 and 1, are a multi-label task.
      kinds: the kinds of columns whose type suggests another one, by name: `"number"`,
        `"category"`, `"one_hot"` or `"date"`, as in `{"postal_code": "category"}`.
      ignore: the columns to ignore.
      one_hot: whether to encode categories one-hot instead of embedding them, so that the inputs
        are one array.
      dates: the parts of dates to encode, for all columns or by name: `"time"` (seconds), `"year"`,
        `"month"`, `"day"`, `"weekday"`, `"day_of_year"`, `"hour"` and `"minute"`, and the cyclic
        `"time_of_day"`, `"time_of_week"` and `"time_of_year"`, each a sine and a cosine. Columns of
        dates without times ignore `"hour"`, `"minute"` and `"time_of_day"`.
      fill: the replacement of missing numbers, `"mean"` or `"median"`.
      reading: the `read_table` options for files that are encoded later, in this process or by
        `python -m jaxnn predict`. By default these are the options of the last file that was read
        with these columns.

    Returns:
      The fitted `Columns`.

    Raises:
      InvalidValue: if a name or an option is unknown, no input column remains, labels are missing,
        have a single class or mostly distinct classes, or integers are too large for float32.
      InvalidType: if a column cannot be converted to its kind.
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
            "no input column remains",
            got=f"columns {', '.join(table.columns)}",
            expected="at least one column in addition to labels and weights",
            fix="Shorten ignore=, or pass the kind of a column: kinds={'name': 'category'}",
        )
    task = _task(table, targets, task)
    check_labels(table, targets)
    fitted = tuple(_label(table[name], str(task), fill) for name in targets)
    used = [c.name for c in (*inputs, *fitted) if not isinstance(c, Ignored)]
    known = reading_of(used) if reading is None else Reading.of(**reading)
    columns = Columns(tuple(inputs), fitted, task, weights, table.height, known)
    if weights:
        columns._weights(table)
    for doubt in doubts(table, inputs, fitted):
        warnings.warn(f"fit_columns: {doubt}", Caution, stacklevel=2)
    return columns


def _check_targets(targets: Sequence[str], kinds: Mapping[str, str]) -> None:
    twice = [name for name in targets if targets.count(name) > 1]
    if twice or set(targets) & set(kinds):
        raise InvalidValue(
            "fit_columns",
            "a label is repeated" if twice else "the kind of a label is determined by the task",
            got=f"labels={targets!r}" + (f" and kinds={dict(kinds)!r}" if not twice else ""),
            expected="distinct labels, and kinds of input columns only",
            fix="Leave it out" if twice else "Pass task='classification' or task='regression'",
        )


def _input(column: Any, kind: str | None, one_hot: bool, parts: tuple[str, ...], fill: str) -> Any:
    polars = import_polars("fit_columns")
    missing = column.null_count()
    if kind == "ignore":
        return Ignored(column.name, "requested", missing)
    if missing == len(column):
        return Ignored(column.name, "no values", missing)
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
        column = as_dates(column)
        if column.dtype == polars.Date:
            parts = tuple(part for part in parts if part not in OF_TIMES)
        if not parts:
            return Ignored(column.name, "dates without times have no such parts", missing)
        return Date.fit(column, parts, fill)
    return Category.fit(column, one_hot or kind == "one_hot")


def _label(column: Any, task: str, fill: str) -> Any:
    if task == "regression":
        return Real.fit(column, fill)
    # pandas stores integers as floats if a value is missing.
    if column.dtype.is_float() and _is_whole(column):
        column = column.cast(int)
    label = Category.fit(column)
    rows = len(column) - column.null_count()
    if task == "classification" and len(label.values) > max(50, rows / 2):
        raise InvalidValue(
            "fit_columns",
            f"the labels in column {column.name!r} are mostly distinct",
            got=f"{len(label.values):,} classes in {rows:,} rows",
            expected="several rows for each class",
            fix="Predict another column, or pass task='regression' if they are numbers",
        )
    if task == "classification" and len(label.values) < 2:
        raise InvalidValue(
            "fit_columns",
            f"the labels in column {column.name!r} are all the same",
            got=f"only the class {', '.join(label.labels)}",
            expected="at least two classes",
            fix="Split the table with stratify=, or predict another column",
        )
    if task == "multi_label":
        pair = (False, True) if label.dtype == "boolean" else (0, 1)
        if not set(label.values) <= {*pair, None}:
            raise InvalidValue(
                "fit_columns",
                f"column {column.name!r} is not boolean",
                got=f"the values {', '.join(label.labels[:5])}",
                expected="true and false, or 1 and 0",
                fix=f"Convert it to booleans: table[{column.name!r}] == {label.labels[-1]!r}",
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
            "the label columns have different types",
            got=", ".join(f"{name} of {table[name].dtype}" for name in targets),
            expected="several columns of booleans, or of numbers",
            fix="Predict one column, or convert each class to a column of booleans",
        )
    column = table[targets[0]]
    if column.dtype.is_temporal():
        raise InvalidType(
            "fit_columns",
            "dates cannot be predicted directly",
            got=f"labels={column.name!r} of {column.dtype}",
            expected="a column of numbers, text or booleans",
            fix=f"Convert it to numbers, such as days: (table[{column.name!r}] -"
            " start).dt.total_days()",
        )
    if not column.dtype.is_numeric() or marks[0]:
        return "classification"
    few = _is_whole(column) and column.n_unique() <= _CLASSES
    if few and column.dtype.is_float() and 10 * column.n_unique() <= len(column):
        text = (
            f"fit_columns: the labels in column {column.name!r} are {column.n_unique()} distinct"
            " integers, stored as floats, and the task is a regression; if they are classes, pass"
            " task='classification'"
        )
        warnings.warn(text, Caution, stacklevel=3)
    return "classification" if few and column.dtype.is_integer() else "regression"


def _is_whole(column: Any) -> bool:
    """Returns whether all values of a column are integers, even if stored as floats."""
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
