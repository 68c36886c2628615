"""Sequences of different lengths, as a padded array with a mask: `Masked`.

A batch is one array, so shorter sequences are padded. The mask is true at positions that exist:

    >>> import jax.numpy as jnp
    >>> values = jnp.array([[1.0, 2.0, 3.0], [4.0, jnp.nan, jnp.nan]])
    >>> sequences = Masked.from_lengths(values, jnp.array([3, 1]))
    >>> sequences.values.tolist(), sequences.mask.sum(1).tolist()
    ([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]], [3, 1])

`Masked` is a pytree, and an input of networks like any other. Every layer satisfies one law: the
outputs for a sequence are those without padding, whatever the padding contains. There are three
kinds of layers.

- A layer that acts on each position separately (`linear`, `layer_norm`, `activation`) receives the
  values, and its outputs have the same mask: `per_place`.
- A layer that combines positions (`attention`, `gru`, `over_time`) uses the mask itself.
- Any other layer raises `InvalidType`, so that no layer computes with padding by accident.

In training, the learner creates them from a field `mask`, `[examples, time]`, `lengths`,
`[examples]`, or, for several sequences per row, `segments`, `[examples, time]`, of the batch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn.checks import InvalidType, InvalidValue, first_place, is_concrete
from jaxnn.typing import Any, Array, Batch, Bool, Callable, Int

N = TypeVar("N", bound=Any)  # a Network, whose file imports this one


@dataclass(frozen=True, eq=False)
class Masked:
    """Padded sequences with a mask; values at masked positions are set to 0.

    Attributes:
      values: one array, `[batch, time, ...]`.
      mask: booleans `[batch, time]`, true at positions that exist. Padding may be anywhere.
      segments: if rows contain several sequences, the number of the sequence at each position, from
        1, integers `[batch, time]`; the positions of a sequence are contiguous. `None` otherwise.

    Raises:
      InvalidType: if the values are not one array, or the mask is not boolean.
      InvalidValue: if the shape of the mask or the segments is not `values.shape[:2]`.
    """

    values: Any
    mask: Any
    segments: Any = None

    def __post_init__(self):
        _check_form(self.values, self.mask, self.segments)
        arrays = self.values, self.mask
        if all(isinstance(x, np.ndarray | jax.Array) for x in arrays):  # they may be shapes
            # In the shape of a product; the compiler computes gradients in both shapes otherwise.
            batch, time, *rest = self.values.shape
            rows = self.values.reshape(batch * time, *rest)
            mask = self.mask.reshape(batch * time, *(1 for _ in rest))
            xp = np if all(isinstance(x, np.ndarray) for x in arrays) else jnp
            values = xp.where(mask, rows, rows.dtype.type(0)).reshape(self.values.shape)
            object.__setattr__(self, "values", values)

    @classmethod
    def from_lengths(cls, values: Any, lengths: Any) -> "Masked":
        """Creates one from values `[batch, time, ...]` and the `lengths` `[batch]` of sequences.

        Raises `InvalidValue` if `lengths` are not integers from 0 to `time`.
        """
        lengths = _whole("lengths", lengths, tuple(values.shape[:1]), values.shape[1])
        return cls(values, mask_of({"inputs": values, "lengths": lengths}))

    @classmethod
    def from_segments(cls, values: Any, segments: Any) -> "Masked":
        """Creates one from values `[batch, time, ...]` and `segments` `[batch, time]`.

        Segment 0 is padding. Raises `InvalidValue` if `segments` are not integers of at least 0.
        """
        segments = _whole("segments", segments, tuple(values.shape[:2]))
        return cls(values, mask_of({"segments": segments}), segments)

    def with_values(self, values: Any) -> "Masked":
        """Returns a copy with other values, `[batch, time, ...]`."""
        return Masked(values, self.mask, self.segments)

    def places(self) -> Int[Array, "batch time"]:
        """Returns each position's index in its sequence, from 0, not counting padding."""
        count = jnp.cumsum(self.mask, axis=1, dtype=jnp.int32) - 1
        begins = self.begins()
        first = 0 if begins is None else lax.cummax(jnp.where(begins, count, 0), axis=1)
        return jnp.maximum(count - first, 0)

    def sequences(self) -> list[np.ndarray]:
        """Returns the sequences without padding, as a list of NumPy arrays `[time, ...]`.

        They are in the order of the rows, or, with segments, of the segment numbers.
        """
        values, mask = np.asarray(self.values), np.asarray(self.mask)
        if self.segments is None:
            return [row[here] for row, here in zip(values, mask)]
        numbers = np.asarray(self.segments)[mask]
        order = np.argsort(numbers, kind="stable")
        _, first = np.unique(numbers[order], return_index=True)
        return np.split(values[mask][order], first[1:])

    def begins(self, *, reverse: bool = False) -> Bool[Array, "batch time"] | None:
        """Returns where a segment begins (with `reverse`, ends); `None` without segments."""
        if self.segments is None:
            return None
        left, right = self.segments[:, :-1], self.segments[:, 1:]
        edge = jnp.ones((self.segments.shape[0], 1), bool)
        return jnp.concatenate([left != right, edge][:: 1 if reverse else -1], axis=1)


