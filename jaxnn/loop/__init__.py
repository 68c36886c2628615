"""Training runs as pure functions, and their compiled forms."""

from jaxnn.loop._evaluate import evaluate, predict
from jaxnn.loop._population import population
from jaxnn.loop._run import run
from jaxnn.loop._unroll import unroll
from jaxnn.loop.statuses import STATUSES

__all__ = ["STATUSES", "evaluate", "population", "predict", "run", "unroll"]
