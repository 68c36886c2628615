"""Places the data of a run on a mesh: replicated on every device, or split by rows if large.

The placement does not affect which examples form a batch: rows are split in their global order.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn.data._resident import Resident
from jaxnn.scale._mesh import DATA
from jaxnn.scale.memory import size
from jaxnn.scale.placement import Placement, on_device
from jaxnn.typing import Any

# Rows of another device cost communication at each step, and replication costs memory.
MOST_WHOLE = 2**30


def placed_data(placement: Placement, data: Any) -> Any:
    """Places data on a mesh; split rows are padded to equal parts, and no batch has the padding.

    Data of a user-defined class are replicated on every device.
    """
    if not isinstance(data, Resident):
        return on_device(data, placement.whole)
    padding, sharding = _layout(placement, data)
    arrays = jax.tree.map(lambda x: on_device(_filled(x, padding), sharding), data.arrays)
    key = on_device(data.key, placement.whole)
    return replace(data, arrays=arrays, key=key, padding=padding)


def placed_shapes(placement: Placement, data: Any) -> Any:
    """Returns the shapes of the result of `placed_data`, with the sharding of each array."""
    if not isinstance(data, Resident):
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement.whole), data
        )
    padding, sharding = _layout(placement, data)

    def shape(x: Any, rows: int, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((x.shape[0] + rows, *x.shape[1:]), x.dtype, sharding=sharding)

    arrays = jax.tree.map(lambda x: shape(x, padding, sharding), data.arrays)
    key = jax.ShapeDtypeStruct(data.key.shape, data.key.dtype, sharding=placement.whole)
    return replace(data, arrays=arrays, key=key, padding=padding)


def _layout(placement: Placement, data: Resident) -> tuple[int, NamedSharding]:
    """Returns the number of padding rows, and the sharding of the arrays."""
    if size(data.arrays) <= MOST_WHOLE:
        return 0, placement.whole
    count = placement.mesh.shape[DATA]
    rows = jax.tree.leaves(data.arrays)[0].shape[0]
    return -rows % count, NamedSharding(placement.mesh, PartitionSpec(DATA))


def _filled(array: Any, rows: int) -> Any:
    return jnp.pad(array, [(0, rows), *[(0, 0)] * (array.ndim - 1)]) if rows else array
