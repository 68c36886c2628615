"""The estimators in the tools of scikit-learn: pipelines, cross-validation, searches, pickles."""

import pickle

import numpy as np
import optax
import pytest

import jaxnn

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxnn.sklearn import Classifier, Regressor

X, Y = make_classification(100, 6, n_informative=4, n_classes=3, class_sep=2.0, random_state=0)
QUICK = {"learning_rate_init": 0.02, "max_iter": 15, "random_state": 0}


def quick(**changes):
    return Classifier((16,), **{**QUICK, **changes})


def bits(estimator):
    return [x.tobytes() for x in jaxnn.names.named_leaves(estimator.params_).values()]


def test_folds_of_one_size_compile_once(compilations):
    cross_val_score(quick(), X, Y, cv=4)
    compilations.clear()
    scores = cross_val_score(quick(alpha=0.01, learning_rate_init=0.03, random_state=1), X, Y, cv=4)
    assert not compilations and scores.mean() > 0.7


def test_a_pipeline_is_searched_cloned_and_pickled():
    pipeline = make_pipeline(StandardScaler(), quick())
    search = GridSearchCV(pipeline, {"classifier__learning_rate_init": [1e-5, 0.02]}, cv=2)
    search.fit(X, Y)
    assert search.best_params_ == {"classifier__learning_rate_init": 0.02}
    again = pickle.loads(pickle.dumps(search.best_estimator_))  # noqa: S301
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))
    with pytest.raises(NotFittedError):
        clone(again).predict(X)


def test_a_seed_decides_every_bit():
    first, same, other = (quick(random_state=seed).fit(X, Y) for seed in (3, 3, 4))
    assert bits(first) == bits(same) != bits(other)
    assert first.loss_curve_ == same.loss_curve_ and len(first.loss_curve_) == first.n_iter_ == 15


def test_a_prediction_does_not_depend_on_the_others():
    classifier = quick(max_iter=2).fit(X, Y)
    alone = np.concatenate([classifier.predict_proba(x[None]) for x in X[:5]])
    np.testing.assert_array_equal(alone, classifier.predict_proba(np.tile(X, (5, 1)))[:5])


def test_labels_are_of_any_type():
    names = np.array(["cat", "dog", "owl"])[Y]
    classifier = quick().fit(X, names)
    assert classifier.classes_.tolist() == ["cat", "dog", "owl"]
    assert classifier.score(X, names) > 0.8
    probabilities = classifier.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(X)), probabilities, rtol=1e-6)
    np.testing.assert_array_equal(
        names[probabilities.argmax(1) == Y], classifier.predict(X)[probabilities.argmax(1) == Y]
    )


def test_labels_may_be_several_of_each_example():
    marks = np.stack([Y == 0, X[:, 0] > 0], 1).astype(int)
    classifier = quick(max_iter=60).fit(X, marks)
    assert classifier.classes_.tolist() == [0, 1] and classifier.score(X, marks) > 0.8
    probabilities = classifier.predict_proba(X)
    np.testing.assert_array_equal(classifier.predict(X), probabilities > 0.5)
    sparse = pytest.importorskip("scipy.sparse").csr_matrix(marks)
    same = quick(max_iter=60).fit(X, sparse)
    np.testing.assert_array_equal(same.predict_proba(X), probabilities)
    stopped = quick(early_stopping=True, max_iter=3).fit(X, marks)
    assert len(stopped.validation_scores_) == 3
    resumed = quick().partial_fit(X, marks, classes=[0, 1])
    with pytest.raises(ValueError, match="other marks than before"):
        resumed.partial_fit(X, np.ones((100, 3), int))


def test_a_data_frame_gives_its_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"x{i}" for i in range(6)])
    classifier = quick().fit(frame, pandas.Series(Y))
    assert classifier.feature_names_in_.tolist() == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(frame.rename(columns={"x0": "other"}))


@pytest.mark.slow
def test_several_targets_are_predicted():
    inputs, targets = make_regression(100, 5, n_targets=2, random_state=0)
    targets = StandardScaler().fit_transform(targets)
    regressor = Regressor((32,), learning_rate_init=0.02, max_iter=60, random_state=0)
    assert regressor.fit(inputs, targets).predict(inputs).shape == (100, 2)
    assert regressor.score(inputs, targets) > 0.8
    assert regressor.fit(inputs, targets[:, 0]).predict(inputs).shape == (100,)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["absolute_error", "huber"])
def test_losses_have_names(loss):
    inputs, targets = make_regression(100, 3, random_state=0)
    targets = targets / targets.std()
    regressor = Regressor((32,), loss=loss, learning_rate_init=0.02, max_iter=60, random_state=0)
    assert regressor.fit(inputs, targets).score(inputs, targets) > 0.7


