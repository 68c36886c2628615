"""Holding out a part of the examples, to test on what training has not seen.

>>> data = {"inputs": np.arange(4), "labels": np.array([0, 1, 1, 0])}
>>> rest, held_out = split(data, 0.5, stratify="labels")
>>> sorted(held_out["labels"].tolist())
[0, 1]
"""

import math
from collections.abc import Mapping

import jax
import numpy as np

from jaxnn.checks import InvalidValue, choice, number
from jaxnn.data._fields import read_fields, same_length
from jaxnn.typing import Any


def split(
    arrays: Mapping[str, Any], fraction: float, *, seed: int = 0, stratify: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns `(rest, held_out)`: every example in exactly one of them, both shuffled.

    Args:
      arrays: fields along one leading axis of n examples, at least 2, each an array or a pytree of
        them; they are checked and converted as by `examples`.
      fraction: the held-out share, between 0 and 1: n * fraction examples, rounded to the
        nearest, but at least one example in either part.
      seed: a whole number from 0 up; the same seed gives the same split.
      stratify: a field of whole numbers, such as `"labels"`. Each of its classes is then held
        out in the same share, to within one example: rounded down, then one more where most is
        lacking (drawn by the seed among equals). So a class whose share is below one example may
        lie in `rest` alone, and a class of a single example lies in one part alone.

    Raises:
      InvalidValue: if `fraction` or `stratify` cannot be used, fields differ in length, there are
        fewer than two examples, or values cannot be stored, as `examples` says.
      InvalidType: if a field does not hold numbers.

    Example:
      >>> rest, held_out = split({"inputs": np.arange(10)}, 0.3)
      >>> len(rest["inputs"]), len(held_out["inputs"])
      (7, 3)
    """
    number("split", "fraction", fraction, low=0.0, high=1.0, open_low=True)
    fields = jax.tree.map(np.asarray, read_fields("split", arrays))
    count = same_length("split", fields, least=2)
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
    return tuple(jax.tree.map(lambda x, at=order[part]: x[at], fields) for part in (~held, held))


def _classes(fields: Mapping[str, Any], stratify: str) -> np.ndarray:
    choice("split", "stratify", stratify, fields)
    values = fields[stratify]
    if not isinstance(values, np.ndarray):
        values = np.empty((0, 0))
    if values.ndim != 1 or values.dtype.kind not in "biu":
        raise InvalidValue(
            "split",
            f"stratify={stratify!r} names no classes",
            got=f"a field of dtype {values.dtype} and shape {values.shape}",
            expected="one whole number for each example",
            fix="Leave stratify= away, or bin the values: numpy.digitize(values, edges)",
        )
    return np.unique(values, return_inverse=True)[1]
