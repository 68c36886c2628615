"""Validates the fields of examples, and converts them to the dtypes that training reads.

`examples`, `split`, `resident`, `windows` and `predict` all call `read_fields`. A field is an array
`[examples, ...]` or a pytree of such arrays. Masked arrays (NumPy would drop the mask), integers
that float32 cannot represent and negative weights raise an error.

    >>> read_fields("examples", {"inputs": np.arange(2.0), "labels": [False, True]})
    {'inputs': array([0., 1.], dtype=float32), 'labels': array([0, 1], dtype=int32)}
"""

from collections.abc import Mapping
from numbers import Number
from typing import NoReturn

import jax
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, first_place
from jaxnn.formatting import count
from jaxnn.masked import check_places
from jaxnn.typing import Any

# Float32 represents every integer up to this number.
_EXACT = 2.0**24
_LAZY = ("collect", "compute", "to_table")  # methods of polars, dask and pyarrow


def read_fields(where: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Validates fields and converts them to arrays that training can read.

    Arrays are not copied and retain their dtype (images remain uint8), except that byte order
    becomes native, wider floats become float32, and labels that are booleans or 64-bit integers
    become int32. JAX arrays stay on their device. A list or tuple of numbers is one array.

    Args:
      where: the name of the calling function, for error messages.
      fields: the fields by name, each an array `[examples, ...]` or a pytree of such arrays.

    Raises:
      InvalidType: if a field does not hold numbers, or has the name `index`, which jaxnn adds.
      InvalidValue: if values are masked, not finite, too large, or integers that float32 cannot
        represent; a weight is negative; or `mask`, `lengths` or `segments` do not fit the inputs.
    """
    if "index" in fields:
        raise InvalidType(
            where,
            "the name index is taken: jaxnn numbers the examples by it",
            got=f"fields {', '.join(map(str, fields))}",
            expected="fields of other names (jaxnn adds 'index')",
            fix="Name it, say, 'identifier'",
        )
    read = jax.tree.map_with_path(
        lambda path, leaf: _array(where, path_name(path), leaf), dict(fields), is_leaf=_is_array
    )
    if "weights" in read:
        _check_weights(where, read["weights"])
    read = check_places(where, read)  # which sets padding to 0
    for path, leaf in jax.tree.leaves_with_path(read):
        _check_finite(where, path_name(path), leaf)
    return read


def path_name(path: Any) -> str:
    """Returns the name of a field, or of an array within it, such as `inputs/left`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def same_length(where: str, fields: Any, least: int = 1) -> int:
    """Returns the number of examples; raises `InvalidValue` if arrays differ in length."""
    leaves = jax.tree.leaves_with_path(fields)
    lengths = {path_name(path): (*leaf.shape, 0)[0] for path, leaf in leaves}
    if len(set(lengths.values())) != 1 or min(lengths.values()) < least:
        shapes = ", ".join(f"{path_name(path)} {list(leaf.shape)}" for path, leaf in leaves)
        counts = ", ".join(count(n, "example") for n in sorted(set(lengths.values())))
        raise InvalidValue(
            where,
            "the data are empty"
            if set(lengths.values()) == {0}
            else "the fields do not hold examples along one leading axis",
            got=f"shapes {shapes}: {counts}" if shapes else "no field",
            expected=f"the same first number everywhere, at least {least}",
            fix="Give every field one entry for each example",
        )
    return next(iter(lengths.values()))


def _is_array(leaf: Any) -> bool:
    plain = isinstance(leaf, tuple) and all(isinstance(x, Number | np.generic) for x in leaf)
    return isinstance(leaf, list) or (plain and leaf != ())


def _array(where: str, name: str, leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and not leaf.dtype.itemsize > 4:
        array = leaf
    else:
        array = as_numpy(where, name, leaf)
    is_number = jax.numpy.issubdtype(array.dtype, np.number) and array.dtype.kind != "c"
    if array.dtype != np.bool_ and not is_number:
        raise InvalidType(
            where,
            f"{name} does not hold numbers",
            got=f"dtype {array.dtype} and shape {array.shape}",
            expected="real numbers or booleans, in rows of one length",
            fix="Number the classes: names, labels = numpy.unique(labels, return_inverse=True)"
            if name == "labels"
            else f"Turn {name} into one array of numbers: pad, encode or drop the rest",
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        return to_float32(where, name, array)
    if name == "labels" and array.dtype in (np.bool_, np.int64, np.uint64):
        return to_integers(where, name, np.asarray(array), np.int32)
    return array


def as_numpy(where: str, name: str, values: Any) -> np.ndarray:
    """Converts values to a NumPy array in native byte order; raises if values are masked.

    Lazy frames and arrays are computed. Values that do not form an array have dtype `object`.
    """
    values = computed(values)
    nested = isinstance(values, list | tuple)
    parts = values if nested else [values]
    for part in parts if len(parts) else ():
        if isinstance(part, np.ma.MaskedArray) and np.ma.getmaskarray(part).any():
            _refuse_masked(where, name, part)
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # for example rows of different lengths
        array = np.asarray(None)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def computed(source: Any) -> Any:
    """Computes a lazy frame or array of polars, dask or pyarrow; returns other values unchanged."""
    for name in _LAZY:
        if hasattr(source, name) and not isinstance(source, np.ndarray | jax.Array):
            return getattr(source, name)()
    return source


def _refuse_masked(where: str, name: str, array: np.ma.MaskedArray) -> NoReturn:
    masked = np.ma.getmaskarray(array)
    place = [*first_place(masked)]
    raise InvalidValue(
        where,
        f"{name} has masked values, which training would read as if they were none",
        got=f"a masked array, masked at {place} and {int(masked.sum()) - 1} more",
        expected="a value everywhere",
        fix="Fill them with .filled(value), or drop the examples: array[~array.mask.any(1)].data",
    )


def to_float32(where: str, name: str, array: Any, column: str | None = None) -> np.ndarray:
    """Converts numbers to float32.

    Raises:
      InvalidValue: if a number is too large, or a column of integers would be rounded.
    """
    array = np.asarray(array)
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = array.astype(np.float32)
        if array.size and not np.abs(narrow).max() < _EXACT:  # NaN, too
            overflown = np.isinf(narrow) & ~np.isinf(array)
            if overflown.any():
                _refuse_large(where, name, array[overflown].flat[0], narrow.dtype, array.dtype)
            _check_whole(where, name, array, narrow, column)
    return narrow


def _check_whole(where: str, name: str, array: Any, narrow: Any, column: str | None) -> None:
    axes = tuple(range(max(1, array.ndim - 1)))
    whole = np.all(~np.isfinite(array) | (array == np.rint(array)), axes)
    rounded = (narrow.astype(array.dtype) != array) & np.isfinite(array) & whole
    if rounded.any():
        place = first_place(rounded)
        shown = f"{name}[{', '.join(map(str, place))}]"
        raise InvalidValue(
            where,
            f"column {column!r} holds whole numbers that float32 cannot hold"
            if column
            else f"{name} holds whole numbers that float32 cannot hold",
            got=f"{array[place]:.0f}" + ("" if column else f" at {shown}")
            + f", which would be {narrow[place]:.0f}",
            expected="whole numbers up to 16777216, or such as float32 holds",
            fix="Subtract the smallest, divide them, drop the column if they are names, or round"
            " them yourself: .astype(numpy.float32)",
        )  # fmt: skip


def to_integers(where: str, name: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    """Converts integers to a dtype; raises `InvalidValue` if one of them does not fit."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = array.astype(dtype)
    fits = (narrow == array) & ((narrow < 0) == (array < 0))
    if not np.all(fits):
        _refuse_large(where, name, array[~fits].flat[0], narrow.dtype, array.dtype)
    return narrow


def _refuse_large(where: str, name: str, value: Any, dtype: Any, given: Any) -> NoReturn:
    raise InvalidValue(
        where,
        f"{name} holds a number too large for {dtype}",
        got=f"{value} in dtype {given}",
        expected=f"numbers within {dtype}, in which they are stored",
        fix="Number the classes from 0" if dtype.kind in "iu" else f"Rescale the {name}",
    )


def _check_finite(where: str, name: str, array: Any) -> None:
    """Raises `InvalidValue`, which names the columns, if a number is NaN or infinite."""
    if not jax.numpy.issubdtype(array.dtype, np.floating) or not array.size:
        return
    if isinstance(array, jax.Array):
        if bool(jax.numpy.isfinite(array).all()):
            return
        array = np.asarray(array)
    with np.errstate(invalid="ignore"):
        if np.isfinite(array.min()) and np.isfinite(array.max()):  # no boolean array
            return
    wrong = ~np.isfinite(np.asarray(array, np.float32))
    place, number = first_place(wrong), int(wrong.sum())
    rows = wrong.reshape(len(wrong), -1).any(1) if wrong.ndim else wrong
    columns = f", columns {_some(np.flatnonzero(wrong.any(0)))}" if wrong.ndim == 2 else ""
    axes = {1: "", 2: ".all(1)"}.get(array.ndim, f".all({tuple(range(1, array.ndim))})")
    raise InvalidValue(
        where,
        f"{name} has numbers that are not finite",
        got=f"{array[place]} at {list(place)}, {number:,} of them in {int(rows.sum()):,} of"
        f" {rows.size:,} examples{columns}",
        expected="finite numbers",
        fix=f"Keep the other examples, numpy.isfinite({name}){axes}, or fill in numbers, for"
        " instance with np.nan_to_num; in a table jaxnn.fit_columns does",
    )


def _some(numbers: Any, most: int = 5) -> str:
    return ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")


def _check_weights(where: str, weights: Any) -> None:
    if not hasattr(weights, "dtype"):
        raise InvalidType(
            where,
            "weights are not one array",
            got=f"a {type(weights).__name__}",
            expected="a weight for each example, or for each of its places",
            fix="Pass weights as one array [examples] or [examples, time]",
        )
    values = np.asarray(weights, np.float32)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        place = first_place(wrong)
        raise InvalidValue(
            where,
            "a weight is negative or not finite",
            got=f"weights[{', '.join(map(str, place))}]={values[place]}",
            expected="finite numbers of 0 or more: how much an example counts",
            fix="Pass 0 for an example that is not to count",
        )
