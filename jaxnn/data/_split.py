"""Splits of the examples into training and held-out parts.

>>> data = {"inputs": np.arange(4), "labels": np.array([0, 1, 1, 0])}
>>> rest, held_out = split(data, 0.5, stratify="labels")
>>> sorted(held_out["labels"].tolist())
[0, 1]
"""

from collections.abc import Iterator, Mapping

import jax
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, choice
from jaxnn.data._fields import read_fields, same_length
from jaxnn.data.partitions import held_out_in_folds, held_out_once, one_way
from jaxnn.typing import Any

Fields = dict[str, Any]


def split(
    arrays: Any,
    fraction: float,
    *,
    seed: int = 0,
    stratify: str | None = None,
    group: str | None = None,
    time: str | None = None,
) -> tuple[Fields, Fields]:
    """Splits examples into `(rest, held_out)`; both parts are shuffled.

    Args:
      arrays: a dict of fields, each an array `[n, ...]` or a pytree of them, with at least 2
        examples. They are validated and converted as by `examples`. For a table, see `split_table`.
      fraction: the held-out fraction, between 0 and 1. `n * fraction` is rounded to the nearest
        integer, but each part has at least one example.
      seed: a non-negative integer; the same seed gives the same split.
      stratify: a field of integers, such as `"labels"`. The same fraction of each class is held
        out, to within one example: counts are rounded down, and the classes with the largest
        remainders get one more (ties are broken at random by the seed). So a class with less than
        one held-out example may be only in `rest`, and a single example is in one part only.
      group: a field of integers. All examples of a group are in the same part. Groups are added in
        random order until the fraction is as close as possible.
      time: a field of numbers. The latest examples are held out, and examples of the same time are
        in the same part. Both parts are sorted by time.

    Raises:
      InvalidValue: if an option is invalid, fields differ in length, there are fewer than two
        examples, or values cannot be stored (see `examples`).
      InvalidType: if a field does not hold numbers.

    Example:
      >>> rest, held_out = split({"inputs": np.arange(10)}, 0.3)
      >>> len(rest["inputs"]), len(held_out["inputs"])
      (7, 3)
    """
    way, name = one_way("split", stratify=stratify, group=group, time=time)
    fields, codes = _fields_and_codes("split", arrays, way, name)
    rest, held_out = held_out_once("split", codes, fraction, seed=seed, way=way)
    return _take(fields, rest), _take(fields, held_out)


def folds(
    arrays: Any,
    count: int,
    *,
    seed: int = 0,
    stratify: str | None = None,
    group: str | None = None,
    time: str | None = None,
) -> Iterator[tuple[Fields, Fields]]:
    """Yields `(rest, held_out)` for each fold of a cross-validation.

    Each example is held out once. With `time`, the examples of the first span are never held out.

    Args:
      arrays: as in `split`. For a table, see `fold_table`.
      count: the number of folds, at least 2.
      seed: as in `split`.
      stratify: a field of integers. Each class is spread evenly over the folds, to within one
        example.
      group: a field of integers. All examples of a group are in the same fold. Groups are assigned
        in decreasing order of size, each to the smallest fold.
      time: a field of numbers. The examples are divided by time into `count + 1` spans of about
        equal size. Each span except the first is held out once, and its rest are all earlier spans.

    Raises:
      InvalidValue: as `split` does, or if there are too few examples, groups or times.
      InvalidType: if a field does not hold numbers.

    Example:
      >>> [part["inputs"].tolist() for _, part in folds({"inputs": np.arange(4)}, 3, time="inputs")]
      [[1], [2], [3]]
    """
    way, name = one_way("folds", stratify=stratify, group=group, time=time)
    fields, codes = _fields_and_codes("folds", arrays, way, name)
    for rest, held_out in held_out_in_folds("folds", codes, count, seed=seed, way=way):
        yield _take(fields, rest), _take(fields, held_out)


def _fields_and_codes(
    where: str, arrays: Any, way: str | None, name: str | None
) -> tuple[Fields, np.ndarray]:
    if not isinstance(arrays, Mapping):
        raise InvalidType(
            where,
            "the data must be named fields",
            got=f"a {type(arrays).__name__}",
            expected="a dict of arrays",
            fix=f"Pass {{'inputs': inputs}}, or a table to {where.rstrip('s')}_table",
        )
    fields = jax.tree.map(np.asarray, read_fields(where, arrays))
    count = same_length(where, fields, least=2)
    # Without stratification all examples form one class.
    codes = np.zeros(count, np.intp) if way is None else _codes(where, fields, way, name)
    return fields, codes


def _codes(where: str, fields: Fields, way: str, name: Any) -> np.ndarray:
    choice(where, way, name, fields)
    values = fields[name]
    if not isinstance(values, np.ndarray):
        values = np.empty((0, 0))
    if values.ndim != 1 or values.dtype.kind not in ("biuf" if way == "time" else "biu"):
        raise InvalidValue(
            where,
            f"field {name!r} cannot be used for {way}=",
            got=f"a field of dtype {values.dtype} and shape {values.shape}",
            expected=f"one {'number' if way == 'time' else 'whole number'} for each example",
            fix=f"Leave out {way}=, or bin the values: numpy.digitize(values, edges)",
        )
    return np.unique(values, return_inverse=True)[1]


def _take(fields: Fields, places: np.ndarray) -> Fields:
    return jax.tree.map(lambda x: x[places], fields)
