"""Data: arrays on the device in a keyed order, and functions that prepare such arrays."""

from jaxnn.data._buckets import Buckets, buckets
from jaxnn.data._examples import examples
from jaxnn.data._no_data import NoData
from jaxnn.data._resident import Resident, resident
from jaxnn.data._split import folds, split
from jaxnn.data._windows import Windows, windows
from jaxnn.data.characters import Characters
from jaxnn.data.durations import Duration, Every, steps_of
from jaxnn.data.protocol import Data
from jaxnn.data.sequences import pack, pad

__all__ = [
    "Buckets",
    "Characters",
    "Data",
    "Duration",
    "Every",
    "NoData",
    "Resident",
    "Windows",
    "buckets",
    "examples",
    "folds",
    "pack",
    "pad",
    "resident",
    "split",
    "steps_of",
    "windows",
]
