"""Reads tables from text files: detects the delimiter, and checks the header and all rows.

Types depend on all values, not on a sample: a column contains numbers, booleans or dates
(`2026-11-28`, with or without a time) if all of its values do, and text otherwise.
"""

import codecs
import csv
import gzip
import io
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxnn.checks import InvalidValue, choice
from jaxnn.reading.dtypes import ZERO_FIRST, decimal_mark, is_number, typed
from jaxnn.reading.options import Reading
from jaxnn.typing import Any

DELIMITERS = (",", ";", "\t", "|")
_HEAD, _CHUNK, _ROWS = 1 << 16, 1 << 18, 10_000


def read_text(polars: Any, path: Path, reading: Reading) -> tuple[Any, Reading]:
    """Reads a text file; returns the table, and the options with what was detected.

    Raises:
      InvalidValue: if the file cannot be read with these options.
    """
    content = _content(path, reading)
    lines = _first_lines(path, content, reading)
    cut = _delimiter(lines) if reading.delimiter is None else reading.delimiter
    names = [name.strip() for name in next(csv.reader(lines, delimiter=cut))]
    if reading.header:
        names = [names[0] or "column_1", *names[1:]]  # pandas writes an index without a name
        _check_header(path, names)
    else:
        numbered = [f"column_{number}" for number in range(1, len(names) + 1)]
        names = list(reading.names) or numbered
    dates = dict(reading.dates)
    for name in (*reading.text, *dates):
        choice("read_table", "a column of the file", name, names)
    options = {"separator": cut, "has_header": reading.header, "new_columns": names}
    strings = dict.fromkeys((*reading.text, *dates), polars.String)
    inferred = {"infer_schema_length": _ROWS, "schema_overrides": strings}
    if reading.decimal == ",":  # polars would take 1.234 for a number below 2
        inferred = {"infer_schema": False}
    scan = ThreadPoolExecutor(1).submit(_scan, content, cut)  # while polars reads
    try:
        table = _read_without_words(polars, content, reading, {**inferred, **options})
        options["null_values"] = list(reading.missing)
        try:
            table = polars.read_csv(content, **inferred, **options) if table is None else table
        except polars.exceptions.ComputeError:  # a later row is of another type: read all as text
            table = polars.read_csv(content, infer_schema=False, **options)
    except (OSError, UnicodeError, polars.exceptions.PolarsError) as error:
        _check_lengths(path, content, cut, len(names))
        raise _unreadable(path, error, reading) from None
    table = table.rename(dict(zip(table.columns, names)))
    empty = table.select(polars.all_horizontal(polars.all().is_null())).to_series()
    delimiters, padded = scan.result()
    if padded:
        table = _with_names(polars, content, table, options)
    if _blank_lines(path, content, cut, table, reading, delimiters, int(empty.sum())):
        table = table.filter(~empty)
    if not table.height:
        raise _empty(path, "no row below the header")
    marks = {"missing": reading.missing, "decimal": reading.decimal, "comma": cut != ","}
    columns = [
        column if column.name in reading.text else typed(polars, column, dates, **marks)
        for column in table
    ]
    whole = polars.DataFrame(columns)
    if reading.decimal is None and cut != ",":
        # A later file may have no decimals, and its 1.234 is 1234 as well.
        mark = decimal_mark(polars, table, whole, reading.missing)
        reading = replace(reading, decimal=mark)
    if reading.delimiter is None:
        named = {"\t": "tab"}.get(cut, repr(cut))
        words = f"{path.name}: {table.height:,} rows of {len(names)} columns, delimiter {named}"
        print(words, file=sys.stderr)  # commands write their results to stdout
    return whole, replace(reading, delimiter=cut, names=tuple(names))


def _read_without_words(polars: Any, content: bytes, reading: Reading, options: Any) -> Any:
    """Returns the table, read without looking for words that stand for missing values in numbers.

    That takes a quarter less time; `None` where they have to be looked for.
    """
    if any(is_number(word) and word not in ("NaN", "nan") for word in reading.missing):
        return None
    try:
        table = polars.read_csv(content, **options)
    except polars.exceptions.ComputeError:
        return None
    if any(column.is_nan().any() for column in table if column.dtype.is_float()):
        return None  # it may be a column of whole numbers
    texts = polars.selectors.string()
    return table.with_columns(polars.when(~texts.is_in(reading.missing)).then(texts))


def first_fields(path: Path, reading: Reading) -> dict[str, list[str]]:
    """Returns the fields of the first line for the delimiter of `reading` and the detected one."""
    lines = _first_lines(path, _content(path, reading), reading)
    cuts = [reading.delimiter] if reading.delimiter else []
    fields = {cut: next(csv.reader(lines, delimiter=cut)) for cut in (*cuts, _delimiter(lines))}
    return {cut: [name.strip() for name in each] for cut, each in fields.items()}


