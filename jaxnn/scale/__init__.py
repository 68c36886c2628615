"""Scale: meshes of devices, and the sharding of one run over them.

`shard(learner, mesh, rules)` is a transform of the learner that constrains the sharding of the
state and of the batch; XLA partitions the step. `fit(..., mesh=mesh(), rules=fsdp)` applies it.
"""

from jaxnn.scale._mesh import mesh
from jaxnn.scale._shard import shard
from jaxnn.scale._shares import Shares, shares
from jaxnn.scale._start import start
from jaxnn.scale.processes import is_first
from jaxnn.scale.rules import Rules, fsdp, largest, replicated, split, tensor, tensor_fsdp

__all__ = [
    "Rules",
    "Shares",
    "fsdp",
    "is_first",
    "largest",
    "mesh",
    "replicated",
    "shard",
    "shares",
    "split",
    "start",
    "tensor",
    "tensor_fsdp",
]
