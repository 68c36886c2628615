"""A neural network regressor with the interface of scikit-learn.

>>> import numpy as np
>>> X = np.linspace(-1, 1, 50)[:, None]
>>> regressor = Regressor((16,), learning_rate_init=0.02, random_state=0).fit(X, 2 * X[:, 0])
>>> regressor.predict([[0.5]]).round(1).tolist()
[1.0]
"""

from dataclasses import dataclass

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import column_or_1d

from jaxnn.data._fields import to_float32
from jaxnn.sklearn.estimator import Estimator
from jaxnn.typing import Any


@dataclass(eq=False, repr=False, kw_only=True)
class Regressor(RegressorMixin, Estimator):
    """A network that predicts one or more numbers for each example.

    Parameters have the names of scikit-learn's `MLPRegressor` where they mean the same. All
    parameters of `Classifier` except `class_weight` are available.

    Args:
      loss: the loss to minimize: `squared_error`, `absolute_error`, `huber`, or an elementwise JAX
        function `(predictions, targets) -> errors`.
      **parameters: see `Classifier`. Early stopping uses the R^2 score.

    Attributes: the attributes of `Classifier`, without `classes_`.
    """

    loss: Any = "squared_error"

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Trains for one epoch on the given examples, from the state of the previous call."""
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> np.ndarray:
        """Returns the predicted numbers, in the shape of the targets: `[n]` or `[n, targets]`."""
        outputs = self._outputs(X).astype(np.float64)  # as scikit-learn requires
        return outputs[:, 0] if self._is_single else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets(self, y, weights, known):
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._is_single = y.ndim == 1
        outputs = 1 if self._is_single else y.shape[1]
        targets = to_float32("Regressor", "y", np.asarray(y, np.float64))
        return targets, weights, self.loss, outputs
