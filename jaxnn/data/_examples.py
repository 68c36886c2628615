"""Your own data: from arrays, a file or a dataframe to a dict of NumPy arrays, checked once.

What comes out is what training reads: fields along one leading axis, `inputs` among them, in
32 bits where 64 would be. Whatever would surprise later (text, missing values, fields of
different lengths, numbers that do not fit) is an error here, and says where it is.

    >>> data = examples(([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]], [0, 1, 1, 0]))
    >>> {name: (str(array.dtype), array.shape) for name, array in data.items()}
    {'inputs': ('float32', (4, 2)), 'labels': ('int32', (4,))}
"""

import csv
import math
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import jax
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice
from jaxnn.data._fields import as_numpy, computed, read_fields, same_length, to_float32, to_integers
from jaxnn.typing import Any

_WHOLE = re.compile(r"\s*[+-]?\d+\s*")


def examples(
    source: Any, *, labels: str | int | None = None, header: int | None = 0
) -> dict[str, Any]:
    """Returns your data as a dict of NumPy arrays with one leading axis, the examples.

    Args:
      source: one of
        a dict of arrays, or of pytrees of arrays, `inputs` among them;
        a tuple of arrays `(inputs, labels)`, or one array alone, which is `inputs`;
        the path of a `.npz` file, whose fields are such a dict, or of a `.npy` file, which is
        `inputs` (no pickled objects);
        the path of a `.csv` file: UTF-8, commas, a header row, then numbers;
        a dataframe of numbers: pandas, polars, pyarrow, lazy ones too, or whatever has `columns`
        (or `column_names`) and gives `frame[name]` as something that NumPy reads.
      labels: the column of the csv file or dataframe that holds the labels; all others are
        features. Without it there are only `inputs`.
      header: the row of the csv file that names the columns, 0; `None` where there is none, and
        the columns are `"0"`, `"1"` and so on.

    Returns:
      The fields, arrays [n, ...]. From a csv file or dataframe: `inputs` float32 [n, features],
      columns in their order, and `labels` [n], int32 where all are whole numbers stored or
      written as such, else float32. From arrays: as stored (uint8 images stay uint8, and nothing
      is copied), but in the byte order of the machine; float64 and long doubles become float32, and
      labels of booleans or 64-bit integers int32.

    Raises:
      InvalidType: if the source is of no such kind, or a field does not hold numbers.
      InvalidValue: if a file cannot be read, a field or a value is missing or masked, there is no
        example, fields differ in length, `labels` names no column, a header is all numbers, a
        number does not fit, a column of whole numbers cannot be held by float32, or a weight is
        negative or not finite.

    Example:
      >>> examples({"inputs": np.zeros((2, 3)), "labels": np.array([0, 1])})["labels"]
      array([0, 1], dtype=int32)
    """
    source = computed(source)
    labels = None if labels is None else str(labels)
    if header not in (0, None):
        raise InvalidValue(
            "examples",
            "header is neither the first row nor none",
            got=f"header={header!r}",
            expected="0 or None",
            fix="Pass header=None for a file without names of columns",
        )
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        choice("examples", "the ending of the path", path.suffix.lower(), (".csv", ".npy", ".npz"))
        if path.suffix.lower() == ".csv":
            return _checked(_from_csv(path, labels, header is not None))
        fields = _from_numpy(path)
    elif hasattr(source, "column_names") or hasattr(source, "columns"):
        return _checked(_from_frame(source, labels))
    elif isinstance(source, Mapping):
        fields = dict(source)
    elif isinstance(source, tuple) and len(source) == 2:
        fields = {"inputs": source[0], "labels": source[1]}
    elif hasattr(source, "__array__"):
        fields = {"inputs": source}
    else:
        raise InvalidType(
            "examples",
            "source is of no kind that can be read",
            got=f"a {type(source).__name__}",
            expected="a dict of arrays, a tuple (inputs, labels), the path of a .npz or .csv file, "
            "or a dataframe",
            fix="Pass, say, {'inputs': inputs, 'labels': labels}",
        )
    if labels is not None:
        raise InvalidValue(
            "examples",
            "labels= names a column, and this source has none",
            got=f"labels={labels!r} with fields {', '.join(map(str, fields))}",
            expected="labels= only with a csv file or a dataframe",
            fix="Leave labels= away, and name the field itself 'labels'",
        )
    return _checked(fields)


def _checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    if "inputs" not in fields:
        raise InvalidValue(
            "examples",
            "there are no inputs",
            got=f"fields {', '.join(map(str, fields)) or 'none'}",
            expected="a field named inputs",
            fix="Name the array that the network reads 'inputs'",
        )
    arrays = jax.tree.map(np.asarray, read_fields("examples", fields))
    same_length("examples", arrays)
    return arrays


