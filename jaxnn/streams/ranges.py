"""Validates the schema, labels and tokens of a stream during training.

Only a sample of a stream is validated before a run starts. Each block that is read must have the
schema of the sample. The minimum and maximum of its integer labels and tokens are compared with the
range that is known to be valid; an example with a number outside this range is validated like the
sample.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnn.streams.schema import Field, check_schema, schema
from jaxnn.streams.source import explained

_Range = tuple[float, float]
_NONE: _Range = np.inf, -np.inf


class Ranges:
    """The ranges of integers that are known to be valid, by field."""

    def __init__(
        self,
        check: Callable[[Any], None],
        examples: Any,
        place: Callable[[int], str] = lambda index: "",
    ):
        """Initialises the ranges from valid examples.

        Args:
          check: a function that raises `Invalid` if examples `[examples, ...]` are not valid.
          examples: valid examples.
          place: a function that describes where an example is stored, for error messages.
        """
        self._check, self._place = check, place
        self._schema = _schema(examples, 1)
        self._known = {name: _range(*each) for name, each in _numbers(examples).items()}

    def check(self, fields: Any) -> None:
        """Raises `Invalid`, which names the example, if an example is not valid.

        Args:
          fields: the fields of the examples, including `index`, with the leading axes of `index`.
        """
        lead = fields["index"].ndim
        if (own := _schema(fields, lead)) != self._schema:
            first = int(fields["index"].ravel()[0])
            place = f"example {first}{self._place(first)}"
            check_schema(own, self._schema, place, "the examples read before")
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[lead:]), fields)
        for name, (values, counts) in _numbers(flat).items():
            low, high = _range(values, counts)
            lowest, highest = self._known.get(name, _NONE)
            per_example = values.size // len(values)
            if low < lowest:
                place = np.argmin(_only(values, counts, high))
                self._check_one(flat, int(place) // per_example)
            if high > highest:
                place = np.argmax(_only(values, counts, low))
                self._check_one(flat, int(place) // per_example)
            self._known[name] = min(low, lowest), max(high, highest)

    def _check_one(self, flat: Any, row: int) -> None:
        """Validates the example in a row."""
        twice = jax.tree.map(lambda x: np.repeat(x[row : row + 1], 2, 0), flat)
        index = int(flat["index"][row])
        with explained(index, self._place(index)):
            self._check(twice)


def _schema(fields: Any, axes: int) -> dict[str, Field]:
    # jaxnn adds the index, and weights in evaluation.
    return schema({k: v for k, v in fields.items() if k not in ("index", "weights")}, axes)


def _numbers(fields: Any) -> dict[str, tuple[Any, Any]]:
    """Returns labels and tokens by name, each with a mask of those that count, or `None`."""
    result = {}
    for field in fields.keys() & {"labels", "inputs"}:
        for path, values in jax.tree.leaves_with_path(fields[field]):
            values = np.asarray(values)
            # Inputs of one byte are pixels, and always valid.
            if values.dtype.kind in "iu" and (field == "labels" or values.dtype.itemsize > 1):
                counts = _counts(fields, values)
                result[field + jax.tree_util.keystr(path)] = values, counts
    return result


def _counts(fields: Any, values: Any) -> Any:
    """Returns a mask of the numbers with a nonzero weight that are not padding, or `None`."""
    counts = None
    for name in fields.keys() & {"weights", "mask", "lengths"}:
        each = np.asarray(fields[name])
        if name == "lengths":
            each = np.arange(values.shape[1]) < each[:, None] if values.ndim > 1 else each > 0
        if each.shape == values.shape[: each.ndim]:
            each = (each != 0).reshape(each.shape + (1,) * (values.ndim - each.ndim))
            counts = each if counts is None else counts & each
    return None if counts is None else np.broadcast_to(counts, values.shape)


def _only(values: Any, counts: Any, other: Any) -> Any:
    return values if counts is None else np.where(counts, values, other)


def _range(values: Any, counts: Any) -> _Range:
    counted = values if counts is None else values[counts]
    return (int(counted.min()), int(counted.max())) if counted.size else _NONE
