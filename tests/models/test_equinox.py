"""The bridge to Equinox, against Equinox itself."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.checks import Invalid
from jaxnn.models.equinox import from_equinox, to_equinox

eqx: Any = pytest.importorskip("equinox", reason="Equinox is of the extra [peers]")

KEY = jax.random.key(0)
ROWS = jax.random.normal(jax.random.key(8), (8, 3))
LABELS = jnp.arange(8) % 4
MLP: Any = {"in_size": 3, "out_size": 4, "width_size": 8, "depth": 1}


class Stateful(eqx.Module):
    hidden: Any
    norm: Any
    dropout: Any
    places: jax.Array

    def __init__(self, key):
        self.hidden = eqx.nn.Linear(3, 4, key=key)
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
        self.dropout = eqx.nn.Dropout(0.3)
        self.places = jnp.arange(4)

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.hidden(x), state)
        return self.dropout(x, key=key)[self.places], state


def equal(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_module_is_what_equinox_computes():
    module = eqx.nn.MLP(**MLP, key=KEY)
    for network in (from_equinox(eqx.nn.MLP, **MLP), from_equinox(module)):
        params, state = network.init(KEY, jax.eval_shape(lambda: ROWS))
        assert state == {}
        equal(params, eqx.filter(module, eqx.is_inexact_array))
        equal(network.apply(params, state, ROWS, key=KEY), (jax.vmap(module)(ROWS), {}))
    equal(jax.vmap(to_equinox(eqx.nn.MLP, params, **MLP))(ROWS), jax.vmap(module)(ROWS))


def test_a_state_changes_in_training_alone():
    make = eqx.nn.make_with_state(Stateful)
    network = from_equinox(make)
    params, state = network.init(KEY, ROWS)
    assert sorted(state) == ["buffers", "state"]

    def call(module, before, keys):
        def one(x, state, key):
            return module(x, state, key=key)

        axes: Any = {"in_axes": (0, None, 0), "out_axes": (0, None), "axis_name": "batch"}
        return jax.vmap(one, **axes)(ROWS, before, keys)

    expected, after = call(*make(KEY), keys=jax.random.split(KEY, 8))
    outputs, trained = network.apply(params, state, ROWS, key=KEY)
    equal((outputs, trained["state"]), (expected, after))
    module, _ = make(KEY)
    expected, _ = call(eqx.nn.inference_mode(module), after, jax.random.split(KEY, 8))
    outputs, same = network.apply(params, trained, ROWS)
    equal((outputs, same), (expected, trained))


def test_a_call_of_the_whole_batch():
    network = from_equinox(
        eqx.nn.MLP, call=lambda module, x, training: jax.vmap(module)(x["a"]) * training, **MLP
    )
    params, state = network.init(KEY, {"a": ROWS})
    module = eqx.nn.MLP(**MLP, key=KEY)
    equal(network.apply(params, state, {"a": ROWS}, key=KEY)[0], jax.vmap(module)(ROWS))
    assert not network.apply(params, state, {"a": ROWS})[0].any()


def test_it_trains_and_is_saved(tmp_path):
    network = from_equinox(eqx.nn.make_with_state(Stateful))
    learner = jaxnn.learner(network, jaxnn.classification(), optax.adam(0.01))
    data = jaxnn.resident({"inputs": ROWS, "labels": LABELS}, batch_size=8)
    run = jaxnn.fit(learner, data, steps=2, key=KEY, out=tmp_path / "run")
    loaded = jaxnn.load(tmp_path / "run")
    equal(loaded.params["hidden"]["weight"], run.state.params.hidden.weight)
    module, _ = to_equinox(eqx.nn.make_with_state(Stateful), run.state.params, run.state.state)
    equal(module.hidden.weight, run.state.params.hidden.weight)


def test_transforms_take_parameters_of_any_kind():
    network = from_equinox(eqx.nn.MLP, **MLP)
    expected = network.apply(*network.init(KEY, ROWS), ROWS)[0]
    for changed in (
        jaxnn.freeze(network, {"*bias": True}),
        jaxnn.lora(network, {"*weight": True}, rank=1),
    ):
        params, state = changed.init(KEY, ROWS)
        np.testing.assert_allclose(changed.apply(params, state, ROWS)[0], expected, rtol=1e-6)
    assert jaxnn.table(network, ROWS).total.parameters == 68


def test_a_mistake_is_an_error_that_says_what_to_write():
    module = eqx.nn.MLP(**MLP, key=KEY)
    for mistake, fix in (
        (lambda: from_equinox(3), r"Got a int; .*Subclass equinox\.Module"),
        (lambda: from_equinox(module, depth=2), r"Build the MLP with them"),
        (lambda: from_equinox(eqx.nn.MLP, depth=2), r"cannot be built.*pass the module itself"),
        (lambda: from_equinox(eqx.nn.Dropout(0.1)), r"Dropout has nothing to train"),
        (
            lambda: from_equinox(eqx.nn.make_with_state(Stateful), call=lambda module, x: x),
            r"Take state in its __call__",
        ),
    ):
        with pytest.raises(Invalid, match=fix):
            mistake()
