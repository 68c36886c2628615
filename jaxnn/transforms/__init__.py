"""Transforms of networks: each returns a network whose parts and parameters keep their names."""

from jaxnn.transforms._capture import capture
from jaxnn.transforms._freeze import freeze
from jaxnn.transforms._lora import lora, merge_lora
from jaxnn.transforms._mixed_precision import mixed_precision
from jaxnn.transforms._warm_start import WarmStart, resize, warm_start
from jaxnn.transforms.depth import remat, repeat

__all__ = [
    "WarmStart",
    "capture",
    "freeze",
    "lora",
    "merge_lora",
    "mixed_precision",
    "remat",
    "repeat",
    "resize",
    "warm_start",
]