def _unflatten(_: Any, fields: Any) -> Masked:
    new = object.__new__(Masked)
    for name, field in zip(("values", "mask", "segments"), fields):
        object.__setattr__(new, name, field)
    return new


def _flatten_with_keys(x: Masked) -> Any:
    names = ("values", "mask", "segments")
    return [(jax.tree_util.GetAttrKey(name), getattr(x, name)) for name in names], None


jax.tree_util.register_pytree_with_keys(
    Masked, _flatten_with_keys, _unflatten, lambda x: ((x.values, x.mask, x.segments), None)
)


def per_place(network: N, *, features: bool = False) -> N:
    """Makes a network that acts on each position separately accept `Masked` inputs.

    The network receives the values, `[batch, time, ...]`, and its outputs have the same mask.

    Args:
      network: acts on each position separately.
      features: whether a position must have an axis of features, `[batch, time, features]`.
        Without one, a network that acts on the last axis would act on time.

    Raises:
      InvalidValue: when traced, if `features` is true and the values have no such axis.
    """

    kind = network.parts.kind

    def values(inputs):
        if features:
            check_place_features("per_place" if kind == "network" else kind, inputs)
        return values_of(inputs)

    def init(key, inputs):
        return network.init(key, values(inputs))

    def apply(params, state, inputs, *, key=None):
        outputs, after = network.apply(params, state, values(inputs), key=key)
        return put_back(inputs, outputs), after

    return network._replace(init=init, apply=apply)


def check_place_features(where: str, inputs: Any) -> None:
    """Raises `InvalidValue` if the places of `Masked` inputs are numbers without features."""
    if isinstance(inputs, Masked) and len(inputs.values.shape) < 3:
        raise InvalidValue(
            where,
            "the places of the sequences have no features",
            got=f"Masked values of shape {tuple(inputs.values.shape)}",
            expected="[batch, time, features]",
            fix="Pass values[..., None] where each place is a single number",
        )


def values_of(inputs: Any) -> Any:
    """Returns the values of `Masked` inputs, and other inputs unchanged."""
    return inputs.values if isinstance(inputs, Masked) else inputs


def put_back(inputs: Any, values: Any) -> Any:
    """Returns values `[batch, time, ...]` with the mask of the inputs, if these are `Masked`."""
    return inputs.with_values(values) if isinstance(inputs, Masked) else values


def map_places(function: Callable[..., Any], *inputs: Any) -> Any:
    """Applies a function that acts on each position separately to arrays or `Masked` values.

    The mask of the result is the conjunction of the masks of all inputs.
    """
    masked = [x for x in inputs if isinstance(x, Masked)]
    if not masked or len(masked) < len(inputs):
        return function(*inputs)
    outputs = function(*(x.values for x in masked))
    mask, segments = masked[0].mask, masked[0].segments
    for other in masked[1:]:
        mask = mask & other.mask
    return Masked(outputs, mask, segments)


def refuse_masked(where: str, inputs: Any) -> None:
    """Raises `InvalidType` if the inputs are `Masked`, or a pytree that contains `Masked`."""
    leaves = jax.tree.leaves(inputs, is_leaf=lambda x: isinstance(x, Masked))
    if any(isinstance(x, Masked) for x in leaves):
        raise InvalidType(
            where,
            "it does not support padded sequences",
            got="Masked inputs",
            expected="an array",
            fix="Wrap it in per_place(...) if it acts on each position separately, reduce the"
            " sequence first with over_time(...), or write a Network that accepts Masked",
        )


# --- Batches -----------------------------------------------------------------------------------

_FIELDS = ("mask", "lengths", "segments")


def mask_inputs(batch: Batch) -> Batch:
    """Returns a batch with `Masked` inputs if it has a field `mask`, `lengths` or `segments`."""
    mask = mask_of(batch)
    if mask is None:
        return batch
    rest = {name: field for name, field in batch.items() if name not in _FIELDS}
    return {**rest, "inputs": Masked(batch["inputs"], mask, batch.get("segments"))}


def mask_of(batch: Batch) -> Any:
    """Returns the mask of a batch's inputs, `[batch, time]`; `None` if there is no padding."""
    if "mask" in batch:
        return batch["mask"].astype(bool)
    if "lengths" in batch:
        return np.arange(batch["inputs"].shape[1], dtype=np.int32)[None] < batch["lengths"][:, None]
    return batch["segments"] != 0 if "segments" in batch else None


