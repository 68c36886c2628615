"""Networks as scikit-learn estimators, for its pipelines, cross-validation and searches."""

from jaxnn.sklearn._classifier import Classifier
from jaxnn.sklearn._grid_search import GridSearch, RandomizedSearch
from jaxnn.sklearn._regressor import Regressor

__all__ = ["Classifier", "GridSearch", "RandomizedSearch", "Regressor"]
