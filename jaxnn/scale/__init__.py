"""Scale: what there is to compute on, and how one run is spread over it.

A mesh is a transform of the learner: `shard(learner, mesh, rules)` says where the state and the
batch lie, and XLA divides the same step among the devices. `fit(..., mesh=mesh(), rules=fsdp)` is
the line that a user writes.
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
