"""What is too large to be recorded cheaply is left out: outputs of many classes."""

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.observing import observation
from jaxnn.observing.plan import schedule
from tests.registry import real


@pytest.mark.parametrize("classes", [5, observation.CLASSES + 1])
def test_the_confusion_of_many_classes_is_left_out(classes, monkeypatch):
    monkeypatch.setattr(observation, "NUMBERS", 8 * classes)
    data = {"inputs": real(40, 3), "labels": np.arange(40) % classes}
    data = jaxnn.resident(data, batch_size=4)
    learner = jaxnn.learner(jaxnn.linear(classes), jaxnn.classification(), optax.sgd(0.1))
    state = learner.init(jax.random.key(0), {}, data.take(np.arange(4)))
    found = observation.final_predictions(learner, state, data, "classification")
    assert ("confusion" in found) == (classes == 5)
    assert found["best/outputs"].shape == (8, classes)  # all that are looked at
    if classes == 5:
        assert found["confusion"].sum() == 8


def test_large_outputs_are_observed_for_no_more_examples_than_a_batch_of_training():
    probed = {}
    for classes in (5, observation.NUMBERS // 8, observation.NUMBERS):
        fields = {"inputs": real(40, 3), "labels": np.arange(40) % 5}
        learner = jaxnn.learner(jaxnn.linear(classes), jaxnn.classification(), optax.sgd(0.1))
        data = jaxnn.resident(fields, batch_size=4)
        training = jaxnn.train(learner, data, steps=3, key=jax.random.key(0))
        probed[classes] = schedule(training).probed
    assert [*probed.values()] == [40, 8, 4]
