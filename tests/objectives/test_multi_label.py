"""Marks that do not exclude each other: scikit-learn's figures, and what cannot be used."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

import jaxnn
from jaxnn.checks import InvalidType, InvalidValue
from tests.registry import real, whole
from tests.trees import assert_close

pytestmark = pytest.mark.usefixtures("strict")

LOGITS, LABELS = jnp.array(3 * real(20, 4)), jnp.array(whole(2, 20, 4, dtype=np.float32))
WEIGHTS = jnp.array(whole(3, 20, dtype=np.float32))
BATCH = {"inputs": LOGITS, "labels": LABELS, "weights": WEIGHTS}


def test_the_loss_is_the_mean_of_log_losses():
    values, weights = jaxnn.multi_label().loss(LOGITS, BATCH)
    shares = 1 / (1 + np.exp(-np.asarray(LOGITS, np.float64)))
    expected = [log_loss(y, p, labels=[0, 1]) for y, p in zip(np.asarray(LABELS), shares)]
    counts = np.asarray(WEIGHTS) != 0
    assert_close(values[counts], np.float32(expected)[counts])
    assert_close(weights, WEIGHTS)


def test_the_metrics_are_those_of_scikit_learn():
    metrics = jaxnn.multi_label().metrics(LOGITS, BATCH)
    answers, truth, weights = np.asarray(LOGITS) > 0, np.asarray(LABELS) > 0, np.asarray(WEIGHTS)
    expected = {
        "accuracy": accuracy_score(truth.ravel(), answers.ravel(), sample_weight=weights.repeat(4)),
        "exact_match": accuracy_score(truth, answers, sample_weight=weights),
        "f1": f1_score(truth, answers, average="micro", sample_weight=weights),
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(metrics[name].value(), np.float32(value))


def test_labels_may_be_probabilities():
    soft = {"inputs": LOGITS, "labels": jnp.full_like(LOGITS, 0.25)}
    by_hand = optax.losses.sigmoid_binary_cross_entropy(LOGITS, soft["labels"]).mean(-1)
    assert_close(jaxnn.multi_label().loss(LOGITS, soft)[0], by_hand)


@pytest.mark.parametrize(
    "labels, error, words",
    [
        (LABELS.astype(jnp.int32), InvalidType, "astype"),
        (LABELS[:, 0], InvalidValue, "one output for each possible label"),
        (LABELS[:, :2], InvalidValue, "one output for each possible label"),
    ],
)
def test_labels_that_do_not_fit(labels, error, words):
    with pytest.raises(error, match=words):
        jaxnn.multi_label().loss(LOGITS, {"inputs": LOGITS, "labels": labels})


def test_labels_out_of_range_are_named_unless_they_weigh_nothing():
    labels = np.asarray(LABELS).copy()
    labels[3, 1] = 255.0
    goal = jaxnn.multi_label()
    with pytest.raises(InvalidValue, match=r"labels\[3, 1\]=255.0"):
        goal.check(LOGITS, {"inputs": LOGITS, "labels": labels})
    weights = np.arange(20) != 3
    goal.check(LOGITS, {"inputs": LOGITS, "labels": labels, "weights": weights})
    goal.check(LOGITS, {"inputs": LOGITS})
