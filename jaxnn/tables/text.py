"""Tables in text files: the delimiter, the header, and the type of each column.

Types are read, never guessed from a part: a column is numbers, booleans or dates (`2026-11-28`,
with or without a time) if all of its values are, and text otherwise.
"""

import csv
import gzip
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxnn.checks import InvalidValue, choice
from jaxnn.typing import Any

DELIMITERS = (",", ";", "\t", "|")
_HEAD, _CHUNK, _ROWS = 1 << 16, 1 << 18, 10_000
_DECIMAL_COMMA = r"^\s*[+-]?\d+(,\d+)?\s*$"
_DATES = (
    (r"\d{4}-\d{2}-\d{2}", "Date", "%Y-%m-%d"),
    (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}", "Datetime", "%Y-%m-%d %H:%M"),
    (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+)?Z?", "Datetime", "%Y-%m-%d %H:%M:%S%.f"),
)


def read_text(
    polars: Any,
    path: Path,
    delimiter: str | None,
    header: bool,
    text: Sequence[str],
    missing: Sequence[str],
    encoding: str,
    dates: Mapping[str, str] | None,
) -> Any:
    """Returns the table of a text file, as `read_table` says."""
    lines = _first_lines(path, encoding)
    cut = _delimiter(path, lines) if delimiter is None else delimiter
    names = [name.strip() for name in next(csv.reader(lines, delimiter=cut))]
    if header:
        _check_header(path, names)
    else:
        names = [f"column_{number}" for number in range(1, len(names) + 1)]
    for name in (*text, *(dates or {})):
        choice("read_table", "a column of the file", name, names)
    strings = dict.fromkeys((*text, *(dates or {})), polars.String)
    options = {
        "separator": cut,
        "has_header": header,
        "new_columns": names,
        "null_values": list(missing),
        "encoding": "utf8" if encoding.lower() in ("utf-8", "utf8") else encoding,
    }
    try:
        try:
            table = polars.read_csv(
                path, infer_schema_length=_ROWS, schema_overrides=strings, **options
            )
        except polars.exceptions.ComputeError:  # a later row is of another type: read all as text
            table = polars.read_csv(path, infer_schema=False, **options)
    except (OSError, UnicodeError, LookupError, polars.exceptions.PolarsError) as error:
        raise _unreadable(path, error, encoding) from None
    table = table.rename(dict(zip(table.columns, names)))
    empty = table.select(polars.all_horizontal(polars.all().is_null())).to_series()
    if _blank_lines(path, cut, table, header, int(empty.sum()), encoding):
        table = table.filter(~empty)
    if not table.height:
        raise _unreadable(path, "no row below the header" if header else "no row", encoding)
    columns = [
        column if column.dtype != polars.String or column.name in text
        else typed(polars, column, dates or {}, decimal_comma=cut != ",")
        for column in table
    ]  # fmt: skip
    if delimiter is None:
        named = {"\t": "tab"}.get(cut, repr(cut))
        words = f"{path.name}: {table.height:,} rows of {len(names)} columns, delimiter {named}"
        print(words, file=sys.stderr)  # an answer of a command may go to the other stream
    return polars.DataFrame(columns)


def typed(polars: Any, column: Any, dates: Mapping[str, str], decimal_comma: bool = False) -> Any:
    """Returns a column of text as numbers, booleans or dates if all its values are such."""
    if column.dtype != polars.String:
        return column
    if column.name in dates:
        return _dated(polars, column, dates[column.name])
    values = column.drop_nulls()
    first = values.first().strip() if len(values) else ""
    # What the first value cannot be, the others need not be tried for.
    for kind, read in ((polars.Int64, int), (polars.Float64, float)):
        if _is(first, read):
            numbers = column.str.strip_chars().cast(kind, strict=False)
            if numbers.null_count() == column.null_count():
                return numbers
    if decimal_comma and _is(first.replace(",", "."), float):
        if values.str.contains(_DECIMAL_COMMA).all():
            plain = column.str.strip_chars().str.replace(",", ".", literal=True)
            return plain.cast(polars.Float64)
    if first.lower() in ("true", "false"):
        words = column.str.strip_chars().str.to_lowercase()
        if words.drop_nulls().is_in(["true", "false"]).all():
            return words == "true"
    for pattern, kind, form in _DATES:
        if re.fullmatch(pattern, first):
            plain = column.str.strip_chars().str.replace("T", " ", literal=True)
            plain = plain.str.strip_suffix("Z")
            read = plain.str.strptime(getattr(polars, kind), form, strict=False)
            if read.null_count() == column.null_count():
                return read
    return column


