"""Metrics of probabilities against NumPy and numbers by hand, however the examples are cut."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn import metrics
from jaxnn.metrics import calibration_error, disagreement
from tests.registry import real, whole

pytestmark = pytest.mark.usefixtures("strict")

# Some are right by chance and the others by law, so that some parts are too sure and others not.
LOGITS = 2 * real(60, 5)
LABELS = np.where(whole(2, 60) == 0, whole(5, 60), LOGITS.argmax(-1).astype(np.int32))
MEMBERS = 2 * real(3, 60, 5)
WEIGHTS = np.abs(real(60, seed=3))
ONES = np.ones(60, np.float32)
weighted = pytest.mark.parametrize("weights", [ONES, WEIGHTS], ids=["alike", "weighted"])


def softmax(logits):
    odds = np.exp(np.asarray(logits, np.float64))
    return odds / odds.sum(-1, keepdims=True)


def calibration_by_hand(logits, labels, weights, bins):
    """Part after part: the accuracy and the mean confidence of what is in it."""
    chances = softmax(logits)
    confidence, right = chances.max(-1), chances.argmax(-1) == labels
    error = 0.0
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins) & (weights > 0)
        if inside.any():
            share = np.average(right[inside], weights=weights[inside])
            sure = np.average(confidence[inside], weights=weights[inside])
            error += weights[inside].sum() / weights.sum() * abs(share - sure)
    return error


def disagreement_by_hand(logits, weights):
    """The entropy of the mean less the mean of the entropies."""
    chances = softmax(logits)
    of_mean = -(chances.mean(0) * np.log(chances.mean(0))).sum(-1)
    of_each = -(chances * np.log(chances)).sum(-1)
    return np.average(of_mean - of_each.mean(0), weights=weights)


def value(metric, *arrays):
    return float(jax.jit(metric)(*map(jnp.asarray, arrays)).value())


def merged(metric, *arrays, axes):
    """Returns the value over three parts of the examples, merged."""
    parts = zip(*(np.split(array, 3, axis) for array, axis in zip(arrays, axes)))
    first, *rest = [jax.jit(metric)(*map(jnp.asarray, part)) for part in parts]
    for part in rest:
        first = metrics.merge(first, part)
    return float(first.value())


@weighted
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error(weights, bins):
    wanted = calibration_by_hand(LOGITS, LABELS, weights, bins)
    arrays, metric = (LOGITS, LABELS, weights), partial(calibration_error, bins=bins)
    assert value(metric, *arrays) == pytest.approx(wanted, rel=1e-5)
    assert merged(metric, *arrays, axes=(0, 0, 0)) == pytest.approx(wanted, rel=1e-5)


def test_calibration_error_has_fifteen_parts():
    wanted = calibration_by_hand(LOGITS, LABELS, WEIGHTS, 15)
    assert value(calibration_error, LOGITS, LABELS, WEIGHTS) == pytest.approx(wanted, rel=1e-5)


@weighted
def test_disagreement(weights):
    wanted = disagreement_by_hand(MEMBERS, weights)
    assert wanted > 0.05
    assert value(disagreement, MEMBERS, weights) == pytest.approx(wanted, rel=1e-5)
    found = merged(disagreement, MEMBERS, weights, axes=(1, 0))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_what_is_right_as_often_as_it_is_sure_is_calibrated():
    """Four examples of confidence 3/4, three of them right; two of confidence 1/2, one right."""
    logits = np.log([[3.0, 1.0]] * 4 + [[1.0, 1.0]] * 2).astype(np.float32)
    labels = np.array([0, 0, 1, 0, 0, 1], np.int32)
    assert value(calibration_error, logits, labels, np.ones(6, np.float32)) < 1e-6


def test_what_is_sure_and_wrong_is_not_calibrated_at_all():
    logits, labels = np.float32([[100.0, 0.0]] * 3), np.ones(3, np.int32)
    assert value(calibration_error, logits, labels, np.ones(3, np.float32)) == 1.0
    assert value(calibration_error, logits, 1 - labels, np.ones(3, np.float32)) == 0.0


def test_parts_that_err_in_opposite_ways_do_not_make_up_for_each_other():
    """Confidence 3/4 and never right, confidence 1/4 and always: (3/4 + 3/4) / 2, not 0."""
    logits = np.log([[9.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]).astype(np.float32)
    labels = np.array([1, 0], np.int32)
    found = value(calibration_error, logits, labels, np.ones(2, np.float32))
    assert found == pytest.approx((3 / 4 + 3 / 4) / 2, rel=1e-6)


def test_a_border_belongs_to_the_part_below_it():
    """Confidence 1/2 and wrong, 3/4 and right: two parts of two, not one where they make up."""
    logits, labels = np.log([[1.0, 1.0], [3.0, 1.0]]).astype(np.float32), np.array([1, 0], np.int32)
    found = value(partial(calibration_error, bins=2), logits, labels, np.ones(2, np.float32))
    assert found == pytest.approx((1 / 2 + 1 / 4) / 2, rel=1e-6)


def test_members_that_say_the_same_do_not_disagree():
    alike = np.broadcast_to(LOGITS, (3, 60, 5))
    assert abs(value(disagreement, alike, ONES)) < 1e-6


def test_members_that_are_sure_of_different_classes_disagree_by_a_bit():
    logits = np.float32([[[100.0, 0.0]], [[0.0, 100.0]]])
    found = value(disagreement, logits, np.ones(1, np.float32))
    assert found == pytest.approx(math.log(2), rel=1e-6)


def test_a_class_that_is_ruled_out_counts_nothing():
    logits = np.float32([[[1.0, 2.0, -np.inf]], [[2.0, 1.0, -np.inf]]])
    wanted = disagreement_by_hand(logits[..., :2], np.ones(1))
    found = value(disagreement, logits, np.ones(1, np.float32))
    assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("padding", [np.nan, 1e30])
def test_examples_of_weight_0_count_nothing(padding):
    counted = (WEIGHTS > 0.5).astype(np.float32)
    logits = np.where(counted[:, None] > 0, LOGITS, np.float32(padding))
    wanted = calibration_by_hand(LOGITS, LABELS, counted, 15)
    assert value(calibration_error, logits, LABELS, counted) == pytest.approx(wanted, rel=1e-5)
    members = np.where(counted[:, None] > 0, MEMBERS, np.float32(padding))
    wanted = disagreement_by_hand(MEMBERS, counted)
    assert value(disagreement, members, counted) == pytest.approx(wanted, rel=1e-5)


def test_what_is_not_a_number_is_seen():
    broken = np.where(np.arange(60)[:, None] == 7, np.float32(np.nan), LOGITS)
    assert not math.isfinite(value(calibration_error, broken, LABELS, ONES))
    assert not math.isfinite(value(disagreement, broken[None], ONES))


def test_where_nothing_has_weight_there_is_no_value():
    assert math.isnan(value(calibration_error, LOGITS, LABELS, 0 * ONES))
    assert math.isnan(value(disagreement, MEMBERS, 0 * ONES))


def test_tokens_count_one_by_one():
    logits, labels = 2 * real(60, 4, 5), whole(5, 60, 4)
    weights = whole(2, 60, 4).astype(np.float32)
    wanted = calibration_by_hand(logits.reshape(240, 5), labels.ravel(), weights.ravel(), 15)
    assert value(calibration_error, logits, labels, weights) == pytest.approx(wanted, rel=1e-5)
    members = 2 * real(2, 60, 4, 5)
    wanted = disagreement_by_hand(members, weights)
    assert value(disagreement, members, weights) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("bins", [0, -1])
def test_bins_are_at_least_one(bins):
    with pytest.raises(jaxnn.InvalidValue, match="bins is out of range.* Pass, say, bins=1"):
        calibration_error(jnp.asarray(LOGITS), jnp.asarray(LABELS), jnp.asarray(ONES), bins=bins)
