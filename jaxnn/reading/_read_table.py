"""Reads a table from a file, a data frame of any library, or a dict of columns.

>>> read_table({"size": [1.5, None], "city": ["Bonn", "Ulm"]}).rows()
[(1.5, 'Bonn'), (None, 'Ulm')]
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice
from jaxnn.formatting import first_line
from jaxnn.reading.dtypes import typed
from jaxnn.reading.options import MISSING, Reading, remember
from jaxnn.reading.text import check_names, first_fields, read_text
from jaxnn.typing import Any

_TEXT = (".csv", ".tsv", ".txt", ".gz")
_BINARY = {".parquet": "read_parquet", ".arrow": "read_ipc", ".feather": "read_ipc"}


def read_table(
    source: Any,
    *,
    delimiter: str | None = None,
    header: bool | None = True,
    text: Sequence[str] = (),
    dates: Mapping[str, str] | None = None,
    missing: Sequence[str] = MISSING,
    encoding: str = "utf-8",
    decimal: str | None = None,
) -> Any:
    """Reads a table into a polars `DataFrame`, in which missing values and NaN are null.

    Times with a time zone are converted to UTC. To keep local times, remove the time zone first.

    Args:
      source: the path of a `.csv`, `.tsv` or `.txt` file (optionally `.gz`), or of a `.parquet`,
        `.arrow` or `.feather` file; a polars, pandas or pyarrow data frame; a dict of columns; or a
        list of dicts, one per row. Numbers that pandas stores as a categorical column become text.
      delimiter: the field delimiter of a text file. By default it is detected: one of `,`, `;`, tab
        and `|` that splits the first lines into the same number of fields.
      header: whether the first line of a text file contains the column names. If `None` or `False`,
        the names are `column_1`, `column_2`, ....
      text: columns of a text file to read as text, such as postal codes with leading zeros.
      dates: date formats of columns that are not in ISO format: `{"day": "%d/%m/%Y"}`.
      missing: the strings that represent missing values in a text file.
      encoding: the encoding of a text file.
      decimal: the decimal mark of a text file, `"."` or `","`; the other mark may then separate
        thousands. By default, decimal commas are detected if the delimiter is not a comma and all
        numbers of the column have them.

    Raises:
      InvalidValue: if a file cannot be read or is empty, its rows differ in length, its header
        consists of numbers, the decimal mark is ambiguous, or column names are missing or repeated;
        or if polars is not installed.
      InvalidType: if the source is not a table, or a column mixes types.
    """
    polars = import_polars("read_table")
    reading = Reading.of(delimiter, header, text, dates, missing, encoding, decimal)
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        if _is_text(path):
            table, reading = read_text(polars, path, reading)
            remember(reading)
        else:
            table = _binary(polars, path)
    elif isinstance(source, polars.LazyFrame):
        table = source.collect()
    elif isinstance(source, polars.DataFrame):
        table = source
    elif type(source).__module__.startswith("pyarrow"):
        table = polars.from_arrow(source)
    elif hasattr(source, "columns") and hasattr(source, "dtypes"):
        names = [str(name) for name in source.columns]
        check_names(names)
        table = polars.DataFrame(
            [_column(polars, name, _pandas(source.iloc[:, i])) for i, name in enumerate(names)]
        )
    elif isinstance(source, Mapping) and source:
        table = _of_columns(polars, source)
    elif isinstance(source, Sequence) and source and all(isinstance(r, Mapping) for r in source):
        names = list(dict.fromkeys(name for row in source for name in row))
        table = _of_columns(polars, {name: [row.get(name) for row in source] for name in names})
    else:
        raise InvalidType(
            "read_table",
            "the source is not a table",
            got=f"a {type(source).__name__}",
            expected="the path of a csv, parquet or Arrow file, a data frame, a dict of columns or"
            " a list of dicts",
            fix="Pass, say, {'size': sizes, 'city': cities}",
        )
    for name, pattern in (dates or {}).items():
        choice("read_table", "a column of dates", name, table.columns)
        table = table.with_columns(typed(polars, table[name], {name: pattern}))
    return _uniform(table)


def _uniform(table: Any) -> Any:
    """Returns a table without NaN, in which all times have one unit and are in UTC."""
    floats = [x for x in table if x.dtype.is_float() and x.is_nan().any()]
    times = [x for x in table if hasattr(x.dtype, "time_zone")]
    utc = [x.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if x.dtype.time_zone else x
           for x in times]  # fmt: skip
    return table.with_columns(
        [x.fill_nan(None) for x in floats] + [x.dt.cast_time_unit("us") for x in utc]
    )


def read_like(
    source: Any, reading: Reading | None, text: Sequence[str] = (), labels: Sequence[str] = ()
) -> Any:
    """Reads a table like `read_table`, with the options of an earlier text file.

    Args:
      source: a source that `read_table` accepts.
      reading: the options of the earlier file; `None` if it was not a text file.
      text: additional columns to read as text.
      labels: columns that may be absent from a file without a header.

    Raises:
      InvalidValue: as in `read_table`, or if a file without a header has a different number of
        columns than the earlier one.
    """
    if not isinstance(source, str | os.PathLike) or not _is_text(Path(source)):
        return read_table(source)
    polars, path = import_polars("read_table"), Path(source).expanduser()
    reading = (reading or Reading()).with_text(text)
    known, heads = set(reading.names), first_fields(path, reading)
    # Ties are resolved in favour of the first, the delimiter of the earlier file.
    delimiter = max(heads, key=lambda cut: len(known.intersection(heads[cut])))
    fields = heads[delimiter]
    header = reading.header or bool(known.intersection(fields))
    names = fields if header else _names(path, len(fields), reading, labels)
    reading = replace(
        reading,
        delimiter=delimiter,
        header=header,
        text=tuple(name for name in reading.text if name in names),
        dates=tuple(pair for pair in reading.dates if pair[0] in names),
        names=() if header else tuple(names),
    )
    return _uniform(read_text(polars, path, reading)[0])


def _names(path: Path, count: int, reading: Reading, labels: Sequence[str]) -> list[str]:
    """Returns the names of the columns of a file without a header, with or without its labels."""
    names = list(reading.names)
    if len(names) == count:
        return names
    others = [name for name in names if name not in labels]
    if len(others) == count:
        return others
    raise InvalidValue(
        "read_table",
        f"{path.name} has no header, and its columns differ from those of the training file",
        got=f"{count} columns",
        expected=f"{len(names)}, or {len(others)} without {', '.join(labels)}",
        fix=f"Write all columns in the same order, or add a header: {','.join(names[:3])},...",
    )


def import_polars(where: str) -> Any:
    """Returns the module polars; raises `InvalidValue` if it is not installed."""
    try:
        import polars
    except ImportError:
        raise InvalidValue(
            where,
            "tables are read by polars, which is not installed",
            got="no module named polars",
            expected="the extra [data] of jaxnn",
            fix="Install it: pip install 'jaxnn-toolkit[data]'",
        ) from None
    return polars


def _is_text(path: Path) -> bool:
    """Returns whether a path is a text file.

    Raises:
      InvalidValue: if its format is unknown, or it does not exist.
    """
    ending, path = path.suffix.lower(), path.expanduser()
    if not path.exists() and ending in ("", *_TEXT, *_BINARY):
        names = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        raise InvalidValue(
            "read_table",
            f"{path} does not exist",
            got=f"no file {path.name} in {path.parent.absolute()}",
            expected="the path of a table",
            fix=f"Did you mean {path.with_name(near[0])}?" if near else "Correct the path",
        )
    if ending.startswith(".xls") or ending == ".ods":
        raise InvalidValue(
            "read_table",
            f"{path.name} is a spreadsheet",
            got=f"a file ending in {ending}",
            expected="a table: " + ", ".join((*_TEXT, *_BINARY)),
            fix="Save the sheet as csv, or pass a frame: read_table(pandas.read_excel(path))",
        )
    choice("read_table", "the ending of the path", ending, (*_TEXT, *_BINARY))
    return ending in _TEXT


def _binary(polars: Any, path: Path) -> Any:
    try:
        return getattr(polars, _BINARY[path.suffix.lower()])(path)
    except (OSError, polars.exceptions.PolarsError) as error:
        raise InvalidValue(
            "read_table",
            f"{path.name} cannot be read",
            got=f"{path} ({first_line(error)})",
            expected=f"a complete {path.suffix} file",
            fix="Correct the path, or write the file again",
        ) from None


def _of_columns(polars: Any, columns: Mapping[Any, Any]) -> Any:
    check_names([str(name) for name in columns])
    table = [_column(polars, str(name), values) for name, values in columns.items()]
    if len({len(column) for column in table}) > 1:
        raise InvalidValue(
            "read_table",
            "the columns differ in length",
            got=", ".join(f"{column.name} with {len(column)} rows" for column in table),
            expected="one value for each row in every column",
            fix="Write None for missing values",
        )
    return polars.DataFrame(table)


def _column(polars: Any, name: str, values: Any) -> Any:
    """Converts a sequence with one value per row to a polars series; masked values become null."""
    if isinstance(values, polars.Series):
        return values.alias(name)
    hidden = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    if hidden is not None or hasattr(values, "__array__"):
        values = np.asarray(values)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
            values = values.astype(np.float32 if values.dtype.itemsize < 4 else np.float64)
        if values.dtype.kind in "mM":
            unit = "ns" if values.dtype.str.endswith("m8[ns]") else "us"
            values = values.astype(f"{values.dtype.kind}8[{unit}]")
    if isinstance(values, np.ndarray) and values.dtype.kind in "OUS":
        values = values.tolist()
    try:
        if np.ndim(values) != 1:
            raise TypeError(f"{np.ndim(values)} axes")
        numbers = isinstance(values, list | tuple) and {int, float} <= {*map(type, values)} <= {
            int, float, type(None)}  # fmt: skip
        column = polars.Series(name, values, polars.Float64 if numbers else None)
    except (TypeError, ValueError, OverflowError, polars.exceptions.PolarsError) as error:
        raise InvalidType(
            "read_table",
            f"column {name!r} cannot be read",
            got=f"a {type(values).__name__} ({first_line(error)})",
            expected="one number, text, boolean or date for each row, all of one type",
            fix="Convert its values to one type: [str(value) for value in values]",
        ) from None
    if hidden is not None and hidden.any():
        column = polars.select(
            polars.when(polars.Series(hidden)).then(None).otherwise(column).alias(name)
        ).to_series()
    return column


def _pandas(column: Any) -> Any:
    """Converts a pandas column to a NumPy array, or to a list with `None` for missing values."""
    kind = getattr(column.dtype, "kind", "O")
    if hasattr(column, "cat") and column.cat.categories.dtype.kind in "iuf":
        column = column.cat.rename_categories(_whole_text)  # as numbers they would be quantities
    if isinstance(column.dtype, np.dtype) and kind in "biufmM":
        return column.to_numpy()
    if kind == "M":  # with a time zone: the same instants, in UTC
        return column.to_numpy("datetime64[ns]")
    return column.astype(object).where(column.notna(), None).tolist()


def _whole_text(value: Any) -> str:
    """Returns a number as text, without the `.0` of a whole one."""
    return str(int(value)) if value == np.rint(value) and np.isfinite(value) else str(value)
