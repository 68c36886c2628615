"""Sums are exact at any length: in evaluation, in the window of training, and for a population.

A weight of 2**24 stands for as many examples: after it, a float32 sum alone would not count on.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import metrics
from jaxnn.loop._population import population
from jaxnn.loop._run import run

MANY = 2.0**24
WEIGHTS = np.array([MANY] + [1.0] * 64, np.float32)
LABELS = np.array([0] * 33 + [1] * 32, np.int32)  # the last 32 are wrong
INPUTS = np.zeros((65, 1), np.float32)
DATA = {"inputs": INPUTS, "labels": LABELS, "weights": WEIGHTS}
ACCURACY = (MANY + 32) / (MANY + 64)


def constant(params, state, inputs, *, key=None):
    """Always answers class 0."""
    logits = jnp.array([[1.0, 0.0]]) + 0 * inputs + 0 * params["weight"]
    return logits, state


LEARNER = jaxnn.learner(
    jaxnn.network.Network(lambda key, inputs: ({"weight": jnp.zeros(())}, {}), constant),
    jaxnn.classification(),
    optax.sgd(0.0),
)
STATE = LEARNER.init(jax.random.key(0), {}, DATA)


def counted(sums):
    right, total = (np.asarray(x, np.float64) for x in sums)
    return total - right, total


@pytest.mark.parametrize("batch_size", [1, 2, 5, 13])
def test_an_evaluation_counts_past_what_float32_counts(batch_size):
    data = jaxnn.resident(DATA, batch_size=batch_size)
    found = jaxnn.evaluate(LEARNER, STATE, data)
    assert found["accuracy"] == np.float32(ACCURACY)


@pytest.mark.parametrize("members", [None, 2])
def test_the_window_of_training_counts_on(members):
    data = jaxnn.resident(DATA, batch_size=1)
    if members:
        data = data.shuffled(jaxnn.keys(range(members)))
        states = jax.tree.map(lambda x: jnp.stack([x] * members), STATE)
        window = jax.jit(population(run), static_argnums=0)(LEARNER, states, data, 130)[1]
    else:
        window = jax.jit(run, static_argnums=0)(LEARNER, STATE, data, 130)[1]
    wrong, total = counted(window["accuracy"].sums)
    np.testing.assert_array_equal(total, 2 * (MANY + 64))
    np.testing.assert_array_equal(wrong, 64)


@pytest.mark.parametrize("numbers", [[0.1] * 3, [1e8, 1.0, -1e8], [np.inf, 1.0, 2.0]], ids=str)
def test_merging_is_addition_without_rounding(numbers):
    def add(total, number):
        return metrics.merge(total, metrics.mean(number[None], jnp.ones(1))), None

    numbers = np.tile(np.float32(numbers), 4096)
    empty = metrics.mean(jnp.zeros(1), jnp.zeros(1))
    total, _ = jax.jit(lambda x: jax.lax.scan(add, empty, x))(numbers)
    exact = numbers.astype(np.float64).sum()
    assert total.sums[0] == np.float32(exact) and total.sums[1] == len(numbers)


def test_the_gradient_of_a_sum_is_that_of_plain_addition():
    def total(x):
        parts = [metrics.mean(part[None], jnp.ones(1)) for part in x]
        return metrics.merge(metrics.merge(parts[0], parts[1]), parts[2]).value()

    np.testing.assert_allclose(jax.grad(total)(jnp.array([1e8, 1.0, -3.0])), 1 / 3, rtol=1e-6)
