"""Metrics against scikit-learn and numbers by hand, however the examples are cut into parts."""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as theirs

from jaxnn import metrics
from tests.registry import real, whole

pytestmark = pytest.mark.usefixtures("strict")

LOGITS, LABELS = real(60, 5), whole(5, 60)
WEIGHTS = np.abs(real(60, seed=3))
ONES = np.ones(60, np.float32)


def merged(metric, *arrays):
    """Returns the value over three parts, merged."""
    borders = ([0, 20], [20, 40], [40, 60])
    metric = jax.jit(metric)
    first, *rest = [metric(*(jnp.array(a[i:j]) for a in arrays)) for i, j in borders]
    for part in rest:
        first = metrics.merge(first, part)
    return float(first.value())


def test_by_hand():
    numbers, weights = jnp.array([1.0, 2.0, 6.0, jnp.nan]), jnp.array([1.0, 1.0, 2.0, 0.0])
    assert float(metrics.mean(numbers, weights).value()) == 15 / 4
    assert np.isnan(metrics.mean(numbers, jnp.zeros(4)).value())
    assert float(metrics.mean(jnp.array([True, False]), jnp.ones(2)).value()) == 0.5
    logits, labels = jnp.array([[1.0, 3, 2], [5, 4, 0], [0, 1, 2]]), jnp.array([1, 1, 0])
    assert float(metrics.accuracy(logits, labels, jnp.ones(3)).value()) == pytest.approx(1 / 3)
    assert float(metrics.top_k(logits, labels, jnp.ones(3), 2).value()) == pytest.approx(2 / 3)
    # Predictions 1, 2, 4 of 1, 2, 3: SSE = 1, SST = 2. Always predicting the mean gives 0.
    targets = jnp.array([1.0, 2.0, 3.0])
    assert float(metrics.r_squared(jnp.array([1.0, 2, 4]), targets, jnp.ones(3)).value()) == 0.5
    assert float(metrics.r_squared(jnp.full(3, 2.0), targets, jnp.ones(3)).value()) == 0.0


@pytest.mark.parametrize("weights", [ONES, WEIGHTS], ids=["alike", "weighted"])
def test_accuracy(weights):
    wanted = theirs.accuracy_score(LABELS, LOGITS.argmax(1), sample_weight=weights)
    assert merged(metrics.accuracy, LOGITS, LABELS, weights) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("weights", [ONES, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k(weights, k):
    wanted = theirs.top_k_accuracy_score(LABELS, LOGITS, k=k, sample_weight=weights)
    found = merged(lambda *a: metrics.top_k(*a, k), LOGITS, LABELS, weights)
    assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("weights", [ONES, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("features", [(), (3,)])
def test_r_squared(weights, features):
    targets = 2 * real(60, *features, seed=5) + 1
    predictions = targets + 0.5 * real(60, *features, seed=6)
    wanted = theirs.r2_score(targets, predictions, sample_weight=weights)
    spread = np.broadcast_to(weights.reshape(-1, *(1 for _ in features)), targets.shape)
    assert merged(metrics.r_squared, predictions, targets, spread) == pytest.approx(
        wanted, rel=1e-4
    )


@pytest.mark.parametrize("features", [(), (3,)])
@pytest.mark.parametrize("size", [0, 1, 7, 100])
def test_r_squared_of_targets_far_from_0(size, features):
    """Their mean is up to 10,000 deviations from 0; batches differ in their means, and in size."""
    targets = np.float32(2 * real(2000, *features, seed=5) + 20_000)
    predictions = np.float32(targets + real(2000, *features, seed=6))
    weights = np.abs(real(2000, seed=3))
    spread = np.broadcast_to(weights.reshape(-1, *(1 for _ in features)), targets.shape)
    wanted = theirs.r2_score(*np.float64((targets, predictions)), sample_weight=weights)
    metric = jax.jit(metrics.r_squared)
    parts = [
        metric(*(jnp.array(x[rows]) for x in (predictions, targets, spread)))
        for rows in np.array_split(np.argsort(weights), size + 1)
    ]
    assert float(reduce(metrics.merge, parts).value()) == pytest.approx(wanted, rel=1e-5)


def test_tokens_count_one_by_one():
    logits, labels = real(60, 4, 5), whole(5, 60, 4)
    weights = whole(2, 60, 4).astype(np.float32)
    kept = weights.ravel() > 0
    wanted = theirs.accuracy_score(labels.ravel()[kept], logits.argmax(-1).ravel()[kept])
    assert merged(metrics.accuracy, logits, labels, weights) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 3.3, 2000.0])
def test_r_squared_of_targets_that_do_not_vary(constant):
    """There is no variance to explain, and the rounding of sums is none."""
    targets = np.full(60, constant, np.float32)
    assert np.isnan(merged(metrics.r_squared, targets + np.float32(0.01), targets, ONES))
