"""Learners, which update parameters, and transforms that map a learner to a learner."""

from jaxnn.learning._accumulate import accumulate
from jaxnn.learning._average import average
from jaxnn.learning._ensemble import ensemble
from jaxnn.learning._guard import guard
from jaxnn.learning._learner import Gradients, Learner, TrainState, no_gradients
from jaxnn.learning._scale_loss import scale_loss
from jaxnn.learning._supervised import learner

__all__ = [
    "Gradients",
    "Learner",
    "TrainState",
    "accumulate",
    "average",
    "ensemble",
    "guard",
    "learner",
    "no_gradients",
    "scale_loss",
]