def _content(path: Path, reading: Reading) -> bytes:
    """Returns the content of a file as UTF-8; polars would keep its own copy of an open file."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            content = file.read()
        return content if reading.is_utf_8 else content.decode(reading.encoding).encode()
    except (OSError, EOFError, UnicodeError, LookupError) as error:
        raise _unreadable(path, error, reading) from None


def _first_lines(path: Path, content: bytes, reading: Reading) -> list[str]:
    start = content[:_HEAD]
    try:
        if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise _unreadable(path, "its first bytes are those of UTF-16", reading, "utf-16")
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)  # may end in a character
    except UnicodeError as error:
        raise _unreadable(path, error, reading) from None
    whole = text.splitlines(keepends=True)
    whole = [line for line in (whole[:-1] if len(start) == _HEAD else whole) if line.strip()]
    if not whole:
        raise _empty(path, "no line with text")
    return whole[:1000]


def _delimiter(lines: list[str]) -> str:
    """Returns the delimiter that splits the lines into the most fields, consistently."""
    counts = {}
    for cut in DELIMITERS:
        rows = [len(row) for row in csv.reader(lines, delimiter=cut) if row]
        # A few rows may differ from the first; reading them raises an error with their number.
        same = sum(length == rows[0] for length in rows) / len(rows)
        counts[cut] = (same, rows[0]) if rows[0] > 1 else (0.0, 1)
    best = max(counts, key=lambda cut: (counts[cut][0] > 0.9, counts[cut][1] * counts[cut][0]))
    return best if counts[best][1] > 1 else ","


def _check_header(path: Path, names: list[str]) -> None:
    if all(map(is_number, names)):
        raise InvalidValue(
            "read_table",
            f"the header of {path.name} consists of numbers",
            got=", ".join(names[:6]) + (", ..." if len(names) > 6 else ""),
            expected="column names in the first line",
            fix="Pass header=None if the file has no header, or add one",
        )
    check_names(names)


def check_names(names: list[str]) -> None:
    """Raises `InvalidValue` unless all columns have distinct names."""
    if len(set(names)) < len(names) or "" in names:
        raise InvalidValue(
            "read_table",
            "column names are missing or repeated",
            got="columns " + ", ".join(map(repr, names)),
            expected="a distinct name for every column",
            fix="Rename them, or pass header=None if the file has no header",
        )


def _with_names(polars: Any, content: bytes, table: Any, options: Any) -> Any:
    """Converts integer columns back to text if some values have leading zeros, such as 007."""
    places = [i for i, dtype in enumerate(table.dtypes) if dtype.is_integer()]
    if not places:
        return table
    names = [table.columns[i] for i in places]
    options = {name: option for name, option in options.items() if name != "new_columns"}
    texts = polars.read_csv(content, columns=places, infer_schema=False, **options)
    texts.columns = names
    return table.with_columns(x for x in texts if x.str.contains(ZERO_FIRST).any())


def _blank_lines(
    path: Path,
    content: bytes,
    cut: str,
    table: Any,
    reading: Reading,
    delimiters: int,
    empty: int,
) -> bool:
    """Returns whether the empty rows are blank lines.

    Raises `InvalidValue` if a row has too few fields, which polars reads as missing values.
    """
    between = table.width - 1
    if not between:
        return False
    lacking = (table.height + reading.header) * between - delimiters
    if lacking % between == 0 and 0 <= lacking // between <= empty:
        if lacking and lacking // between != len(re.findall(rb"\n(?=\r?\n)", content)):
            _check_lengths(path, content, cut, table.width)  # slow: there may be short rows
        return lacking // between == empty
    _check_lengths(path, content, cut, table.width)
    raise _unreadable(path, "its rows differ in length", reading)


def _check_lengths(path: Path, content: bytes, cut: str, width: int) -> None:
    """Raises `InvalidValue` if the number of fields in a row differs from the first row."""
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", "replace", "")
    reader = csv.reader(lines, delimiter=cut)
    wrong = ((reader.line_num, len(row)) for row in reader if row and len(row) != width)
    number, fields = next(wrong, (0, 0))
    if number:
        raise InvalidValue(
            "read_table",
            f"row {number} of {path.name} has the wrong length",
            got=f"{fields} fields",
            expected=f"{width}, as in the first row",
            fix="Correct that row, or pass the delimiter: delimiter=';'",
        )


def _scan(content: bytes, cut: str) -> tuple[int, bool]:
    """Counts delimiters outside of quotes, and finds whether a field has leading zeros (007)."""
    total, quoted, padded, last = 0, np.uint8(0), False, np.frombuffer(b"\n\n", np.uint8)
    for start in range(0, len(content), _CHUNK):
        chunk = np.frombuffer(content, np.uint8, min(_CHUNK, len(content) - start), start)
        here = chunk == ord(cut)
        if quoted or (chunk == ord('"')).any():
            inside = np.bitwise_xor.accumulate((chunk == ord('"')).view(np.uint8)) ^ quoted
            here &= inside == 0
            quoted = inside[-1]
        total += int(np.count_nonzero(here))
        if not padded:
            before = np.concatenate([last, chunk])
            first, zero, digit = before[:-2], before[1:-1] == ord("0"), before[2:] - ord("0")
            zero &= digit < 10  # characters below "0" become large as unsigned bytes
            zero &= (first < ord("#")) | (first == ord(cut))  # after a newline, space or quote
            padded, last = bool(zero.any()), before[-2:]
    return total, padded


def _empty(path: Path, why: str) -> InvalidValue:
    return InvalidValue(
        "read_table",
        f"{path.name} is empty",
        got=why,
        expected="at least one row after the header",
        fix="Correct the path, or write the file again",
    )


def _unreadable(
    path: Path, error: Any, reading: Reading, encoding: str = "latin-1"
) -> InvalidValue:
    return InvalidValue(
        "read_table",
        f"{path.name} cannot be read",
        got=f"{path} ({(str(error).splitlines() or [''])[0]})",
        expected=f"a text file in {reading.encoding} with one row per line",
        fix=f"Correct the path or the file, or pass its encoding: encoding={encoding!r}",
    )
