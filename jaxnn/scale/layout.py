"""The layout of members over devices: which members train where, and how many at a time.

A population is one pytree whose arrays have a leading axis of slots, which is split equally over
the devices. Each device runs the same program on its part, so the bits of a member do not depend on
the number of devices. Joining the parts into sharded arrays, or splitting these, copies nothing.

    >>> layout = Layout(6, tuple(jax.local_devices()[:1]), width=4)
    >>> layout.slots, layout.width
    (6, 3)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxnn.scale.placement import Placement, on_device
from jaxnn.scale.resident import placed_data
from jaxnn.typing import Any, Int


@dataclass(frozen=True)
class Layout:
    """The assignment of members to slots and devices.

    `Layout()` is the layout of a single run: its arrays have no axis of slots.

    Attributes:
      members: the number of members; `None` for a single run.
      devices: the devices that share the members; empty for a single run.
      width: the number of members that train simultaneously on a device, reduced where that evens
        out the blocks; `None` for a single run. With 1, members train one after another.
      placement: the mesh of a run, or of the members, which then train one after another. It
        excludes `devices`.
    """

    members: int | None = None
    devices: tuple[Any, ...] = ()
    width: int | None = None
    placement: Placement | None = None

    def __post_init__(self):
        if self.members is not None and self.width is not None:
            share = -(-self.members // max(1, len(self.devices)))
            blocks = -(-share // min(self.width, share))
            object.__setattr__(self, "width", -(-share // blocks))

    @property
    def slots(self) -> int:
        """The number of slots: the members, plus empty slots that complete the last blocks."""
        block = (self.width or 1) * max(1, len(self.devices))
        return -(-(self.members or 1) // block) * block

    @property
    def numbers(self) -> Int[np.ndarray, "members"] | None:
        """The numbers of the members, `[members]`, or `None` for a single run."""
        return None if self.members is None else np.arange(self.members, dtype=np.int32)

    @property
    def places(self) -> list[tuple[Any, Any]]:
        """The slots and the device of each part."""
        if self.members is None:
            return [(None, None)]
        devices = self.devices or (None,)
        return list(zip(np.arange(self.slots, dtype=np.int32).reshape(len(devices), -1), devices))

    @property
    def sharding(self) -> Any:
        """The sharding of arrays with a leading axis of slots."""
        if len(self.devices) == 1:
            return SingleDeviceSharding(self.devices[0])
        mesh = Mesh(np.array(self.devices), ("members",))
        return NamedSharding(mesh, PartitionSpec("members"))

    def copies(self, tree: Any) -> list[Any]:
        """Returns a copy of one data set, or of several by name, on each device or on the mesh."""
        if self.placement is not None:
            return [_on_mesh(self.placement, tree)]
        return self.put([tree] * len(self.places))

    def put(self, parts: list[Any]) -> list[Any]:
        """Moves each part to its device; on a mesh, the only part is replicated."""
        if self.placement is not None:
            return [on_device(part, self.placement.whole) for part in parts]
        return [on_device(part, device) for part, (_, device) in zip(parts, self.places)]

    def cut(self, tree: Any) -> list[Any]:
        """Splits a tree into the parts of the devices, without copying."""
        if len(self.devices) < 2:
            return [tree]
        leaves, structure = jax.tree.flatten(tree)
        parts = zip(*[[shard.data for shard in _ordered(leaf)] for leaf in leaves])
        return [jax.tree.unflatten(structure, part) for part in parts]

    def join(self, parts: list[Any]) -> Any:
        """Joins the parts of all devices into sharded arrays, without copying."""
        if len(parts) == 1:
            return parts[0]

        def sharded(*leaves):
            shape = (self.slots, *leaves[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, self.sharding, list(leaves))

        return jax.tree.map(sharded, *parts)

    def moved(self, parts: list[Any], source: np.ndarray) -> list[Any]:
        """Returns the parts, with slot `i` taken from slot `source[i]`."""
        return self.cut(_taken(self.join(parts), source, self.sharding))

    def packed(self, active: np.ndarray) -> np.ndarray | None:
        """Returns an order of slots that balances the active ones, or `None` if it gains little."""
        width = self.width or 1
        shares = active.reshape(max(1, len(self.devices)), -1, width)
        blocks = int(shares.any(-1).sum(-1).max())
        fewest = -(-int(active.sum()) // (width * len(shares)))
        if blocks <= 1.1 * fewest:
            return None
        busy, idle = np.flatnonzero(active), list(np.flatnonzero(~active))
        order = []
        for device in range(len(shares)):
            mine = list(busy[device :: len(shares)])
            short = shares[0].size - len(mine)
            order += mine + idle[:short]
            idle = idle[short:]
        return np.array(order, np.int32)


def _on_mesh(placement: Placement, tree: Any) -> Any:
    """Moves one data set, or several by name, to a mesh."""
    if isinstance(tree, Mapping):
        return {name: _on_mesh(placement, data) for name, data in tree.items()}
    return placed_data(placement, tree)


def _ordered(leaf: Any) -> list[Any]:
    return sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)


@partial(jax.jit, static_argnums=2)
def _taken(tree, source, sharding):
    taken = rows(tree, source)
    return jax.lax.with_sharding_constraint(taken, sharding)


def rows(tree: Any, index: Any) -> Any:
    """Returns the rows `index` of the leading axis of every array."""
    return jax.tree.map(lambda x: x[index], tree)