def _from_numpy(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix.lower() == ".npy":
            return {"inputs": np.load(path, allow_pickle=False)}
        with zipfile.ZipFile(path):
            pass  # np.load would take anything else for a pickle, and complain of that
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidValue(
            "examples",
            f"{path.name} cannot be read",
            got=f"{path} ({error})",
            expected="a whole file without pickled objects, whose code reading would run",
            fix="Correct the path, or save numbers alone: "
            "numpy.savez(path, inputs=numpy.asarray(inputs, numpy.float32), labels=labels)",
        ) from None


def _from_csv(path: Path, labels: str | None, named: bool) -> dict[str, np.ndarray]:
    rows: list[list[float]] = []
    whole = True
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            first = next((row for row in reader if row or named), [])
            header = [name.strip() if named else str(i) for i, name in enumerate(first)]
            _check_columns(header, labels)
            if named and all(map(_is_number, header)):
                raise InvalidValue(
                    "examples",
                    f"the header of {path.name} is all numbers, as an example is",
                    got=f"{', '.join(header)} in the first row",
                    expected="the names of the columns",
                    fix="Pass header=None if the first row is an example, or name the columns",
                )
            target = header.index(labels) if labels is not None else None
            # Counted by lines, as an editor does: a field in quotes may hold line breaks.
            row = reader.line_num + named
            for texts in reader if named else chain([first], reader):
                if texts:
                    rows.append(_numbers(path.name, row, header, texts))
                    whole &= target is not None and _WHOLE.fullmatch(texts[target]) is not None
                row = reader.line_num + 1
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidValue(
            "examples",
            f"{path.name} cannot be read",
            got=f"{path} ({error})",
            expected="a .csv file of text in UTF-8, with commas between fields",
            fix="Correct the path, or save the table again as CSV in UTF-8",
        ) from None
    columns = dict(zip(header, np.asarray(rows).reshape(len(rows), len(header)).T, strict=True))
    if labels is not None and whole:
        columns[labels] = to_integers("examples", "labels", columns[labels], np.int32)
    return _table(columns, labels)


def _is_number(text: str) -> bool:
    try:
        return "_" not in text and math.isfinite(float(text))
    except ValueError:
        return False


def _numbers(file: str, row: int, header: list[str], texts: list[str]) -> list[float]:
    if len(texts) != len(header):
        raise InvalidValue(
            "examples",
            f"row {row} of {file} has the wrong length",
            got=f"{len(texts)} fields",
            expected=f"{len(header)}, as in the header row",
            fix="Correct that row, or the header row",
        )
    values = []
    for name, text in zip(header, texts, strict=True):
        try:
            value = math.nan if "_" in text else float(text)  # Python would read 1_000
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidValue(
                "examples",
                f"row {row}, column {name!r} of {file} does not hold a number",
                got=repr(text) if text.strip() else "an empty field",
                expected="a finite number, with a decimal point",
                fix="Correct it (write a class as its number), or remove that row or column; or"
                " read the table by jaxnn.read_table, which takes text, dates and missing values",
            )
        values.append(value)
    return values


def _from_frame(frame: Any, labels: str | None) -> dict[str, np.ndarray]:
    # pyarrow has the names under another name, and the columns themselves under `columns`.
    names = list(getattr(frame, "column_names", None) or frame.columns)
    _check_columns([str(name) for name in names], labels)
    return _table({str(name): _column(str(name), frame[name]) for name in names}, labels)


def _column(name: str, values: Any) -> np.ndarray:
    column = as_numpy("examples", f"column {name!r}", values)
    numeric = column.ndim == 1 and column.dtype.kind in "biuf"
    if numeric and np.all(np.isfinite(column)):
        return column
    row = int(np.argmin(np.isfinite(column))) if numeric else 0
    value = f" and {column[row]} in row {row} (from 0)" if column.size else ""
    raise (InvalidValue if numeric else InvalidType)(
        "examples",
        f"column {name!r} does not hold numbers alone",
        got=f"dtype {column.dtype}{value}",
        expected="a finite number in every row, in a numeric dtype",
        fix="Fill or drop missing values, number the classes, and drop columns of text; or give"
        " the frame to jaxnn.fit_columns, which takes them all",
    )


def _check_columns(names: list[str], labels: str | None) -> None:
    if labels is not None:
        choice("examples", "labels", labels, names)
    if len(set(names)) != len(names) or not set(names) - {labels}:
        raise InvalidValue(
            "examples",
            "the columns are not distinct features" if names else "there is no column",
            got=f"columns {', '.join(names) or 'none'}",
            expected="a header row of different names, and one feature at least",
            fix="Name every column, each name once",
        )


def _table(columns: Mapping[str, np.ndarray], labels: str | None) -> dict[str, np.ndarray]:
    def real(name, field):
        return to_float32("examples", field, columns[name], name)

    features = [real(name, "inputs") for name in columns if name != labels]
    table = {"inputs": np.stack(features, axis=1)}
    if labels is not None:
        marks = columns[labels]
        whole = marks.dtype.kind != "f"
        table["labels"] = (
            to_integers("examples", "labels", marks, np.int32) if whole else real(labels, "labels")
        )
    return table
