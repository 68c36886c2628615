"""The mesh of a run: the one that is asked for, or all accelerators where the batch divides."""

from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from jaxnn.checks import InvalidValue
from jaxnn.data.protocol import Data
from jaxnn.driver.chunks import Training
from jaxnn.formatting import amount
from jaxnn.learning._learner import Learner
from jaxnn.scale import processes
from jaxnn.scale._mesh import DATA, divisors, nearest
from jaxnn.scale._mesh import mesh as all_devices
from jaxnn.scale._shard import shard
from jaxnn.scale.memory import device_size
from jaxnn.scale.rules import replicated
from jaxnn.typing import Any


def on_mesh(
    learner: Learner, data: Data, members: int | None, mesh: Mesh | None, rules: Any
) -> Learner:
    """Returns the learner spread over the mesh that a run is given, or over all accelerators.

    Args:
      learner: what trains; one that has a mesh already stays as it is.
      data: what is trained on.
      members: their number, for a population; by default it is shared out over devices, but in
        several processes each member trains on all of them, one after the other.
      mesh: what was asked for.
      rules: what was asked for; without a mesh they ask for one of all devices.

    Raises:
      InvalidValue: if the mesh does not divide the batch.
    """
    if mesh is None and rules is not None:
        mesh = all_devices()
    alone = processes.count() == 1
    if mesh is None and learner.placement is None and not (alone and members is not None):
        mesh = _accelerators(data.batch_size)
    if mesh is not None:
        learner = shard(learner, mesh, replicated if rules is None else rules)
    if learner.placement is None:
        return learner
    count, size = learner.placement.mesh.shape[DATA], data.batch_size
    if size % count:
        below = size // count * count
        sizes = " or ".join(str(number) for number in (below, below + count) if number)
        raise InvalidValue(
            "train",
            "the mesh does not divide the batch",
            got=f"batch_size={size} and a mesh of data={count}",
            expected=f"a multiple of {count}",
            fix=f"Pass batch_size={sizes}, or mesh(data={nearest(count, divisors(size))[0]})",
        )
    return learner


def _accelerators(batch_size: int) -> Mesh | None:
    """Returns a mesh of all accelerators of every process, or `None` for a single device."""
    several = processes.count() > 1 or uses_all(jax.devices(), batch_size)
    return all_devices() if several else None


def uses_all(devices: Sequence[Any], batch_size: int) -> bool:
    """Returns whether a run uses all devices of its own accord: several, which divide the batch."""
    # The cores of a CPU already share the work of one device.
    several = devices[0].platform != "cpu" and len(devices) > 1
    return several and batch_size > 0 and batch_size % len(devices) == 0


def devices_line(training: Training) -> str | None:
    """Returns what a run computes on, where there is a choice; `None` of the only device."""
    devices, placement = jax.devices(), training.layout.placement
    platform = devices[0].platform
    if placement is None:
        if platform == "cpu" or len(devices) == 1 or training.layout.members is not None:
            return None
        size = training.data.batch_size
        reason = f"batch_size={size} is not a multiple of {len(devices)}"
        reason = reason if size else "the learner makes its own data; pass mesh= to use more"
        return f"uses 1 of {len(devices)} {platform} devices, for {reason}"
    state = training.whole_shapes().state
    held = amount(device_size(state, jax.tree.map(lambda x: x.sharding, state)), "B")
    axes = ", ".join(f"{name}={count}" for name, count in placement.mesh.shape.items())
    many = f"{len(placement.devices)} of {len(devices)} {platform} device{'s'[: len(devices) > 1]}"
    return f"uses {many}: {axes}, {placement.rules.name}; {held} of state on each"
