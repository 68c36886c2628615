"""Sequences of different lengths: an array with empty places is a value, `Masked`.

A batch is one array, so shorter sequences are padded, and a mask says which places there are:

    >>> import jax.numpy as jnp
    >>> values = jnp.array([[1.0, 2.0, 3.0], [4.0, jnp.nan, jnp.nan]])
    >>> sequences = Masked.from_lengths(values, jnp.array([3, 1]))
    >>> sequences.values.tolist(), sequences.mask.sum(1).tolist()
    ([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]], [3, 1])

It is a pytree, and goes through a network as any input does. The law of every part: a sequence
gives what it gives without its empty places, whatever stands in them. There are three kinds.

- A part that treats each place alone (`linear`, `layer_norm`, `activation`) is given the values,
  and the mask is put back: `per_place`.
- A part that looks across places (`attention`, `gru`, `over_time`) takes the mask itself.
- Any other refuses: a function that nobody asked about masks must not compute with padding.

In training a batch has one of the fields `mask` `[examples, time]`, `lengths` `[examples]` or, for
several sequences in a row, `segments` `[examples, time]`; the learner makes `Masked` inputs of it.
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
    """Sequences of which some places are empty; the values of those are 0, whatever was given.

    Attributes:
      values: `[batch, time, ...]`, one array.
      mask: bool `[batch, time]`: which places there are. They may be any, also none.
      segments: where a row holds several sequences, the number of that of each place, int
        `[batch, time]` from 1; the places of a sequence stand side by side.

    Raises:
      InvalidType: if the values are not one array, or the mask is not of booleans.
      InvalidValue: if the mask or the segments have another shape than `values.shape[:2]`.
    """

    values: Any
    mask: Any
    segments: Any = None

    def __post_init__(self):
        _check_form(self.values, self.mask, self.segments)
        arrays = self.values, self.mask
        if all(isinstance(x, np.ndarray | jax.Array) for x in arrays):  # and not shapes alone
            on_host = all(isinstance(x, np.ndarray) for x in arrays)
            mask = self.mask.reshape(self.mask.shape + (1,) * (self.values.ndim - 2))
            zero = self.values.dtype.type(0)
            values = (np if on_host else jnp).where(mask, self.values, zero)
            object.__setattr__(self, "values", values)

    @classmethod
    def from_lengths(cls, values: Any, lengths: Any) -> "Masked":
        """Makes it of values `[batch, time, ...]`, the first `lengths` `[batch]` of which exist."""
        lengths = _whole("lengths", lengths, tuple(values.shape[:1]), values.shape[1])
        return cls(values, mask_of({"inputs": values, "lengths": lengths}))

    @classmethod
    def from_segments(cls, values: Any, segments: Any) -> "Masked":
        """Makes it of values and `segments` `[batch, time]`, which are 0 where a place is empty."""
        segments = _whole("segments", segments, tuple(values.shape[:2]))
        return cls(values, mask_of({"segments": segments}), segments)

    def with_values(self, values: Any) -> "Masked":
        """Returns other values, `[batch, time, ...]`, at the same places."""
        return Masked(values, self.mask, self.segments)

    def places(self) -> Int[Array, "batch time"]:
        """Returns the number of each place in its sequence, from 0; empty ones do not count."""
        count = jnp.cumsum(self.mask, axis=1, dtype=jnp.int32) - 1
        begins = self.begins()
        first = 0 if begins is None else lax.cummax(jnp.where(begins, count, 0), axis=1)
        return jnp.maximum(count - first, 0)

    def sequences(self) -> list[np.ndarray]:
        """Returns each sequence alone, `[time, ...]`, as NumPy arrays.

        They are in the order of the rows; or, with segments, of their numbers.
        """
        values, mask = np.asarray(self.values), np.asarray(self.mask)
        if self.segments is None:
            return [row[here] for row, here in zip(values, mask)]
        numbers = np.asarray(self.segments)[mask]
        order = np.argsort(numbers, kind="stable")
        _, first = np.unique(numbers[order], return_index=True)
        return np.split(values[mask][order], first[1:])

    def begins(self, *, reverse: bool = False) -> Bool[Array, "batch time"] | None:
        """Returns where a sequence begins (or ends) beside another; `None` if rows hold one."""
        if self.segments is None:
            return None
        left, right = self.segments[:, :-1], self.segments[:, 1:]
        edge = jnp.ones((self.segments.shape[0], 1), bool)
        sides = [left != right, edge] if reverse else [edge, left != right]
        return jnp.concatenate(sides, axis=1)


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
    """Returns a network that treats each place alone as one that takes `Masked` inputs too.

    It is given the values, `[batch, time, ...]`, and its outputs get the mask.

    Args:
      network: treats each place alone.
      features: whether a place must have an axis of its own, `[batch, time, features]`. Without
        one, what computes over the last axis would compute over time.

    Raises:
      InvalidValue: when traced, if it must and has none.
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
    """Returns the values of `Masked` inputs, or the inputs."""
    return inputs.values if isinstance(inputs, Masked) else inputs


def put_back(inputs: Any, values: Any) -> Any:
    """Returns values `[batch, time, ...]` at the places of the inputs, if these are `Masked`."""
    return inputs.with_values(values) if isinstance(inputs, Masked) else values


