"""Hyper-parameter search: sweeps, learning-rate range tests, and selection in populations."""

from jaxnn.search._fit_sweep import Swept, fit_sweep
from jaxnn.search._sweep import Sweep, keys, sweep
from jaxnn.search.ranges import linear_range, log_random_range, log_range, random_range
from jaxnn.search.rate_range import RateRange, learning_rate_range
from jaxnn.search.selection import population_based_training, successive_halving

__all__ = [
    "RateRange",
    "Sweep",
    "Swept",
    "fit_sweep",
    "keys",
    "learning_rate_range",
    "linear_range",
    "log_random_range",
    "log_range",
    "population_based_training",
    "random_range",
    "successive_halving",
    "sweep",
]
