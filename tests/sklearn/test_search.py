"""A search as a population selects what scikit-learn's search selects, with the same scores."""

from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import make_classification, make_regression
from sklearn.decomposition import PCA
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxnn.sklearn import Classifier, GridSearch, RandomizedSearch, Regressor, population

X, Y = make_classification(101, 6, n_informative=4, n_classes=3, random_state=0)
GRID = {"learning_rate_init": [1e-4, 0.02], "alpha": [1e-4, 3.0]}
ESTIMATOR = Classifier((8,), batch_size=16, max_iter=4, random_state=0)


def assert_same(ours, theirs):
    """Asserts that scores, ranks and everything selected are the same."""
    assert ours.best_params_ == theirs.best_params_ and ours.best_index_ == theirs.best_index_
    assert ours.cv_results_.keys() == theirs.cv_results_.keys()
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    for name in ours.cv_results_:
        if "test_" in name or "train_" in name:
            np.testing.assert_allclose(
                ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-5, err_msg=name
            )


def both(estimator=ESTIMATOR, grid=GRID, kinds=(GridSearch, GridSearchCV), fit=None, **options):
    searches = [kind(estimator, grid, **options).fit(X, Y, **(fit or {})) for kind in kinds]
    assert_same(*searches)
    return searches


@pytest.fixture
def alone(monkeypatch):
    """Returns a list to which every fit that trains alone adds its problem."""
    problems, solve = [], population.solve

    def noted(problem, **options):
        problems.append(problem)
        return solve(problem, **options)

    monkeypatch.setattr(population, "solve", noted)
    return problems


def test_the_selection_and_the_scores_are_those_of_scikit_learn(alone):
    ours, theirs = both(cv=4, scoring="neg_log_loss", return_train_score=True, n_jobs=1)
    assert len(alone) == 1 + (4 * 4 + 1)  # ours fits the best alone, on all examples
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


def test_settings_and_folds_are_one_program(compilations):
    def searched(rates, **options):
        grid = {"learning_rate_init": rates, "random_state": [1, 2]}
        return GridSearch(ESTIMATOR, grid, cv=3, refit=False, **options).fit(X, Y)

    searched([1e-3, 1e-2])
    compilations.clear()
    searched([2e-3, 2e-2], scoring="accuracy")
    assert not compilations


@pytest.mark.slow
def test_shapes_form_groups_and_searches_may_be_random(alone):
    grid = {"hidden_layer_sizes": [(4,), (8,)], "class_weight": [None, "balanced"], **GRID}
    options = {"n_iter": 5, "random_state": 0, "cv": 2, "refit": False}
    both(
        grid=grid,
        kinds=(partial(RandomizedSearch, **options), partial(RandomizedSearchCV, **options)),
    )
    assert len(alone) == 10


@pytest.mark.slow
def test_a_pipeline_fits_each_step_on_its_fold(alone):
    pipeline = make_pipeline(StandardScaler(), PCA(3), ESTIMATOR)
    grid = {f"classifier__{name}": values for name, values in GRID.items()}
    both(pipeline, {"pca__n_components": [3, 4], **grid}, cv=3, refit=False)
    assert len(alone) == 3 * 8


@pytest.mark.slow
def test_what_is_random_is_drawn_as_it_would_be(alone):
    def searched(kind):
        np.random.seed(3)
        cv = ShuffleSplit(2, test_size=0.3)  # of NumPy's own generator, as are the seeds of fits
        estimator = Classifier((8,), max_iter=3)
        return kind(estimator, GRID, cv=cv, refit=False).fit(X, Y)

    assert_same(searched(GridSearch), searched(GridSearchCV))
    assert len(alone) == 8


@pytest.mark.slow
def test_early_stopping_stops_each_member_by_itself(alone):
    estimator = clone(ESTIMATOR).set_params(
        early_stopping=True, max_iter=30, n_iter_no_change=2, validation_fraction=0.2
    )
    both(estimator, {"learning_rate_init": [1e-4, 0.02], "random_state": [0, 1]}, cv=2, refit=False)
    assert len(alone) == 8


@pytest.mark.slow
def test_folds_of_very_unequal_size_with_weights_and_metrics(alone):
    groups = np.repeat([0, 1, 2], [20, 30, 51])
    fit = {"groups": groups, "sample_weight": np.linspace(0.1, 2.0, len(X))}
    both(
        cv=GroupKFold(3), fit=fit, scoring=["accuracy", "neg_log_loss"], refit="neg_log_loss",
    )  # fmt: skip
    assert len(alone) == 1 + 12 + 1


@pytest.mark.slow
def test_folds_may_lack_a_class(alone):
    order = np.argsort(Y, kind="stable")
    searches = [
        kind(ESTIMATOR, GRID, cv=KFold(3), refit=False).fit(X[order], Y[order])
        for kind in (GridSearch, GridSearchCV)
    ]
    assert_same(*searches)
    assert len(alone) == 12


@pytest.mark.slow
def test_numbers_are_searched_too(alone):
    inputs, targets = make_regression(90, 4, n_targets=2, random_state=0)
    targets = targets / targets.std(0)
    estimator = Regressor((8,), batch_size=16, max_iter=4, random_state=0)
    searches = [
        kind(estimator, {**GRID, "loss": ["huber", "squared_error"]}, cv=2).fit(inputs, targets)
        for kind in (GridSearch, GridSearchCV)
    ]
    assert_same(*searches)
    assert len(alone) == 1 + (16 + 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:.*scores are non-finite:UserWarning")
def test_a_setting_that_fails_fails_alone():
    grid = {"learning_rate_init": [1e30, 0.02, -1.0]}
    ours, _ = both(grid=grid, cv=2, error_score=0.0)
    assert ours.cv_results_["mean_test_score"].argmax() == 1
    with pytest.raises(ArithmeticError, match="StandardScaler"):
        GridSearch(ESTIMATOR, grid, cv=2, error_score="raise").fit(X, Y)
    with pytest.raises(ValueError, match="Invalid parameter 'alhpa'"):
        GridSearch(ESTIMATOR, {"alhpa": [1]}, cv=2).fit(X, Y)
