"""Searches of scikit-learn whose fits, of all settings and folds, are one program.

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

from jaxnn.sklearn.population import Problems, collected, solved
from jaxnn.typing import Any


class _Together:
    """Precedes a search of scikit-learn, and trains its fits together before it asks for them.

    The search runs twice: a rehearsal without scores, in which the fits are collected, and then in
    earnest, where it finds them done. Whatever the rehearsal has not seen is fitted as ever.
    """

    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fits all settings on all folds, and the best on all examples; see `GridSearchCV.fit`."""
        search: Any = super()
        # In another process or thread nothing would be collected.
        with parallel_config("sequential"):
            with solved(self._rehearse(X, y, params)):
                return search.fit(X, y, **params)

    def _rehearse(self, X: Any, y: Any, params: dict[str, Any]) -> Problems:
        rehearsal: Any = clone(self)  # pyright: ignore
        rehearsal.set_params(scoring=_no_score, refit=False, error_score=np.nan, verbose=0)
        rehearsal.set_params(return_train_score=False)
        drawn = np.random.get_state()
        try:
            # What fails here is reported when it fails again.
            with collected() as problems, warnings.catch_warnings(), suppress(Exception):
                warnings.simplefilter("ignore")
                search: Any = super(_Together, rehearsal)
                search.fit(X, y, **params)
        finally:
            np.random.set_state(drawn)  # what is random comes out again
        return problems


def _no_score(estimator: Any, X: Any, y: Any) -> float:
    return 0.0


class GridSearch(_Together, GridSearchCV):
    """`GridSearchCV` for a `Classifier` or `Regressor`, alone or in a pipeline, as one program.

    Parameters, attributes and results are those of `GridSearchCV`, and so are the scores. Settings
    that change numbers only (`alpha`, `learning_rate_init`, `dropout`, `random_state`,
    `class_weight`) train as one population with all their folds, on all devices; each combination
    of others, such as `hidden_layer_sizes`, is a population of its own. `n_jobs` is not used.
    """


class RandomizedSearch(_Together, RandomizedSearchCV):
    """`RandomizedSearchCV` for a `Classifier` or `Regressor`; see `GridSearch`."""
