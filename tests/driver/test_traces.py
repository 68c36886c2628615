"""Python runs a network's functions once for each program that they are part of."""

from collections import Counter

import jax
import numpy as np
import optax
import pytest

import jaxnn

DRAWS = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)


def counted(network):
    """Returns the network, and how often each of its functions was called by Python."""
    calls = Counter()

    def init(key, inputs):
        calls["init"] += 1
        return network.init(key, inputs)

    def apply(params, state, inputs, *, key=None):
        calls["apply"] += 1
        return network.apply(params, state, inputs, key=key)

    return network._replace(init=init, apply=apply), calls


def rate(hparams):
    return optax.sgd(hparams["learning_rate"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hparams": {"learning_rate": 0.1}},
        {"execution": jaxnn.Execution(form="stepped")},
        {"watch": "test/loss"},
        {"key": jaxnn.keys([0, 1, 2])},
        {"hparams": {"learning_rate": np.float32([0.1, 0.2, 0.3])}, "watch": "test/loss"},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_a_run_traces_init_once_and_apply_three_times(options):
    """Once for its outputs, which are checked, once in a step, and once in an evaluation."""
    network, calls = counted(jaxnn.mlp([4], 1))
    optimizer = rate if "hparams" in options else optax.sgd(0.1)
    learner = jaxnn.learner(network, jaxnn.regression(), optimizer)
    # Of different sizes, as they are.
    arrays = {"inputs": DRAWS, "labels": DRAWS[:, :1]}
    test = jaxnn.resident(jax.tree.map(lambda x: x[:20], arrays), batch_size=10)

    def fit():
        return jaxnn.fit(
            learner,
            jaxnn.resident(arrays, batch_size=8),
            evaluate=test,
            **{"steps": 4, "key": jax.random.key(0), "quiet": True, **options},
        )

    fit()
    assert calls == {"init": 1, "apply": 3}
    fit()  # of the same learner
    assert calls == {"init": 1, "apply": 3}
