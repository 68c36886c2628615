"""Estimators for scikit-learn: networks that its pipelines, cross-validation and searches take."""

from jaxnn.sklearn._classifier import Classifier
from jaxnn.sklearn._grid_search import GridSearch, RandomizedSearch
from jaxnn.sklearn._regressor import Regressor

__all__ = ["Classifier", "GridSearch", "RandomizedSearch", "Regressor"]
