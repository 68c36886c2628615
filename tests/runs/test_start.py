"""Runs that begin from parameters that are given, and not from those that are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.driver.trial import begin
from jaxnn.learning import average
from jaxnn.storage.identity import identity
from tests.trees import assert_same_bits

KEY = jax.random.key(0)
DATA = jaxnn.resident({"inputs": np.eye(4, 3), "labels": [0, 1, 0, 1]}, batch_size=2)
NETWORK = jaxnn.mlp([5], 2)
PARAMS, _ = NETWORK.init(jax.random.key(7), jnp.ones((1, 3)))
LINE = jaxnn.learner(NETWORK, jaxnn.classification(), optax.adam(0.1))
ALL = {"steps": 1, "key": KEY}


def begun(learner=LINE, **options):
    """The state that a run begins with."""
    return jaxnn.train(learner, DATA, **ALL | options).start().trial.state


def test_parameters_that_are_given_replace_those_that_are_drawn():
    assert_same_bits(begun(start=(PARAMS, {})).params, PARAMS)
    drawn = begun()
    some = begun(start=({"hidden_1": PARAMS["hidden_1"]}, {})).params
    assert_same_bits(some["hidden_1"], PARAMS["hidden_1"])
    assert_same_bits(some["output"], drawn.params["output"])


def test_what_is_computed_from_parameters_begins_with_them():
    state = begun(average(LINE, decay=0.9), start=(PARAMS, {}))
    assert_same_bits(state.params, PARAMS)
    shadows = [x for x in jax.tree.leaves(state.extra) if x.shape == (3, 5)]
    assert shadows and all((x == PARAMS["hidden_1"]["weight"]).all() for x in shadows)


def test_every_member_begins_with_them():
    state = begun(key=jax.random.split(KEY, 3), start=(PARAMS, {}))
    for member in range(3):
        assert_same_bits(jax.tree.map(lambda x, m=member: x[m], state.params), PARAMS)


def test_they_are_left_as_they_were_and_train():
    start = (jax.tree.map(jnp.copy, PARAMS), {})
    run = jaxnn.fit(LINE, DATA, **ALL, start=start, quiet=True)
    assert_same_bits(start[0], PARAMS)
    assert (run.state.params["hidden_1"]["weight"] != PARAMS["hidden_1"]["weight"]).any()


def test_other_parameters_compile_nothing():
    options = ALL | {"quiet": True}
    jaxnn.fit(LINE, DATA, **options, start=(PARAMS, {}))
    programs = begin._cache_size()
    jaxnn.fit(LINE, DATA, **options, start=(jax.tree.map(lambda x: x + 1, PARAMS), {}))
    assert begin._cache_size() == programs  # they are arguments, and no constants


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (PARAMS, "start is not a pair"),
        (({"hidden_2": PARAMS["hidden_1"]}, {}), "parameters that the network does not have"),
        (({"output": {"bias": jnp.zeros(3)}}, {}), "output/bias with a shape that differs"),
        (
            ({"output": {"bias": jnp.zeros(2, jnp.bfloat16)}}, {}),
            "output/bias with a dtype that differs",
        ),
        ((PARAMS, {"mean": jnp.zeros(2)}), "state that the network does not have"),
    ],
    ids=["pair", "name", "shape", "dtype", "state"],
)
def test_what_does_not_fit_is_refused(start, words):
    with pytest.raises(jaxnn.Invalid, match=words):
        jaxnn.train(LINE, DATA, **ALL, start=start)


def test_a_run_resumes_only_from_where_it_started():
    def name_of(start):
        return identity(jaxnn.train(LINE, DATA, **ALL, start=start)).get("start")

    other = jax.tree.map(lambda x: x + 1, PARAMS)
    assert name_of(None) is None
    assert name_of((PARAMS, {})) == name_of((PARAMS, {})) != name_of((other, {}))
