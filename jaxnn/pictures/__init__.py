"""Pictures: functions that draw matplotlib figures of arrays and records of training.

The drawing functions return a `Figure`, most of them as wide as a column of text, in one style:

    from jaxnn import pictures
    pictures.curves(run.history).savefig("curves.svg")

They do not depend on runs, open no windows, and do not change the settings of matplotlib. The style
is defined in `jaxnn.pictures.scheme`.
"""

from jaxnn.pictures import scheme
from jaxnn.pictures._attention import attention, attention_weights
from jaxnn.pictures._boundary import boundary
from jaxnn.pictures._confusion import confusion, confusion_matrix
from jaxnn.pictures._curves import curves
from jaxnn.pictures._examples import examples
from jaxnn.pictures._filters import filters
from jaxnn.pictures._network import network
from jaxnn.pictures._neuron import neuron
from jaxnn.pictures._sweep import sweep
from jaxnn.pictures.images import image_grid
from jaxnn.pictures.layers import activations, gradient_flow, weights
from jaxnn.pictures.scheme import canvas, svg

__all__ = [
    "activations",
    "attention",
    "attention_weights",
    "boundary",
    "canvas",
    "confusion",
    "confusion_matrix",
    "curves",
    "examples",
    "filters",
    "gradient_flow",
    "image_grid",
    "network",
    "neuron",
    "scheme",
    "svg",
    "sweep",
    "weights",
]
