"""The mesh of a run: the given mesh, or all accelerators if they divide the batch size."""

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
    """Returns the learner sharded over the given mesh, or by default over all accelerators.

    Args:
      learner: the learner; without `mesh` and `rules`, a learner that has a mesh is unchanged.
      data: the training data.
      members: the number of members; `None` for a single run. In a single process, a population
        has no mesh by default; in several, members train one after another on all devices.
      mesh: the mesh, if given.
      rules: the sharding rules, if given; without `mesh`, they imply a mesh of all devices.

    Raises:
      InvalidValue: if the data axis of the mesh does not divide the batch size.
    """
    if mesh is None and rules is not None:
        mesh = all_devices()
    if mesh is None and learner.placement is None:
        several = members is None and uses_all(jax.devices(), data.batch_size)
        mesh = all_devices() if several or processes.count() > 1 else None
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


def uses_all(devices: Sequence[Any], batch_size: int) -> bool:
    """Returns whether a run uses all devices by default: accelerators that divide the batch."""
    # The cores of a CPU already share the work of one device.
    several = devices[0].platform != "cpu" and len(devices) > 1
    return several and batch_size > 0 and batch_size % len(devices) == 0


def devices_line(training: Training) -> str | None:
    """Describes the devices of a run; `None` if there is nothing to report."""
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
