"""Grid and randomized search that trains the fits of all settings and folds together.

>>> import numpy as np
>>> from jaxnn.sklearn._classifier import Classifier
>>> X = np.linspace(-1, 1, 60)[:, None]
>>> y = np.abs(X[:, 0]) > 0.5
>>> estimator = Classifier((8,), max_iter=50, random_state=0)
>>> search = GridSearch(estimator, {"learning_rate_init": [1e-5, 0.05]}, cv=3).fit(X, y)
>>> search.best_params_
{'learning_rate_init': 0.05}
"""

import warnings
from contextlib import suppress

import numpy as np
from joblib import parallel_config
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from jaxnn.sklearn.outcome import Problem
from jaxnn.sklearn.population import collected, solved
from jaxnn.typing import Any


class _Together:
    """A mixin for a scikit-learn search, which trains all fits before the search runs.

    The search runs twice. A rehearsal without scores collects the fits, which then train together;
    the second run looks up their outcomes. A fit that was not in the rehearsal trains as usual.
    """

    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fits all settings on all folds, and the best on all examples; see `GridSearchCV.fit`."""
        search: Any = super()
        # Fits are only collected in this thread.
        with parallel_config("sequential"):
            with solved(self._rehearse(X, y, params)):
                return search.fit(X, y, **params)

    def _rehearse(self, X: Any, y: Any, params: dict[str, Any]) -> list[Problem]:
        rehearsal: Any = clone(self)  # pyright: ignore
        rehearsal.set_params(scoring=_no_score, refit=False, error_score=np.nan, verbose=0)
        rehearsal.set_params(return_train_score=False)
        drawn = np.random.get_state()
        try:
            # An error is ignored here, because the second run raises it again.
            with collected() as problems, warnings.catch_warnings(), suppress(Exception):
                warnings.simplefilter("ignore")
                search: Any = super(_Together, rehearsal)
                search.fit(X, y, **params)
        finally:
            np.random.set_state(drawn)  # the second run draws the same numbers
        return problems


def _no_score(estimator: Any, X: Any, y: Any) -> float:
    return 0.0


class GridSearch(_Together, GridSearchCV):
    """A `GridSearchCV` for a `Classifier` or `Regressor`, alone or in a pipeline.

    Parameters, attributes and scores are the same as in `GridSearchCV`. Settings that only change
    numbers (`alpha`, `learning_rate_init`, `dropout`, `random_state`, `class_weight`) train as one
    population, with all their folds, on all devices. Each combination of other settings, such as
    `hidden_layer_sizes`, is a separate population. `n_jobs` is ignored.
    """


class RandomizedSearch(_Together, RandomizedSearchCV):
    """A `RandomizedSearchCV` for a `Classifier` or `Regressor`; see `GridSearch`."""
