"""Transforms of networks in training: what is trained, what is retained, where weights begin."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.calls import intercept
from jaxnn.names import named_leaves
from tests.registry import real, whole
from tests.trees import assert_close, assert_same_bits

BATCH = {"inputs": real(8, 4), "labels": whole(3, 8)}
INPUTS = BATCH["inputs"]
MODEL = jaxnn.mlp([6], 3)


@pytest.fixture(scope="module")
def source():
    """The parameters of another run, none of them 0."""
    params, _ = MODEL.init(jax.random.key(7), INPUTS)
    return jax.tree.map(lambda x: x + 0.1, params)


def trained(network, optimizer, steps=3):
    """Returns the state of a run before and after its steps."""
    learner = jaxnn.learner(network, jaxnn.classification(), optimizer)
    before = learner.init(jax.random.key(0), {}, BATCH)
    step, state = jax.jit(learner.step), before
    for _ in range(steps):
        state, _ = step(state, BATCH)
    return before, state


def changed(before, after):
    """Returns the names of the leaves that differ."""
    before, after = named_leaves(before), named_leaves(after)
    assert list(before) == list(after)
    return {name for name in before if not np.array_equal(before[name], after[name])}


def memory(state):
    """Returns the numbers that an optimizer keeps for each parameter, by name."""
    return {name for name in named_leaves(state.opt_state) if "/mu/" in name}


def decaying(rate=0.1, **settings):
    return optax.adamw(rate, weight_decay=0.5, **settings)


@pytest.mark.slow
def test_nothing_of_training_reaches_what_is_frozen(source):
    """No gradient, no memory of the optimizer, no weight decay: it stays as it was loaded."""
    loaded = jaxnn.warm_start(MODEL, source, INPUTS).network
    network = jaxnn.freeze(loaded, {"hidden_1": True})
    before, after = trained(network, decaying())
    assert_same_bits(after.state, {"frozen": {"hidden_1": source["hidden_1"]}})
    assert_same_bits(before.params, {"output": source["output"]})
    assert changed(before.params, after.params) == {"output/weight", "output/bias"}
    assert memory(after) == {"0/mu/output/weight", "0/mu/output/bias"}
    # What is trained does decay: without a gradient a step takes 0.1 * 0.5 of it away.
    still = decaying().update(jax.tree.map(jnp.zeros_like, source), decaying().init(source), source)
    assert_close(still[0], jax.tree.map(lambda x: -0.05 * x, source))


@pytest.mark.slow
def test_lora_trains_adapters_which_merge_and_load_alone(source):
    loaded = jaxnn.warm_start(MODEL, source, INPUTS).network
    network = jaxnn.lora(loaded, {"*/weight": True}, rank=2)
    before, after = trained(network, decaying())
    assert_same_bits(before.state["base"], source)
    assert_same_bits(after.state, before.state)
    assert changed(before.params, after.params) == {
        f"{part}/weight/{side}" for part in ("hidden_1", "output") for side in ("up", "down")
    }
    assert memory(after) == {f"0/mu/{name}" for name in named_leaves(after.params)}
    assert_close(
        network.apply(before.params, before.state, INPUTS)[0], MODEL.apply(source, {}, INPUTS)[0]
    )
    adapted, _ = network.apply(after.params, after.state, INPUTS)
    assert_close(
        MODEL.apply(*jaxnn.transforms.merge_lora(after.params, after.state), INPUTS)[0], adapted
    )
    # The parameters are the adapters alone: with the weights they came to, they are all of it.
    again = jaxnn.warm_start(network, after.params, INPUTS, state={}).network
    assert_same_bits(again.apply(*again.init(jax.random.key(9), INPUTS), INPUTS)[0], adapted)


def test_a_warm_start_survives_transforms(source):
    loaded = jaxnn.warm_start(MODEL, source, INPUTS).network
    for network in (
        intercept(loaded, lambda path, part: part),
        jaxnn.mixed_precision(loaded),
        jaxnn.capture(jaxnn.mixed_precision(jaxnn.remat(loaded)), ["output"]),
        jaxnn.remat(loaded),
    ):
        assert_same_bits(network.init(jax.random.key(1), INPUTS)[0], source)
    repeated = jaxnn.repeat(
        jaxnn.warm_start(jaxnn.linear(4), {"bias": jnp.ones(4)}, INPUTS).network, 2
    )
    assert_same_bits(repeated.init(jax.random.key(1), INPUTS)[0]["bias"], jnp.ones((2, 4)))


@pytest.mark.slow
def test_mixed_precision_keeps_parameters_in_float32():
    block = jaxnn.residual(jaxnn.serial(jaxnn.linear(4), jaxnn.batch_norm()))
    network = jaxnn.serial(("blocks", jaxnn.repeat(block, 2)), jaxnn.linear(3))
    (before, plain), (_, mixed) = (
        trained(each, optax.sgd(0.1)) for each in (network, jaxnn.mixed_precision(network))
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(mixed, plain)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((mixed.params, mixed.state)))
    # Computed in bfloat16, and so near but not the same.
    moved, alike = (
        jnp.concatenate([(a - b).ravel() for a, b in zip(*map(jax.tree.leaves, pair))])
        for pair in ((plain.params, before.params), (plain.params, mixed.params))
    )
    assert 0 < jnp.linalg.norm(alike) < 0.03 * jnp.linalg.norm(moved)


def test_scale_is_a_hyper_parameter():
    learner = jaxnn.learner(
        lambda h: jaxnn.lora(MODEL, {"*/weight": True}, rank=2, scale=h["scale"]),
        jaxnn.classification(),
        optax.sgd(0.1),
    )
    state = jax.jit(learner.init)(jax.random.key(0), {"scale": 3.0}, BATCH)
    assert state.state["scale"] == 1.5


# --- labels ------------------------------------------------------------------------------------


def test_learning_rates_by_name():
    """Three steps with rates of 0, 0.1 and 0.2 for three groups of parameters."""
    labels = jaxnn.param_labels({"hidden_1/bias": "still", "hidden_1": "slow", "*": "fast"})
    rates = {"still": 0.0, "slow": 0.1, "fast": 0.2}
    tx = optax.partition({name: optax.sgd(rate) for name, rate in rates.items()}, labels)
    before, after = trained(MODEL, tx, steps=1)
    _, plain = trained(MODEL, optax.sgd(0.1), steps=1)

    def share(part, leaf):
        own = np.asarray(after.params[part][leaf] - before.params[part][leaf])
        return own / np.asarray(plain.params[part][leaf] - before.params[part][leaf])

    assert not changed(before.params, after.params) & {"hidden_1/bias"}
    assert np.allclose(np.nanmedian(share("hidden_1", "weight")), 1, rtol=1e-4)
    for leaf in ("weight", "bias"):
        assert np.allclose(share("output", leaf), 2, rtol=1e-4)


def test_decay_by_name_also_inside_of_a_partition(source):
    """A mask names every leaf, also those that the enclosing partition gives to others."""
    mask = jaxnn.param_labels({"*/bias": False, "*": True})
    alone = decaying(mask=mask)
    inside = optax.partition(
        {"here": alone, "there": optax.set_to_zero()},
        jaxnn.param_labels({"*/weight": "here", "*": "there"}),
    )
    zeros = jax.tree.map(jnp.zeros_like, source)
    for tx in (alone, inside):
        updates, _ = tx.update(zeros, tx.init(source), source)
        for part in source:
            assert not updates[part]["bias"].any()
            assert_close(updates[part]["weight"], -0.05 * source[part]["weight"])


def test_labels_are_a_tree_of_values():
    tree = {"a": [1.0, 2.0], "b": {"c": 3.0}}
    assert jaxnn.param_labels([("a/1", None), ("*", 7)])(tree) == {"a": [7, None], "b": {"c": 7}}
