"""Data that live on the device in their storage dtype, and are indexed inside the program.

The batch of a step is a pure function of `(key, step)`, so the position in the data is one integer,
the step. Training batches are always full, and may span two epochs. In evaluation, the examples
come in order, and the last batch is padded with examples of weight 0.

    >>> import numpy as np
    >>> data = resident({"inputs": np.arange(5.0)[:, None]}, batch_size=2)
    >>> data
    Resident(5 examples in batches of 2: inputs float32[1])
    >>> last = data.in_order(2)
    >>> last["inputs"].tolist(), last["weights"].tolist(), last["index"].tolist()
    ([[4.0], [4.0]], [1.0, 0.0], [4, 4])
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn.checks import InvalidType, InvalidValue, positive_integer
from jaxnn.data._fields import read_fields, same_length
from jaxnn.data.aligned import aligned, is_fixed
from jaxnn.data.order import epoch_and_place, permute
from jaxnn.typing import Any, Batch


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays", "key"],
    meta_fields=["batch_size", "padding"],
)
@dataclass(frozen=True, repr=False)
class Resident:
    """Examples on the device: a pytree that is an argument of the program, not a constant in it.

    Attributes:
      arrays: the fields, each `[examples, ...]` or a pytree of such arrays.
      key: the key of the order of training batches; one key, or one for each member.
      batch_size: the number of examples in a batch, over all devices.
      padding: the number of padding rows at the end, which make the rows divisible over a mesh.
      columns: the `jaxnn.tables.Columns` that the examples were encoded with, if any.
    """

    arrays: dict[str, Any]
    key: Any  # a key, or an array [members] of keys; or their shapes, to compile only
    batch_size: int
    padding: int = field(default=0, kw_only=True)
    columns: ClassVar[Any] = None  # not a field of the pytree: no program reads it

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return jax.tree.leaves(self.arrays)[0].shape[0] - self.padding

    @property
    def examples(self) -> dict[str, Any]:
        """The fields, `[examples, ...]` each."""
        return self.arrays

    @property
    def num_batches(self) -> int:
        """The number of batches in one pass over the examples; the last may be partial."""
        return -(-self.num_examples // self.batch_size)

    def shuffled(self, key: Any) -> "Resident":
        """Returns the same data with the order of training batches determined by `key`."""
        return with_columns(replace(self, key=key), self.columns)

    def batch(self, step: Any) -> Batch:
        """Returns the training batch of a step: fields and `index`, each `[batch_size, ...]`."""
        epoch, place = epoch_and_place(step, self.batch_size, self.num_examples)
        return self.take(permute(self.key, epoch, place, self.num_examples).astype(jnp.int32))

    def in_order(self, number: Any) -> Batch:
        """Returns batch `number` of the data in order; rows past the end have weight 0."""
        size = min(self.batch_size, self.num_examples)
        place = number * size + lax.iota(jnp.int32, size)
        batch = self.take(jnp.minimum(place, self.num_examples - 1))
        weights = jnp.asarray(batch.get("weights", jnp.ones(size)), jnp.float32)
        inside = (place < self.num_examples).reshape((-1,) + (1,) * (weights.ndim - 1))
        return {**batch, "weights": jnp.where(inside, weights, 0.0)}

    def take(self, index: Any) -> Batch:
        """Returns the examples at the given indices: fields and `index`, each `[examples, ...]`."""
        take = partial(jnp.take, indices=index, axis=0, mode="clip")
        return {**jax.tree.map(take, self.arrays), "index": index}

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name} {jax.tree.map(lambda x: f'{x.dtype}{list(x.shape[1:])}', tree)}"
            for name, tree in self.arrays.items()
        )
        return f"Resident({self.num_examples} examples in batches of {self.batch_size}: {fields})"


def resident(arrays: Mapping[str, Any], *, batch_size: int) -> Resident:
    """Puts examples on the device.

    Args:
      arrays: the fields, `{"inputs": ..., "labels": ...}`, each an array `[examples, ...]` or a
        pytree of them, or the result of `Columns.encode`. The optional field `weights` holds the
        weights of the examples. Float64 is stored as float32 and int64 as int32; other dtypes are
        unchanged, so that images stay bytes.
      batch_size: the number of examples in a batch, over all devices. A training batch must not be
        larger than the data; a larger evaluation batch is truncated to the data.

    Raises:
      InvalidValue: if there are no examples, fields differ in length, values are masked, a number
        is not finite, is too large, or is an integer that float32 cannot represent, or a weight is
        negative.
      InvalidType: if `inputs` are missing or a field does not hold numbers.
    """
    positive_integer("resident", "batch_size", batch_size)
    if not isinstance(arrays, Mapping) or "inputs" not in arrays:
        raise InvalidType(
            "resident",
            "the data must be named fields",
            got=f"{sorted(arrays) if isinstance(arrays, Mapping) else type(arrays).__name__}",
            expected="a dict with 'inputs' (jaxnn adds 'index')",
            fix="Pass {'inputs': inputs, 'labels': labels}, or examples(...) for files and"
            " data frames",
        )
    own = placed("resident", arrays)
    data = Resident(own, jax.random.key(0), int(batch_size))
    return with_columns(data, getattr(arrays, "columns", None))


def with_columns(data: Resident, columns: Any) -> Resident:
    """Sets the columns of the data in place, and returns the data; pytree operations drop them."""
    object.__setattr__(data, "columns", columns)  # jax 0.7.2 cannot leave a field out of a pytree
    return data


def placed(where: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns checked and converted arrays on the default device.

    Arrays of NumPy that can be written to are copied: JAX may share their memory, and then the data
    would change with what the caller writes into them later.
    """

    def put(array: Any) -> Any:
        if isinstance(array, np.ndarray) and not is_fixed(array):
            copy = aligned(array.shape, array.dtype)
            copy[...] = array
            array = copy
        return jax.device_put(array)

    return jax.tree.map(put, stored(where, arrays))


def stored(where: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Validates the fields and converts them to their storage dtypes, as `resident` documents."""
    fields = jax.tree.map_with_path(partial(_storable, where), read_fields(where, arrays))
    same_length(where, fields)
    return fields


def _storable(where: str, path: Any, array: Any) -> Any:
    name = jax.tree_util.keystr(path)
    if array.ndim == 0:
        raise InvalidType(
            where,
            f"field {name} has no axis of examples",
            got=f"dtype {array.dtype} and shape {array.shape}",
            expected="an array [examples, ...] of numbers",
            fix="Convert it with np.asarray(values, np.float32); number classes from 0",
        )
    narrower = {"int64": np.int32, "uint64": np.uint32}.get(array.dtype.name)
    if narrower:
        limits = np.iinfo(narrower)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise InvalidValue(
                where,
                f"field {name} has numbers out of the range of {narrower.__name__}",
                got=f"numbers from {array.min()} to {array.max()}",
                expected=f"numbers from {limits.min} to {limits.max}",
                fix="Subtract a constant, or convert to float32",
            )
        array = array.astype(narrower)
    return array
