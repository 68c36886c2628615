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
from pathlib import Path

import jax
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice
from jaxnn.typing import Any

_WHOLE = re.compile(r"\s*[+-]?\d+\s*")


def examples(source: Any, *, labels: str | None = None) -> dict[str, np.ndarray]:
    """Returns your data as a dict of NumPy arrays with one leading axis, the examples.

    Args:
      source: one of
        a dict of arrays, `inputs` among them;
        a tuple of arrays `(inputs, labels)`, or one array alone, which is `inputs`;
        the path of a `.npz` file, whose fields are such a dict (no pickled objects);
        the path of a `.csv` file: UTF-8, commas, a header row, then numbers;
        a dataframe of numbers: pandas, polars, pyarrow, or whatever has `columns` (or
        `column_names`) and gives `frame[name]` as something that NumPy reads.
      labels: the column of the csv file or dataframe that holds the labels; all others are
        features. Without it there are only `inputs`.

    Returns:
      The fields, arrays [n, ...]. From a csv file or dataframe: `inputs` float32 [n, features],
      columns in their order, and `labels` [n], int32 where all are whole numbers stored or
      written as such, else float32. From arrays: as stored (uint8 images stay uint8, and nothing
      is copied), but float64 becomes float32, and labels of booleans or 64-bit integers int32.

    Raises:
      InvalidType: if the source is of no such kind, or a field does not hold numbers.
      InvalidValue: if a file cannot be read, a field or a value is missing, there is no example,
        fields differ in length, `labels` names no column, or a number does not fit.

    Example:
      >>> examples({"inputs": np.zeros((2, 3)), "labels": np.array([0, 1])})["labels"]
      array([0, 1], dtype=int32)
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        choice("examples", "the ending of the path", path.suffix.lower(), (".csv", ".npz"))
        if path.suffix.lower() == ".csv":
            return _checked(_from_csv(path, labels))
        fields = _from_npz(path)
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


def _checked(fields: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if "inputs" not in fields:
        raise InvalidValue(
            "examples",
            "there are no inputs",
            got=f"fields {', '.join(map(str, fields)) or 'none'}",
            expected="a field named inputs",
            fix="Name the array that the network reads 'inputs'",
        )
    arrays = {name: _array(name, field) for name, field in fields.items()}
    same_length("examples", arrays)
    return arrays


def _array(name: str, field: Any) -> np.ndarray:
    try:
        array = np.asarray(field)
    except (TypeError, ValueError):  # rows of different lengths
        array = np.asarray(None)
    # Asked of JAX, which unlike NumPy counts bfloat16 among the numbers.
    if array.dtype != np.bool_ and not jax.numpy.issubdtype(array.dtype, np.number):
        raise InvalidType(
            "examples",
            f"{name} does not hold numbers",
            got=f"dtype {array.dtype}",
            expected="numbers or booleans, in rows of one length",
            fix="Number the classes: names, labels = numpy.unique(labels, return_inverse=True)"
            if name == "labels"
            else f"Turn {name} into one array of numbers: pad, encode or drop the rest",
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # JAX refuses the other order
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        return _narrow(name, array, np.float32)
    if name == "labels" and (array.dtype in (np.bool_, np.int64, np.uint64)):
        return _narrow(name, array, np.int32)
    return array


def _narrow(name: str, array: np.ndarray, dtype: type[np.float32 | np.int32]) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = array.astype(dtype)
    fits = np.isinf(narrow) == np.isinf(array) if dtype is np.float32 else narrow == array
    if np.all(fits):
        return narrow
    raise InvalidValue(
        "examples",
        f"{name} holds a number too large for {np.dtype(dtype)}",
        got=f"{array[~fits].flat[0]} in dtype {array.dtype}",
        expected=f"numbers within {np.dtype(dtype)}, in which they are stored",
        fix="Number the classes from 0" if dtype is np.int32 else f"Rescale the {name}",
    )


def same_length(where: str, arrays: Mapping[str, np.ndarray], least: int = 1) -> int:
    """Returns the number of examples; raises `InvalidValue` unless all fields have as many."""
    lengths = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if len(lengths) != 1 or min(lengths) < least:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise InvalidValue(
            where,
            "the fields do not hold examples along one leading axis",
            got=f"shapes {shapes}" if shapes else "no field",
            expected=f"the same first number everywhere, at least {least}",
            fix="Give every field one entry for each example",
        )
    return lengths.pop()


def _from_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path):
            pass  # np.load would take anything else for a pickle, and complain of that
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidValue(
            "examples",
            f"{path.name} cannot be read",
            got=f"{path} ({error})",
            expected="a whole .npz file without pickled objects, whose code reading would run",
            fix="Correct the path, or save numbers alone: "
            "numpy.savez(path, inputs=numpy.asarray(inputs, numpy.float32), labels=labels)",
        ) from None


def _from_csv(path: Path, labels: str | None) -> dict[str, np.ndarray]:
    rows: list[list[float]] = []
    whole = True
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            _check_columns(header, labels)
            target = header.index(labels) if labels is not None else None
            # Counted by lines, as an editor does: a field in quotes may hold line breaks.
            row = reader.line_num + 1
            for texts in reader:
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
        columns[labels] = _narrow("labels", columns[labels], np.int32)
    return _table(columns, labels)


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
                fix="Correct it (write a class as its number), or remove that row or column",
            )
        values.append(value)
    return values


def _from_frame(frame: Any, labels: str | None) -> dict[str, np.ndarray]:
    # pyarrow has the names under another name, and the columns themselves under `columns`.
    names = list(getattr(frame, "column_names", None) or frame.columns)
    _check_columns([str(name) for name in names], labels)
    return _table({str(name): _column(str(name), frame[name]) for name in names}, labels)


def _column(name: str, values: Any) -> np.ndarray:
    column = np.asarray(values)
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
        fix="Fill or drop missing values, number the classes, and drop columns of text",
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
    features = [column.astype(np.float64) for name, column in columns.items() if name != labels]
    table = {"inputs": np.stack(features, axis=1)}
    if labels is not None:
        marks = columns[labels]
        table["labels"] = marks if marks.dtype.kind == "f" else _narrow("labels", marks, np.int32)
    return table
