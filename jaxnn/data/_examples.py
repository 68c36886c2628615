"""Converts arrays, a file or a data frame to a validated dict of NumPy arrays for training.

The result has the field `inputs` and optionally others, all with one leading axis of examples.
Numbers of 64 bits are stored in 32 bits. Text, missing values, fields of different lengths and
numbers that do not fit raise an error that says where they are.

    >>> data = examples(([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]], [0, 1, 1, 0]))
    >>> {name: (str(array.dtype), array.shape) for name, array in data.items()}
    {'inputs': ('float32', (4, 2)), 'labels': ('int32', (4,))}
"""

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice
from jaxnn.data._fields import computed, read_fields, same_length, to_float32, to_integers
from jaxnn.reading import read_table
from jaxnn.typing import Any


def examples(
    source: Any, *, labels: str | int | None = None, header: int | None = 0
) -> dict[str, Any]:
    """Returns the data as a dict of NumPy arrays whose leading axis indexes the examples.

    Args:
      source: one of
        a dict of arrays or of pytrees of arrays, with the field `inputs`;
        a tuple of arrays `(inputs, labels)`, or a single array of inputs;
        the path of a `.npz` file with the fields of such a dict, or of a `.npy` file with the
        inputs; pickled objects are refused;
        a table of numbers that `read_table` can read: a csv, parquet or Arrow file, or a data
        frame. For text, dates and missing values use `fit_columns`.
      labels: the column of the table that holds the labels; all other columns are features. By
        default all columns are features.
      header: 0 if the first row of a text file names the columns, `None` if no row does; `labels`
        is then the index of a column.

    Returns:
      The fields, arrays `[n, ...]`. For a table, `inputs` are float32 `[n, features]` in the order
      of the columns, and `labels` are `[n]`, int32 if the column holds integers or booleans, else
      float32. Arrays are not copied and retain their dtype (images remain uint8), except that byte
      order becomes native, wider floats become float32, and labels that are booleans or 64-bit
      integers become int32.

    Raises:
      InvalidType: if the source cannot be read, or a field does not hold numbers.
      InvalidValue: if a file cannot be read; a field or value is missing, NaN or masked; there are
        no examples; fields differ in length; `labels` is not a column; the header consists of
        numbers; a number does not fit its dtype; float32 cannot represent a column of integers
        exactly; or a weight is negative or not finite.

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
    if isinstance(source, str | os.PathLike) and _is_numpy(source):
        fields = _from_numpy(Path(source).expanduser())
    elif isinstance(source, str | os.PathLike) or hasattr(source, "columns"):
        if header is None and labels is not None and labels.isdigit():
            labels = f"column_{int(labels) + 1}"
        return _checked(_from_table(read_table(source, header=header is not None), labels))
    elif isinstance(source, Mapping):
        fields = dict(source)
    elif isinstance(source, tuple) and len(source) == 2:
        fields = {"inputs": source[0], "labels": source[1]}
    elif hasattr(source, "__array__"):
        fields = {"inputs": source}
    else:
        raise InvalidType(
            "examples",
            "the source cannot be read",
            got=f"a {type(source).__name__}",
            expected="a dict of arrays, a tuple (inputs, labels), the path of a .npz or .csv file, "
            "or a data frame",
            fix="Pass, say, {'inputs': inputs, 'labels': labels}",
        )
    if labels is not None:
        raise InvalidValue(
            "examples",
            "labels= names a column, and this source has none",
            got=f"labels={labels!r} with fields {', '.join(map(str, fields))}",
            expected="labels= only with a table: a csv file or a data frame",
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


def _is_numpy(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() in (".npy", ".npz")


def _from_numpy(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix.lower() == ".npy":
            return {"inputs": np.load(path, allow_pickle=False)}
        with zipfile.ZipFile(path):
            pass  # np.load would report any other file as a pickle
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


def _from_table(table: Any, labels: str | None) -> dict[str, np.ndarray]:
    names = table.columns
    if labels is not None:
        choice("examples", "labels", labels, names)
    if not set(names) - {labels}:
        raise InvalidValue(
            "examples",
            "there is no column to read" if not names else "there is no feature",
            got=f"columns {', '.join(names) or 'none'}",
            expected="one feature at least",
            fix="Add one, or leave labels= away",
        )
    columns = {name: _numbers(table[name]) for name in names}

    def real(name: str, field: str) -> np.ndarray:
        return to_float32("examples", field, columns[name], name)

    features = [real(name, "inputs") for name in names if name != labels]
    fields = {"inputs": np.stack(features, axis=1)}
    if labels is not None:
        whole = columns[labels].dtype.kind != "f"
        fields["labels"] = (
            to_integers("examples", "labels", columns[labels], np.int32)
            if whole
            else real(labels, "labels")
        )
    return fields


def _numbers(column: Any) -> np.ndarray:
    """Returns the numbers of a column; raises if one is missing or not finite."""
    where, rows = f"column {column.name!r}", len(column)
    kind, fix = InvalidValue, "Fill or drop missing values"
    missing = column.null_count()
    numeric = column.dtype.is_numeric() or str(column.dtype) == "Boolean"
    if column.dtype.is_decimal() or str(column.dtype).endswith("128"):
        column = column.cast(float)  # NumPy has no such type
    if numeric and not missing:
        values = column.to_numpy()
        if np.isfinite(values).all():
            return values
        row = int(np.argmin(np.isfinite(values)))
        what, got = "holds a number that is not finite", f"{values[row]} in row {row} (from 0)"
    elif numeric or missing == rows:
        first = column.is_null().arg_max()
        what, got = "has missing values", f"{missing} of {rows}, the first in row {first} (from 0)"
    else:
        kind, what = InvalidType, "does not hold numbers"
        others = column.is_not_null()
        if str(column.dtype) == "String":
            others &= column.str.strip_chars().cast(float, strict=False).is_null()
        row = others.arg_max()
        got = f"{column.dtype} such as {column[row]!r} in row {row} (from 0)"
        fix = "Correct them, number the classes, and drop columns of text"
    raise kind(
        "examples",
        f"{where} {what}",
        got=got,
        expected="a finite number in every row",
        fix=f"{fix}; or give the table to jaxnn.fit_columns, which takes them all",
    )
