"""Infers the type of a text column: numbers, booleans or dates if all of its values are, else text.

Ambiguous numbers are errors: `1,234` is 1.234 in Bonn and 1234 in Boston.
"""

import re
import warnings
from collections.abc import Mapping, Sequence

from jaxnn.checks import Caution, InvalidValue
from jaxnn.typing import Any

_DATES = (
    (r"\d{4}-\d{2}-\d{2}", "Date", "%Y-%m-%d"),
    (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}", "Datetime", "%Y-%m-%d %H:%M"),
    (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+)?Z?", "Datetime", "%Y-%m-%d %H:%M:%S%.f"),
)
_WHOLE = r"^[+-]?\d+$"
ZERO_FIRST = r"^\s*[+-]?0\d"  # 007 is an identifier, not a number
# Numbers with each decimal mark, optionally with the other mark between thousands.
_MARKED = {
    ".": r"^[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?([eE][+-]?\d+)?$",
    ",": r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?$",
}
_OTHER_DATES = r"\d{1,2}([./-])\d{1,2}\1\d{4}( \d{1,2}:\d{2}(:\d{2})?)?"  # 28/11/2026
_SAMPLE, _NEARLY = 1000, 0.9


def typed(
    polars: Any,
    column: Any,
    dates: Mapping[str, str],
    *,
    missing: Sequence[str] = (),
    decimal: str | None = None,
    comma: bool = False,
) -> Any:
    """Converts a text column to numbers, booleans or dates if all of its values allow it.

    Args:
      polars: the module.
      column: a column; columns that are not text are returned unchanged.
      dates: date formats by column name.
      missing: the words for missing values, which may be surrounded by spaces.
      decimal: the decimal mark; `None` to detect it.
      comma: whether a comma may be detected as the decimal mark.

    Raises:
      InvalidValue: if a date does not match its format, or the decimal mark is ambiguous.
    """
    if column.dtype != polars.String:
        return column
    if column.name in dates:
        return _dated(polars, column, dates[column.name])
    # The first value is tested alone, since most columns of text fail there.
    values = column.drop_nulls()
    first = next((word for word in map(str.strip, values) if word not in missing), "")
    if not (is_number(first) or re.match(r"[+-]?\d|(true|false)$", first, re.IGNORECASE)):
        _caution_of_nearly_numbers(polars, values)
        return column
    plain = _plain(polars, column, missing)
    values = plain.drop_nulls()
    numbers = _numbers(polars, plain, values, first, decimal, comma)
    if numbers is not None:
        return numbers
    if first.lower() in ("true", "false"):
        words = plain.str.to_lowercase()
        if words.drop_nulls().is_in(["true", "false"]).all():
            return words == "true"
    for pattern, kind, form in _DATES:
        if re.fullmatch(pattern, first):
            stamps = plain
            if kind == "Datetime":
                stamps = plain.str.replace("T", " ", literal=True).str.strip_suffix("Z")
            read = stamps.str.strptime(getattr(polars, kind), form, strict=False)
            if read.null_count() == plain.null_count():
                return read
    if re.fullmatch(_OTHER_DATES, first):
        _caution_of_dates(polars, values, first)
    _caution_of_nearly_numbers(polars, values)
    return column


def _plain(polars: Any, column: Any, missing: Sequence[str]) -> Any:
    """Returns a column of text without surrounding spaces, in which missing values are null."""
    words = column.str.strip_chars().alias(column.name)
    return polars.select(polars.when(~words.is_in([*missing])).then(words)).to_series()


def _numbers(
    polars: Any, plain: Any, values: Any, first: str, decimal: str | None, comma: bool
) -> Any:
    """Returns the column as numbers, or `None` if some values are not numbers."""
    if decimal != ",":
        for kind, read in ((polars.Int64, int), (polars.Float64, float)):
            if _is(first, read):
                numbers = plain.cast(kind, strict=False)
                if numbers.null_count() == plain.null_count():
                    # Integers of more than 64 bits are identifiers.
                    too_long = kind == polars.Float64 and values.str.contains(_WHOLE).all()
                    names = too_long or values.str.contains(ZERO_FIRST).any()
                    return None if names else numbers
    if not re.fullmatch(r"[+-]?\d[\d.,]*([eE][+-]?\d+)?", first):
        return None
    marks = [decimal] if decimal else [".", ","] if comma else ["."]
    marks = [mark for mark in marks if values.str.contains(_MARKED[mark]).all()]
    if not marks or values.str.contains(rf"{ZERO_FIRST}\d*$").any():
        return None
    if decimal is None and values.str.contains(_MARKED[","]).all() and "." in marks:
        raise _two_readings(plain.name, values.filter(values.str.contains("[.,]"))[0])
    [mark] = marks
    bare = plain.str.replace_all("," if mark == "." else ".", "", literal=True)
    whole = not values.str.contains(f"[{mark}eE]").any()
    numbers = bare.str.replace(mark, ".", literal=True)
    numbers = numbers.cast(polars.Int64 if whole else polars.Float64, strict=False)
    return numbers if numbers.null_count() == plain.null_count() else None


