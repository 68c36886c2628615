"""The loop on the host that dispatches chunks of steps."""

from jaxnn.driver._train import train
from jaxnn.driver.chunks import Progress, Training
from jaxnn.driver.trial import Best, Trial, Watch

__all__ = [
    "Best",
    "Progress",
    "Training",
    "Trial",
    "Watch",
    "train",
]
