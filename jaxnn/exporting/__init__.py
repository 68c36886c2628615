"""Model export: a single file that predicts without the code that trained the model."""

from jaxnn.exporting._export import export
from jaxnn.exporting._load_model import Model, load_model
from jaxnn.exporting.description import CorruptModel, Description
from jaxnn.exporting.onnx_file import NotTranslated
from jaxnn.runs.verifying import WrongPredictions
from jaxnn.storage.specs import Spec

__all__ = [
    "CorruptModel",
    "Description",
    "Model",
    "NotTranslated",
    "Spec",
    "WrongPredictions",
    "export",
    "load_model",
]
