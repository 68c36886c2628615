"""Runs that live in a directory: trained, saved, resumed and loaded."""

from jaxnn.runs._fit import NotFinite, Run, fit
from jaxnn.runs._load import Loaded, load

__all__ = [
    "Loaded",
    "NotFinite",
    "Run",
    "fit",
    "load",
]