def check_places(where: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Validates the `mask`, `lengths` or `segments` of data, and sets padding in the inputs to 0.

    Raises:
      InvalidValue: if there is more than one of these fields, the inputs are not one array
        `[examples, time, ...]`, a shape does not match, or a number is out of range.
    """
    names = sorted(arrays.keys() & {*_FIELDS})
    if not names or "inputs" not in arrays:
        return dict(arrays)
    name, inputs = names[0], arrays["inputs"]
    shape, field = tuple(getattr(inputs, "shape", ())), np.asarray(arrays[name])
    if len(names) > 1 or len(shape) < 2 or field.shape != shape[: 1 if name == "lengths" else 2]:
        raise InvalidValue(
            where,
            "the mask of the sequences is ambiguous",
            got=", ".join(f"{n} {list(np.shape(arrays[n]))}" for n in names)
            + f" and inputs {list(shape) if shape else 'that are a tree'}",
            expected="inputs [examples, time, ...], and one of mask [examples, time], lengths"
            " [examples] and segments [examples, time]",
            fix="Pass one of these fields, with a number for each position (or example)",
        )
    most = {"mask": 1, "lengths": shape[1], "segments": np.iinfo(np.int32).max}[name]
    outside = ~((field == np.floor(field)) & (field >= 0) & (field <= most))
    if outside.any():
        place = first_place(outside)
        raise InvalidValue(
            where,
            f"{name} is out of range",
            got=f"{field[place]} at {name}{list(place)}",
            expected=f"integers from 0 to {most}",
            fix={
                "mask": "Pass 1 for positions that exist, and 0 for padding",
                "lengths": "Pass the length of each sequence",
                "segments": "Number the sequences of a row from 1; 0 is padding",
            }[name],
        )
    if name == "segments":
        _check_segments(where, field)
    fields = {**arrays, name: field.astype(bool if name == "mask" else np.int32)}
    return {**fields, "inputs": mask_inputs(fields)["inputs"].values}


def _check_segments(where: str, segments: np.ndarray) -> None:
    row, place = np.nonzero((np.diff(segments, axis=1, prepend=0) != 0) & (segments != 0))
    pairs, counts = np.unique(np.stack([row, segments[row, place]]), axis=1, return_counts=True)
    if (counts > 1).any():
        row, number = pairs[:, counts > 1][:, 0]
        raise InvalidValue(
            where,
            "the positions of a segment are not contiguous",
            got=f"segment {number} in several pieces of row {row}",
            expected="a number for each sequence of a row, at contiguous positions",
            fix="Number the sequences of each row 1, 2, 3 in order",
        )


def _whole(name: str, numbers: Any, shape: tuple[int, ...], most: float = math.inf) -> Any:
    """Validates that numbers are integers from 0 to `most` of this shape; traced values pass."""
    numbers = numbers if hasattr(numbers, "dtype") else np.asarray(numbers)
    whole = jnp.issubdtype(numbers.dtype, jnp.integer) and tuple(numbers.shape) == shape
    if whole and not (is_concrete(numbers) and hasattr(numbers, "__array__")):
        return numbers
    outside = whole and ((np.asarray(numbers) < 0) | (np.asarray(numbers) > most))
    if not whole or np.any(outside):
        raise InvalidValue(
            "Masked",
            f"{name} do not match the values",
            got=f"{np.asarray(numbers)[outside][0]}"
            if whole
            else f"{name} {numbers.dtype}{list(numbers.shape)}",
            expected=f"integers {list(shape)} from 0" + ("" if most == math.inf else f" to {most}"),
            fix="Pass the length of each sequence, at most the length of the array"
            if name == "lengths"
            else "Number the sequences of a row from 1; 0 is padding",
        )
    return numbers


def _check_form(values: Any, mask: Any, segments: Any) -> None:
    if not all(hasattr(x, "shape") and hasattr(x, "dtype") for x in (values, mask)):
        raise InvalidType(
            "Masked",
            "values and mask are not one array each",
            got=f"a {type(values).__name__} and a {type(mask).__name__}",
            expected="arrays [batch, time, ...] and [batch, time]",
            fix="Create a Masked for each array of a tree",
        )
    if mask.dtype != bool:
        raise InvalidType(
            "Masked",
            "the mask is not boolean",
            got=f"dtype {mask.dtype}",
            expected="bool, true at positions that exist",
            fix="Pass mask.astype(bool), or Masked.from_lengths(values, lengths)",
        )
    shapes = {tuple(x.shape) for x in (mask, segments) if x is not None}
    if len(mask.shape) != 2 or shapes != {tuple(values.shape[:2])}:
        raise InvalidValue(
            "Masked",
            "the mask does not match the values",
            got=f"values {list(values.shape)} and a mask {list(mask.shape)}"
            + ("" if segments is None else f" with segments {list(segments.shape)}"),
            expected="[batch, time, ...] and [batch, time]",
            fix="Pass a mask with one boolean for each position",
        )
