"""Pictures: figures of arrays and records, which know nothing of the runs that made them.

Each function returns a matplotlib `Figure` as wide as a column of text, in one look (`scheme`):

    from jaxnn import pictures
    pictures.curves(run.history).savefig("curves.svg")

They open no window, and leave matplotlib's settings alone.
"""

from jaxnn.pictures import scheme
from jaxnn.pictures.attention import attention, attention_weights
from jaxnn.pictures.boundary import boundary
from jaxnn.pictures.confusion import confusion, confusion_matrix
from jaxnn.pictures.curves import curves
from jaxnn.pictures.examples import examples
from jaxnn.pictures.filters import filters
from jaxnn.pictures.gradient_flow import gradient_flow
from jaxnn.pictures.histograms import activations, weights
from jaxnn.pictures.images import image_grid
from jaxnn.pictures.network import network
from jaxnn.pictures.neuron import neuron
from jaxnn.pictures.scheme import canvas, svg
from jaxnn.pictures.sweep import sweep

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
