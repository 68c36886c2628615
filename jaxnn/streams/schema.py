"""The schema of examples, the dtype and shape of each field; all examples of a source share one.

>>> check_schema(schema({"inputs": np.zeros(3)}), schema({"inputs": np.zeros(2)}), "b", "a")
Traceback (most recent call last):
jaxnn.checks.InvalidValue: stream: examples of one source have different shapes. Got inputs[3] in \
b; expected inputs[2], as in a. Pad, crop or resize them in read.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.data._fields import path_name
from jaxnn.typing import Any

_STORED = {"float64": "float32", "int64": "int32", "uint64": "uint32"}


class Field(NamedTuple):
    """The dtype in which a field is stored, and the shape of one example."""

    dtype: str
    shape: tuple[int, ...]


def schema(fields: Any, axes: int = 0) -> dict[str, Field]:
    """Returns the schema of examples with so many leading axes: 0 for one example."""
    leaves = jax.tree.leaves_with_path(fields, is_leaf=is_array)
    return {path_name(path): _field(leaf, axes) for path, leaf in leaves}


def _field(leaf: Any, axes: int) -> Field:
    try:
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    except ValueError:
        return Field("lists of different lengths", ())
    name = getattr(array.dtype, "name", str(array.dtype))
    return Field(_STORED.get(name, name), tuple(array.shape[axes:]))


def check_schema(
    got: Mapping[str, Field], expected: Mapping[str, Field], place: str, other: str
) -> None:
    """Raises `InvalidValue` unless two schemas are equal.

    Args:
      got: the schema of some examples.
      expected: the schema of other examples.
      place: a description of where the former are stored.
      other: a description of where the latter are stored.
    """
    if got == expected:
        return
    what, fix = "fields", "Let the source, or read, give every example the same fields"
    one, two = ", ".join(got), ", ".join(expected)
    if got.keys() == expected.keys():
        name = next(name for name in got if got[name] != expected[name])
        mine, theirs = got[name], expected[name]
        if mine.shape != theirs.shape:
            what, fix = "shapes", "Pad, crop or resize them in read"
            one, two = f"{name}{list(mine.shape)}", f"{name}{list(theirs.shape)}"
        else:
            what, fix = "dtypes", f"Convert them in read, to {theirs.dtype}"
            one, two = f"{name} {mine.dtype}", f"{name} {theirs.dtype}"
    raise InvalidValue(
        "stream",
        f"examples of one source have different {what}",
        got=f"{one} in {place}",
        expected=f"{two}, as in {other}",
        fix=fix,
    )


def combined(
    combine: Callable[[Sequence[Any]], np.ndarray],
    examples: Sequence[Any],
    place: Callable[[int], str],
    axes: int = 0,
) -> Any:
    """Combines each field of several examples, or of several groups of examples.

    Args:
      combine: a function that stacks or concatenates arrays.
      examples: the examples.
      place: a function that describes where an example is stored, by its position in `examples`.
      axes: the number of leading axes, 1 for groups of examples.

    Raises:
      InvalidValue: if examples have different fields, shapes or dtypes.
    """
    structure = jax.tree.structure(examples[0], is_leaf=is_array)
    leaves = [jax.tree.flatten(example, is_leaf=is_array) for example in examples]
    try:
        if any(other != structure for _, other in leaves):
            raise ValueError
        columns = [_of_one_dtype(column) for column in zip(*(own for own, _ in leaves))]
        return jax.tree.unflatten(structure, [combine(column) for column in columns])
    except ValueError as error:
        first = schema(examples[0], axes)
        for number, example in enumerate(examples):
            check_schema(schema(example, axes), first, place(number), place(0))
        raise InvalidValue(
            "stream",
            f"{place(0)} cannot be an array",
            got=f"{error}",
            expected="numbers in rows of one length",
            fix="Pad or crop them in read",
        ) from None


def _of_one_dtype(column: Sequence[Any]) -> Sequence[Any]:
    # Python's numbers have no dtype: NumPy promotes them.
    dtypes = {x.dtype for x in column if hasattr(x, "dtype")}
    if len(dtypes) > 1 and len({_field(np.empty(0, x), 0) for x in dtypes}) > 1:
        raise ValueError
    return column


def is_array(x: Any) -> bool:
    """Returns whether a list or tuple is an array, rather than a container of fields."""
    return isinstance(x, list | tuple) and not any(isinstance(part, dict) for part in x)
