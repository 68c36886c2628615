"""Your own data: from arrays, a file or a dataframe to a dict of NumPy arrays, checked once.

What comes out is what training reads: fields along one leading axis, `inputs` among them, in
32 bits where 64 would be. Whatever would surprise later (text, missing values, fields of
different lengths, numbers that do not fit) is an error here, and says where it is.

    >>> data = examples(([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]], [0, 1, 1, 0]))
    >>> {name: (str(array.dtype), array.shape) for name, array in data.items()}
    {'inputs': ('float32', (4, 2)), 'labels': ('int32', (4,))}
    >>> rest, held_out = split(data, 0.5, stratify="labels")
    >>> sorted(held_out["labels"].tolist())
    [0, 1]
"""

import csv
import math
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice, message, number
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
        _refuse(
            "source is of no kind that can be read",
            got=f"a {type(source).__name__}",
            expected="a dict of arrays, a tuple (inputs, labels), the path of a .npz or .csv file, "
            "or a dataframe",
            fix="Pass, say, {'inputs': inputs, 'labels': labels}",
            error=InvalidType,
        )
    if labels is not None:
        _refuse(
            "labels= names a column, and this source has none",
            got=f"labels={labels!r} with fields {', '.join(map(str, fields))}",
            expected="labels= only with a csv file or a dataframe",
            fix="Leave labels= away, and name the field itself 'labels'",
        )
    return _checked(fields)