def _is(text: str, kind: Any) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def is_number(text: str) -> bool:
    """Returns whether a text is a number."""
    return _is(text, float)


def _two_readings(name: str, value: str) -> InvalidValue:
    return InvalidValue(
        "read_table",
        f"the decimal mark in column {name!r} is ambiguous",
        got=f"{value!r}, and no other value resolves it",
        expected="numbers such as 1234 or 1234.5, or a given decimal mark",
        fix=f"Pass decimal='.' or decimal=','; or text=[{name!r}] if they are identifiers",
    )


def decimal_mark(polars: Any, before: Any, after: Any, missing: Sequence[str]) -> str | None:
    """Returns `","` if columns have decimal commas, and `None` otherwise.

    Args:
      polars: the module.
      before: the table as read by polars.
      after: the table with the types of `typed`.
      missing: the words for missing values.

    Raises:
      InvalidValue: if some columns have decimal commas, and others decimal points.
    """

    def written(mark: str, other: str) -> list[str]:
        texts = [x for x in before if x.dtype == polars.String and after[x.name].dtype.is_numeric()]
        plain = [_plain(polars, x, missing).drop_nulls() for x in texts]
        fits, misfits = _MARKED[mark], _MARKED[other]
        return [x.name for x in plain
                if x.str.contains(fits).all() and not x.str.contains(misfits).all()]  # fmt: skip

    commas = written(",", ".")
    points = [x.name for x in before if x.dtype.is_float()] + written(".", ",")
    if commas and points:
        comma, point = (before[name].drop_nulls()[0] for name in (commas[0], points[0]))
        raise InvalidValue(
            "read_table",
            f"column {commas[0]!r} has decimal commas, and column {points[0]!r} decimal points",
            got=f"such as {comma} and {point}",
            expected="the same decimal mark in all columns",
            fix=f"Pass decimal=','; or text=[{points[0]!r}] if those are not numbers",
        )
    return "," if commas else None


def _dated(polars: Any, column: Any, form: str) -> Any:
    times = any(part in form for part in ("%H", "%I", "%T", "%R"))
    values = column.str.strptime(polars.Datetime if times else polars.Date, form, strict=False)
    wrong = values.is_null() & column.is_not_null()
    if wrong.any():
        raise InvalidValue(
            "read_table",
            f"a value in column {column.name!r} does not match the date format",
            got=f"{column.filter(wrong)[0]!r} with dates={{{column.name!r}: {form!r}}}",
            expected="dates in that format",
            fix="Correct the format, or the values",
        )
    return values


def _caution_of_dates(polars: Any, values: Any, first: str) -> None:
    """Warns of a column of dates that is read as text, since the order of day and month varies."""
    mark = first.lstrip("0123456789")[0]
    day = first.split(" ")
    clock = {0: "", 1: " %H:%M", 2: " %H:%M:%S"}[day[1].count(":") if len(day) > 1 else 0]
    forms = [mark.join(order) + clock for order in (("%d", "%m", "%Y"), ("%m", "%d", "%Y"))]
    kind = polars.Datetime if clock else polars.Date
    fitting = [f for f in forms if not values.str.strptime(kind, f, strict=False).null_count()]
    if fitting:
        options = " or ".join(f"dates={{{values.name!r}: {form!r}}}" for form in fitting)
        text = f"read_table: column {values.name!r} is text such as {first!r}; for dates, {options}"
        warnings.warn(text, Caution, stacklevel=2)


def _caution_of_nearly_numbers(polars: Any, values: Any) -> None:
    """Warns of a column that is read as text only because of a few values."""

    def share(some: Any) -> Any:
        return some.str.strip_chars().cast(polars.Float64, strict=False).is_not_null()

    if not len(values) or share(values.head(_SAMPLE)).mean() < _NEARLY:
        return
    numeric = share(values)
    others = values.filter(~numeric).str.strip_chars()
    if len(others) and numeric.mean() >= _NEARLY:
        names = others.unique(maintain_order=True).to_list()
        shown = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        text = (
            f"read_table: column {values.name!r} is text, because of {len(others):,} of"
            f" {len(values):,} values: {shown}. If they represent missing numbers, pass"
            f" missing=['', 'NA', {names[0]!r}]; if text is intended, text=[{values.name!r}]"
        )
        warnings.warn(text, Caution, stacklevel=2)
