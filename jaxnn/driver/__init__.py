"""The loop on the host that dispatches chunks of steps."""

from jaxnn.driver._train import train
from jaxnn.driver.chunks import Training
from jaxnn.driver.members import Execution
from jaxnn.driver.placement import Progress
from jaxnn.driver.trial import Best, Select, Trial, Watch

__all__ = ["Best", "Execution", "Progress", "Select", "Training", "Trial", "Watch", "train"]
