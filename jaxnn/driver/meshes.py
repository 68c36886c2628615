"""The mesh of a run: the one that is asked for, or all accelerators where the batch divides."""

import jax
from jax.sharding import Mesh

from jaxnn.checks import InvalidValue
from jaxnn.data.protocol import Data
from jaxnn.learning._learner import Learner
from jaxnn.scale import processes
from jaxnn.scale._mesh import DATA, divisors, nearest
from jaxnn.scale._mesh import mesh as all_devices
from jaxnn.scale._shard import shard
from jaxnn.scale.rules import replicated
from jaxnn.typing import Any


def on_mesh(
    learner: Learner, data: Data, members: int | None, mesh: Mesh | None, rules: Any
) -> Learner:
    """Returns the learner spread over the mesh that a run is given, or over all accelerators.

    Args:
      learner: what trains; one that has a mesh already stays as it is.
      data: what is trained on.
      members: their number, for a population; by default it is shared out over devices.
      mesh: what was asked for.
      rules: what was asked for; without a mesh they ask for one of all devices.

    Raises:
      InvalidValue: if the mesh does not divide the batch.
    """
    if mesh is None and rules is not None:
        mesh = all_devices()
    if mesh is None and learner.placement is None and members is None:
        mesh = _accelerators(data.batch_size)
    if members is not None and processes.count() > 1:
        raise InvalidValue(
            "train",
            "all members train in one process",
            got=f"{members} members and {processes.count()} processes",
            expected="one process, which has them on all of its devices",
            fix="Give each process members and a run of its own, without jaxnn.scale.start(), or"
            " train the members one by one, each in all processes",
        )
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
    devices = jax.devices()
    # The cores of a CPU already share the work of one device.
    if processes.count() > 1:
        return all_devices()
    if devices[0].platform != "cpu" and len(devices) > 1 and batch_size % len(devices) == 0:
        return all_devices()
    return None