@pytest.mark.slow
def test_weights_are_repetitions():
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = quick().fit(X, Y, sample_weight=weights)
    repeated = quick().fit(X.repeat(weights, 0), Y.repeat(weights))
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-2, atol=1e-4
    )


@pytest.mark.slow
def test_balanced_classes_weigh_as_much():
    rare = np.flatnonzero(Y == 0)[5:]
    inputs, labels = np.delete(X, rare, 0), np.delete(Y, rare)
    weights = len(labels) / (3 * np.bincount(labels))
    balanced = quick(class_weight="balanced").fit(inputs, labels)
    by_hand = quick().fit(inputs, labels, sample_weight=weights[labels])
    assert bits(balanced) == bits(by_hand) != bits(quick().fit(inputs, labels))


@pytest.mark.slow
def test_early_stopping_takes_the_best_epoch():
    classifier = quick(
        early_stopping=True, n_iter_no_change=3, max_iter=200, validation_fraction=0.3
    )
    classifier.fit(X, Y)
    scores = classifier.validation_scores_
    assert len(scores) == classifier.n_iter_ < 200
    assert max(scores) == classifier.best_validation_score_ > 0.7
    assert scores.index(max(scores)) < classifier.n_iter_ - 1


def test_training_stops_when_the_loss_does():
    classifier = quick(tol=0.5, n_iter_no_change=2, max_iter=200).fit(X, Y)
    assert classifier.n_iter_ == len(classifier.loss_curve_) < 50


def test_partial_fit_resumes():
    labels = np.array(["a", "b", "c"])[Y]
    classifier = quick()
    for _ in range(15):
        classifier.partial_fit(X, labels, classes=["a", "b", "c"])
    whole = quick().fit(X, labels)
    assert classifier.loss_curve_ == pytest.approx(whole.loss_curve_, rel=1e-4)
    with pytest.raises(ValueError, match="no known class"):
        classifier.partial_fit(X, np.full(100, "d"))
    with pytest.raises(ValueError, match="classes=numpy.unique"):
        quick().partial_fit(X, Y)


def test_a_warm_start_begins_where_the_last_fit_ended():
    classifier = quick(warm_start=True).fit(X, Y)
    first, last = classifier.loss_curve_[0], classifier.loss_
    assert classifier.fit(X, Y).loss_curve_[0] < min(first, 1.5 * last)
    with pytest.raises(ValueError, match="warm_start=False"):
        classifier.set_params(hidden_layer_sizes=(8,)).fit(X, Y)


@pytest.mark.slow
def test_networks_and_optimizers_are_ones_own():
    def network(n_features, n_outputs):
        assert n_features == 6
        return jaxnn.serial(jaxnn.layer_norm(), jaxnn.mlp([16], n_outputs))

    classifier = quick(network=network, optimizer=lambda rate: optax.adamw(rate))
    assert classifier.fit(X, Y).score(X, Y) > 0.7
    assert "0" in classifier.params_ and classifier.network_.parts.kind == "serial"
    fixed = quick(network=jaxnn.mlp([8], 3), optimizer=optax.adam(0.02), dropout=0.1)
    assert clone(fixed).fit(X, Y).score(X, Y) > 0.7


MISTAKES = {
    "activation": ({"activation": "rleu"}, "Did you mean 'relu'"),
    "optimizer": ({"optimizer": "adaam"}, "Did you mean 'adam'"),
    "network": ({"network": 3}, "jaxnn.mlp"),
    "outputs": ({"network": jaxnn.mlp([4], 2)}, "out of range"),
    "layer": ({"hidden_layer_sizes": (0,)}, "features is out of range"),
    "epochs": ({"max_iter": 0}, "max_iter is out of range"),
    "rate": ({"learning_rate_init": -1.0}, "learning_rate_init is out of range"),
    "alpha": ({"alpha": -1.0}, "alpha is out of range"),
    "batch": ({"batch_size": 2.5}, "batch_size is out of range"),
    "infinite": ({"learning_rate_init": 1e30}, "StandardScaler"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_say_what_to_do(mistake):
    changes, message = MISTAKES[mistake]
    with pytest.raises((ValueError, TypeError, ArithmeticError), match=message):
        quick().set_params(**changes).fit(X, Y)


STAMPS = np.array([[1_700_000_000], [1_700_000_001]] * 10)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_whole_numbers_that_float32_would_merge_are_refused(dtype):
    stamps = STAMPS.astype(dtype)
    with pytest.raises(ValueError, match=r"X holds whole numbers .* 1700000001 at X\[1, 0\]"):
        quick().fit(stamps, [0, 1] * 10)
    with pytest.raises(ValueError, match="y holds whole numbers"):
        Regressor((4,)).fit(stamps - stamps.min(), stamps[:, 0])
    fitted = quick().fit(stamps - stamps.min(), [0, 1] * 10)
    with pytest.raises(ValueError, match="X holds whole numbers"):
        fitted.predict(stamps)