def _is(text: str, kind: Any) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _dated(polars: Any, column: Any, form: str) -> Any:
    kind = (
        polars.Datetime if any(part in form for part in ("%H", "%I", "%T", "%R")) else polars.Date
    )
    values = column.str.strptime(kind, form, strict=False)
    wrong = values.is_null() & column.is_not_null()
    if wrong.any():
        raise InvalidValue(
            "read_table",
            f"column {column.name!r} holds a value that is not a date of that format",
            got=f"{column.filter(wrong)[0]!r} with dates={{{column.name!r}: {form!r}}}",
            expected="dates as the format says",
            fix="Correct the format, or the values",
        )
    return values


def _first_lines(path: Path, encoding: str) -> list[str]:
    try:
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
        with opened as file:
            start = file.read(_HEAD)
        lines = start.decode(encoding.replace("utf8", "utf-8"), "ignore").lstrip("\ufeff")
    except (OSError, EOFError, LookupError) as error:
        raise _unreadable(path, error, encoding) from None
    whole = lines.splitlines()
    whole = [line for line in (whole[:-1] if len(start) == _HEAD else whole) if line.strip()]
    if not whole:
        raise _unreadable(path, "it is empty", encoding)
    return whole[:1000]


def _delimiter(path: Path, lines: list[str]) -> str:
    """Returns what cuts the lines into equally many fields, the most fields of all candidates."""
    counts = {}
    for cut in DELIMITERS:
        rows = [len(row) for row in csv.reader(lines, delimiter=cut) if row]
        # The first row decides, and a later one may be wrong: then it is refused by its number.
        same = sum(length == rows[0] for length in rows) / len(rows)
        counts[cut] = (same, rows[0]) if rows[0] > 1 else (0.0, 1)
    best = max(counts, key=lambda cut: (counts[cut][0] > 0.9, counts[cut][1] * counts[cut][0]))
    return best if counts[best][1] > 1 else ","


def _check_header(path: Path, names: list[str]) -> None:
    if all(_is(name, float) for name in names):
        raise InvalidValue(
            "read_table",
            f"the header of {path.name} is all numbers",
            got=", ".join(names[:6]) + (", ..." if len(names) > 6 else ""),
            expected="names of columns in the first line",
            fix="Read a file without a header by header=None, or add a line of names",
        )
    check_names(names)


def check_names(names: list[str]) -> None:
    """Raises `InvalidValue` unless every column has a name of its own."""
    if len(set(names)) < len(names) or "" in names:
        raise InvalidValue(
            "read_table",
            "columns do not have names of their own",
            got="columns " + ", ".join(map(repr, names)),
            expected="every column with a name, each name once",
            fix="Rename them, or read a file without a header by header=None",
        )


def _blank_lines(path: Path, cut: str, table: Any, header: bool, empty: int, encoding: str) -> bool:
    """Returns whether the empty rows are blank lines.

    Raises if a row has fewer fields than the others: polars would take them for missing.
    """
    between = table.width - 1
    if not between or path.suffix == ".gz" or "utf" not in encoding.lower() or "16" in encoding:
        return False
    lacking = (table.height + header) * between - _count(path, cut)
    if lacking % between == 0 and 0 <= lacking // between <= empty:
        return lacking // between == empty
    number, fields = 0, 0
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=cut)
        for row in reader:
            number, fields = reader.line_num, len(row)
            if row and fields != table.width:
                break
    raise InvalidValue(
        "read_table",
        f"row {number} of {path.name} has the wrong length",
        got=f"{fields} fields",
        expected=f"{table.width}, as in the first row",
        fix="Correct that row, or name the delimiter: delimiter=';'",
    )


def _count(path: Path, cut: str) -> int:
    """Returns how many delimiters a file has outside of quotes."""
    total, quoted = 0, np.uint8(0)
    with path.open("rb") as file:
        while len(chunk := np.frombuffer(file.read(_CHUNK), np.uint8)):
            here = chunk == ord(cut)
            if quoted or (chunk == ord('"')).any():
                inside = np.bitwise_xor.accumulate((chunk == ord('"')).view(np.uint8)) ^ quoted
                here &= inside == 0
                quoted = inside[-1]
            total += int(np.count_nonzero(here))
    return total


def _unreadable(path: Path, error: Any, encoding: str) -> InvalidValue:
    return InvalidValue(
        "read_table",
        f"{path.name} cannot be read",
        got=f"{path} ({(str(error).splitlines() or [''])[0]})",
        expected=f"a text file in {encoding} with a row in each line",
        fix="Correct the path or the file, or name its encoding: encoding='latin-1'",
    )
