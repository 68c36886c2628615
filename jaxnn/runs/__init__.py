"""Training runs that are saved in a directory, resumed and loaded."""

from jaxnn.runs._fit import Run, fit
from jaxnn.runs._load import Loaded, load
from jaxnn.runs.output import NotFinite

__all__ = ["Loaded", "NotFinite", "Run", "fit", "load"]
