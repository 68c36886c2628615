"""Plans: the memory, time and communication of a training step, on hardware you need not have."""

from jaxnn.planning._plan import plan
from jaxnn.planning._propose import Proposal, find_batch_size, propose
from jaxnn.planning.compilers import NoCompiler
from jaxnn.planning.figures import Buffer, Memory, Plan
from jaxnn.planning.hardware import Chip, Hardware

__all__ = [
    "Buffer",
    "Chip",
    "Hardware",
    "Memory",
    "NoCompiler",
    "Plan",
    "Proposal",
    "find_batch_size",
    "plan",
    "propose",
]
