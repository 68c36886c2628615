"""The law of model files: every registered network predicts by itself what it predicts as code."""

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn.loop._evaluate import in_batches
from tests.registry import NETWORKS

QUICK = {"linear", "serial", "attention"}  # of each kind there are more among the slow ones
# What a network that is not one function of its inputs cannot do in a file.
EXEMPT = {"attention_that_remembers": "its memory is for a batch of the size that init was given"}


def cases():
    for case in NETWORKS:
        marks = [] if case.name in QUICK else [pytest.mark.slow]
        if case.nightly:
            marks = [pytest.mark.nightly]
        if case.name in EXEMPT:
            marks.append(pytest.mark.skip(reason=EXEMPT[case.name]))
        yield pytest.param(case, id=case.name, marks=marks)


@pytest.mark.parametrize("case", [*cases()])
def test_a_file_predicts_the_same_bits(case, tmp_path):
    network, inputs = case.thing, jax.tree.map(np.asarray, case.data)
    params, state = jax.jit(network.init)(jax.random.key(0), inputs)
    path = jaxnn.export((network, params, state), tmp_path / "model.jaxnn", inputs=inputs)
    model = jaxnn.load_model(path)
    apply = jax.jit(lambda params, state, x: network.apply(params, state, x)[0])
    count = len(jax.tree.leaves(inputs)[0])
    for size in {1, count}:
        part = jax.tree.map(lambda x, size=size: x[:size], inputs)
        expected = in_batches(lambda x: apply(params, state, x), part, 1024)
        jax.tree.map(np.testing.assert_array_equal, model.predict(part), expected)
