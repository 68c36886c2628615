"""Holding out a part of the examples, to test on what training has not seen.

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
    """Returns `(rest, held_out)`: every example in exactly one of them, both shuffled.

    Args:
      arrays: fields along one leading axis of n examples, at least 2, each an array or a pytree of
        them; they are checked and converted as by `examples`. For a table, see `split_table`.
      fraction: the held-out share, between 0 and 1: n * fraction examples, rounded to the
        nearest, but at least one example in either part.
      seed: a whole number from 0 up; the same seed gives the same split.
      stratify: a field of whole numbers, such as `"labels"`. Each of its classes is then held
        out in the same share, to within one example: rounded down, then one more where most is
        lacking (drawn by the seed among equals). So a class whose share is below one example may
        lie in `rest` alone, and a class of a single example lies in one part alone.
      group: a field of whole numbers: all examples with the same one are in the same part. The
        share is the nearest that adding groups in a random order gives.
      time: a field of numbers: the latest examples are held out, and those of the same time are in
        the same part. Both parts are in the order of time.

    Raises:
      InvalidValue: if an option cannot be used, fields differ in length, there are fewer than two
        examples, or values cannot be stored, as `examples` says.
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
    """Yields `(rest, held_out)` for each fold: each example is held out once, by time later ones.

    Args:
      arrays: as in `split`. For a table, see `fold_table`.
      count: how many folds, at least 2.
      seed: as in `split`.
      stratify: a field of whole numbers of which each is spread evenly, to within one example.
      group: a field of whole numbers: all examples with the same one are in one fold; the largest
        group first, each into the smallest fold.
      time: a field of numbers: each fold is later than its rest, which are all earlier examples;
        there are `count + 1` spans of about equally many.

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
    # Without strata all examples are one class, and one rule serves both.
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
            f"{way}={name!r} names no {'times' if way == 'time' else 'classes'}",
            got=f"a field of dtype {values.dtype} and shape {values.shape}",
            expected=f"one {'number' if way == 'time' else 'whole number'} for each example",
            fix=f"Leave {way}= away, or bin the values: numpy.digitize(values, edges)",
        )
    return np.unique(values, return_inverse=True)[1]


def _take(fields: Fields, places: np.ndarray) -> Fields:
    return jax.tree.map(lambda x: x[places], fields)