def map_places(function: Callable[..., Any], *inputs: Any) -> Any:
    """Applies a function that treats each place alone to arrays, or to the values of `Masked`.

    What it returns has the places that all of its inputs have.
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
    """Raises `InvalidType` if the inputs are, or hold, sequences with empty places."""
    leaves = jax.tree.leaves(inputs, is_leaf=lambda x: isinstance(x, Masked))
    if any(isinstance(x, Masked) for x in leaves):
        raise InvalidType(
            where,
            "it does not say what it does with the empty places of a sequence",
            got="Masked inputs",
            expected="an array",
            fix="Wrap it in per_place(...) if it treats each place alone, reduce the sequence"
            " before it by over_time(...), or write a Network that takes Masked",
        )


# --- Batches -----------------------------------------------------------------------------------

_FIELDS = ("mask", "lengths", "segments")


def mask_inputs(batch: Batch) -> Batch:
    """Returns a batch whose `mask`, `lengths` or `segments`, if it has any, are in its inputs."""
    mask = mask_of(batch)
    if mask is None:
        return batch
    rest = {name: field for name, field in batch.items() if name not in _FIELDS}
    return {**rest, "inputs": Masked(batch["inputs"], mask, batch.get("segments"))}


def mask_of(batch: Batch) -> Any:
    """Returns which places of the inputs of a batch exist, `[batch, time]`; `None` for all."""
    if "mask" in batch:
        return batch["mask"].astype(bool)
    if "lengths" in batch:
        return np.arange(batch["inputs"].shape[1], dtype=np.int32)[None] < batch["lengths"][:, None]
    return batch["segments"] != 0 if "segments" in batch else None


def check_places(where: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns data whose `mask`, `lengths` or `segments` were checked, with inputs of 0 elsewhere.

    Raises:
      InvalidValue: if there is more than one of them, the inputs are not one array `[examples,
        time, ...]`, a shape does not fit, or a number is out of range.
    """
    names = sorted(arrays.keys() & {*_FIELDS})
    if not names or "inputs" not in arrays:
        return dict(arrays)
    name, inputs = names[0], arrays["inputs"]
    shape, field = tuple(getattr(inputs, "shape", ())), np.asarray(arrays[name])
    if len(names) > 1 or len(shape) < 2 or field.shape != shape[: 1 if name == "lengths" else 2]:
        raise InvalidValue(
            where,
            "which places of the sequences exist is not clear",
            got=", ".join(f"{n} {list(np.shape(arrays[n]))}" for n in names)
            + f" and inputs {list(shape) if shape else 'that are a tree'}",
            expected="inputs [examples, time, ...], and one of mask [examples, time], lengths"
            " [examples] and segments [examples, time]",
            fix="Give one of these fields, with a number for each place (or example) of the inputs",
        )
    most = {"mask": 1, "lengths": shape[1], "segments": np.iinfo(np.int32).max}[name]
    outside = ~((field == np.floor(field)) & (field >= 0) & (field <= most))
    if outside.any():
        place = first_place(outside)
        raise InvalidValue(
            where,
            f"{name} is out of range",
            got=f"{field[place]} at {name}{list(place)}",
            expected=f"whole numbers from 0 to {most}",
            fix={
                "mask": "Pass 1 where there is something, and 0 where there is padding",
                "lengths": "Pass for each example the number of its first places that exist",
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
            "the places of a sequence do not stand side by side",
            got=f"segment {number} in several pieces of row {row}",
            expected="one number for each sequence of a row, in one piece",
            fix="Number the sequences of a row 1, 2, 3, and side by side",
        )


def _whole(name: str, numbers: Any, shape: tuple[int, ...], most: float = math.inf) -> Any:
    """Returns whole numbers from 0 to `most` of a shape, or raises; traced ones may be any."""
    numbers = numbers if hasattr(numbers, "dtype") else np.asarray(numbers)
    whole = jnp.issubdtype(numbers.dtype, jnp.integer) and tuple(numbers.shape) == shape
    if whole and not (is_concrete(numbers) and hasattr(numbers, "__array__")):
        return numbers
    outside = whole and ((np.asarray(numbers) < 0) | (np.asarray(numbers) > most))
    if not whole or np.any(outside):
        raise InvalidValue(
            "Masked",
            f"{name} do not fit the values",
            got=f"{np.asarray(numbers)[outside][0]}"
            if whole
            else f"{name} {numbers.dtype}{list(numbers.shape)}",
            expected=f"whole numbers {list(shape)} from 0"
            + ("" if most == math.inf else f" to {most}"),
            fix="Give each sequence the number of its places, at most those of the array"
            if name == "lengths"
            else "Number the sequences of a row from 1; 0 is an empty place",
        )
    return numbers


def _check_form(values: Any, mask: Any, segments: Any) -> None:
    if not all(hasattr(x, "shape") and hasattr(x, "dtype") for x in (values, mask)):
        raise InvalidType(
            "Masked",
            "values and mask are not one array each",
            got=f"a {type(values).__name__} and a {type(mask).__name__}",
            expected="arrays [batch, time, ...] and [batch, time]",
            fix="Mask each array of a tree by itself",
        )
    if mask.dtype != bool:
        raise InvalidType(
            "Masked",
            "the mask is not of booleans",
            got=f"dtype {mask.dtype}",
            expected="bool, true where there is something",
            fix="Pass mask.astype(bool), or Masked.from_lengths(values, lengths)",
        )
    shapes = {tuple(x.shape) for x in (mask, segments) if x is not None}
    if len(mask.shape) != 2 or shapes != {tuple(values.shape[:2])}:
        raise InvalidValue(
            "Masked",
            "the mask does not fit the values",
            got=f"values {list(values.shape)} and a mask {list(mask.shape)}"
            + (f" with segments {list(segments.shape)}" if segments is not None else ""),
            expected="[batch, time, ...] and [batch, time]",
            fix="Give a mask with one boolean for each place",
        )