def split(
    arrays: Mapping[str, Any], fraction: float, *, seed: int = 0, stratify: str | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns `(rest, held_out)`: every example in exactly one of them, both shuffled.

    Args:
      arrays: fields along one leading axis of n examples, at least 2.
      fraction: the held-out share, between 0 and 1: n * fraction examples, rounded to the
        nearest, but at least one example in either part.
      seed: a whole number from 0 up; the same seed gives the same split.
      stratify: a field of whole numbers, such as `"labels"`. Each of its classes is then held
        out in the same share, to within one example: rounded down, then one more where most is
        lacking (drawn by the seed among equals). So a class whose share is below one example may
        lie in `rest` alone, and a class of a single example lies in one part alone.

    Raises:
      InvalidValue: if `fraction` or `stratify` cannot be used, fields differ in length, or there
        are fewer than two examples.

    Example:
      >>> rest, held_out = split({"inputs": np.arange(10)}, 0.3)
      >>> len(rest["inputs"]), len(held_out["inputs"])
      (7, 3)
    """
    number("split", "fraction", fraction, low=0.0, high=1.0, open_low=True)
    fields = {name: np.asarray(array) for name, array in arrays.items()}
    count = _length("split", fields, least=2)
    # Without strata all examples are one class, and one rule serves both.
    classes = np.zeros(count, np.intp) if stratify is None else _classes(fields, stratify)
    draw = np.random.default_rng(seed)
    order = draw.permutation(count)
    shuffled = classes[order]
    sizes = np.bincount(classes)
    shares = sizes * fraction
    quotas = np.floor(shares).astype(np.intp)
    wanted = min(max(math.floor(count * fraction + 0.5), 1), count - 1)
    most_lacking = np.lexsort((draw.random(len(sizes)), quotas - shares))
    quotas[most_lacking[: wanted - quotas.sum()]] += 1
    # The rank of each example within its class: the first `quota` of a class are held out.
    rank = np.empty(count, np.intp)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    rank[np.argsort(shuffled, kind="stable")] = np.arange(count) - starts
    held = rank < quotas[shuffled]
    return (
        {name: array[order[~held]] for name, array in fields.items()},
        {name: array[order[held]] for name, array in fields.items()},
    )


def _refuse(
    wrong: str, *, where: str = "examples", error: type[Exception] = InvalidValue, **parts: str
) -> NoReturn:
    raise error(message(where, wrong, **parts)) from None


def _checked(fields: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if "inputs" not in fields:
        _refuse(
            "there are no inputs",
            got=f"fields {', '.join(map(str, fields)) or 'none'}",
            expected="a field named inputs",
            fix="Name the array that the network reads 'inputs'",
        )
    arrays = {name: _array(name, field) for name, field in fields.items()}
    _length("examples", arrays)
    return arrays


def _array(name: str, field: Any) -> np.ndarray:
    try:
        array = np.asarray(field)
    except (TypeError, ValueError):  # rows of different lengths
        array = np.asarray(None)
    # Asked of JAX, which unlike NumPy counts bfloat16 among the numbers.
    if array.dtype != np.bool_ and not jax.numpy.issubdtype(array.dtype, np.number):
        _refuse(
            f"{name} does not hold numbers",
            got=f"dtype {array.dtype}",
            expected="numbers or booleans, in rows of one length",
            fix="Number the classes: names, labels = numpy.unique(labels, return_inverse=True)"
            if name == "labels"
            else f"Turn {name} into one array of numbers: pad, encode or drop the rest",
            error=InvalidType,
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
    _refuse(
        f"{name} holds a number too large for {np.dtype(dtype)}",
        got=f"{array[~fits].flat[0]} in dtype {array.dtype}",
        expected=f"numbers within {np.dtype(dtype)}, in which they are kept",
        fix="Number the classes from 0" if dtype is np.int32 else f"Rescale the {name}",
    )


def _length(where: str, arrays: Mapping[str, np.ndarray], least: int = 1) -> int:
    lengths = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if len(lengths) != 1 or min(lengths) < least:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        _refuse(
            "the fields do not hold examples along one leading axis",
            got=f"shapes {shapes}" if shapes else "no field",
            expected=f"the same first number everywhere, at least {least}",
            fix="Give every field one entry for each example",
            where=where,
        )
    return lengths.pop()


def _classes(fields: Mapping[str, np.ndarray], stratify: str) -> np.ndarray:
    choice("split", "stratify", stratify, fields)
    values = fields[stratify]
    if values.ndim != 1 or values.dtype.kind not in "biu":
        _refuse(
            f"stratify={stratify!r} names no classes",
            got=f"a field of dtype {values.dtype} and shape {values.shape}",
            expected="one whole number for each example",
            fix="Leave stratify= away, or bin the values: numpy.digitize(values, edges)",
            where="split",
        )
    return np.unique(values, return_inverse=True)[1]


def _from_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path):
            pass  # np.load would take anything else for a pickle, and complain of that
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        _refuse(
            f"{path.name} cannot be read",
            got=f"{path} ({error})",
            expected="a whole .npz file without pickled objects, whose code reading would run",
            fix="Correct the path, or save numbers alone: "
            "numpy.savez(path, inputs=numpy.asarray(inputs, numpy.float32), labels=labels)",
        )


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
        _refuse(
            f"{path.name} cannot be read",
            got=f"{path} ({error})",
            expected="a .csv file of text in UTF-8, with commas between fields",
            fix="Correct the path, or save the table again as CSV in UTF-8",
        )
    columns = dict(zip(header, np.asarray(rows).reshape(len(rows), len(header)).T, strict=True))
    if labels is not None and whole:
        columns[labels] = _narrow("labels", columns[labels], np.int32)
    return _table(columns, labels)


def _numbers(file: str, row: int, header: list[str], texts: list[str]) -> list[float]:
    if len(texts) != len(header):
        _refuse(
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
            _refuse(
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
    _refuse(
        f"column {name!r} does not hold numbers alone",
        got=f"dtype {column.dtype}{value}",
        expected="a finite number in every row, in a numeric dtype",
        fix="Fill or drop missing values, number the classes, and drop columns of text",
        error=InvalidValue if numeric else InvalidType,
    )


def _check_columns(names: list[str], labels: str | None) -> None:
    if labels is not None:
        choice("examples", "labels", labels, names)
    if len(set(names)) != len(names) or not set(names) - {labels}:
        _refuse(
            "the columns cannot be told apart" if names else "there is no column",
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
