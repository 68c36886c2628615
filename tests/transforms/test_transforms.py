"""Transforms of networks: what each computes and retains, alone and outside of another."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn.calls import intercept
from tests.cases import real
from tests.made import TRANSFORMS, transformed
from tests.trees import assert_close, assert_same_bits

pytestmark = pytest.mark.usefixtures("strict")


INPUTS = real(4, 4)
BLOCK = transformed()


def started(network, key, inputs=INPUTS):
    return network, *jax.jit(lambda key: network.init(key, inputs))(key)


def noisy():
    """A network with one weight, whose state counts and whose key adds noise."""

    def init(key, inputs):
        weight = jax.random.normal(key, inputs.shape[-1:])
        return {"weight": weight}, {"count": jnp.zeros((), jnp.int32)}

    def apply(params, state, inputs, *, key=None):
        outputs = jnp.tanh(inputs * params["weight"][None])
        if key is None:
            return outputs, state
        return outputs + jax.random.normal(key, inputs.shape), {"count": state["count"] + 1}

    return jaxnn.Network(init, apply)


# --- All ---------------------------------------------------------------------------------------

PAIRS = [
    pair
    for pair in itertools.permutations(TRANSFORMS, 2)
    if pair not in [("repeat", "capture"), ("freeze", "lora")]
]


@pytest.mark.slow
@pytest.mark.parametrize("names", PAIRS, ids="_of_".join)
def test_every_pair_changes_no_outputs_at_first_and_no_form_of_the_state(names, key):
    """Both orders of each pair: initialised with one key, a transform is what is in it.

    Two have no meaning: the outputs of `capture` are no inputs for the next layer of `repeat`, and
    the adapters of `lora` have no bias that `freeze` could choose.
    """
    network, params, state = started(transformed(*names), key)
    plain, own, before = started(transformed("repeat") if "repeat" in names else BLOCK, key)

    @jax.jit
    def both(key):
        outputs, after = network.apply(params, state, INPUTS, key=key)
        return outputs, after, plain.apply(own, before, INPUTS, key=key)[0]

    outputs, after, wanted = both(key)
    outputs, inside = outputs if "capture" in names else (outputs, {})
    assert outputs.dtype == jnp.float32
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert_close(outputs, wanted, 0.1 if "mixed_precision" in names else 1e-5)
    assert all(len(leaf) == len(INPUTS) for leaf in jax.tree.leaves(inside))
    assert set(inside) == ({"branch", "branch/linear"} if "capture" in names else set())


@pytest.mark.parametrize("name", TRANSFORMS)
def test_parts_keep_their_paths_and_can_be_intercepted(name, key):
    network = transformed(name)

    def doubled(path, part):
        if part.parts.kind == "activation":
            assert path == "branch/3"
            return jaxnn.stateless(lambda params, inputs: 2 * inputs)
        return part

    assert repr(network).startswith(f"{name}(") and "linear: linear(features=4)" in repr(network)
    changed = intercept(network, doubled)
    assert len({network, changed}) == 2  # as a static argument of a program it is hashed
    _, params, state = started(network, key)
    (outputs, wanted) = (
        jax.tree.leaves(each.apply(params, state, INPUTS)[0])[0]
        for each in (changed, TRANSFORMS[name](intercept(BLOCK, doubled)))
    )
    assert_same_bits(outputs, wanted)
    assert not np.allclose(outputs, jax.tree.leaves(network.apply(params, state, INPUTS)[0])[0])


# --- repeat ------------------------------------------------------------------------------------


def test_repeat_is_its_layers_in_a_row(key):
    """Initialisation, keys, states and outputs are those of each layer alone."""
    network, params, state = started(jaxnn.repeat(noisy(), 3), key)
    outputs, after = network.apply(params, state, INPUTS, key=key)
    x = INPUTS
    for number in range(3):
        own = jax.random.fold_in(key, number)
        weights, count = started(noisy(), own)[1:]
        assert_same_bits(jax.tree.map(lambda x, n=number: x[n], params), weights)
        x, counted = noisy().apply(weights, count, x, key=own)
        assert_same_bits(jax.tree.map(lambda x, n=number: x[n], after), counted)
    assert_close(outputs, x)
    assert_same_bits(network.apply(params, state, INPUTS)[1], state)


def test_repeat_in_repeat_has_two_axes_of_layers(key):
    network, params, state = started(jaxnn.repeat(jaxnn.repeat(noisy(), 2), 3), key)
    assert params["weight"].shape == (3, 2, 4) and state["count"].shape == (3, 2)
    assert len(np.unique(params["weight"])) == 24
    assert network.apply(params, state, INPUTS)[0].shape == INPUTS.shape


# --- frozen ------------------------------------------------------------------------------------


def test_frozen_parameters_are_state(key):
    network = jaxnn.serial(("body", jaxnn.mlp([5], 4)), ("norm", jaxnn.batch_norm()))
    _, params, state = started(network, key)
    rules = {"body/output/bias": False, "body": True}
    still, trained, frozen = started(jaxnn.freeze(network, rules), key)
    body = {"output": {"bias": params["body"]["output"]["bias"]}}
    assert_same_bits(trained, {"body": body, "norm": params["norm"]})
    assert sorted(frozen) == ["frozen", "network"]
    assert sorted(frozen["frozen"]["body"]) == ["hidden_1", "output"]
    assert_same_bits(frozen["network"], state)
    outputs, after = still.apply(trained, frozen, INPUTS, key=key)
    wanted, moved = network.apply(params, state, INPUTS, key=key)
    assert_same_bits((outputs, after), (wanted, {"frozen": frozen["frozen"], "network": moved}))


def test_a_frozen_part_without_a_key_runs_as_in_inference(key):
    """Its statistics stay, which by frozen parameters alone they do not; as the docstring says."""

    def still(path, part):
        if path != "body":
            return part
        return part._replace(apply=lambda *arrays, key=None: part.apply(*arrays))

    network = jaxnn.serial(("body", jaxnn.batch_norm()), ("output", jaxnn.linear(2)))
    for whole, stays in ((network, False), (intercept(network, still), True)):
        body, params, state = started(jaxnn.freeze(whole, {"body": True}), key)
        _, after = body.apply(params, state, INPUTS, key=key)
        same = jax.tree.map(np.array_equal, after, state)
        assert all(jax.tree.leaves(same["frozen"])) and all(jax.tree.leaves(same)) == stays


def test_all_or_nothing_is_frozen(key):
    network, params, state = started(jaxnn.freeze(jaxnn.linear(2), {"*": True}), key)
    assert params == {} and sorted(state["frozen"]) == ["bias", "weight"]
    assert network.apply(params, state, INPUTS)[0].shape == (4, 2)
    network, params, state = started(jaxnn.freeze(jaxnn.linear(2), {}), key)
    assert sorted(params) == ["bias", "weight"] and state == {}
    assert network.apply(params, state, INPUTS)[0].shape == (4, 2)


# --- lora --------------------------------------------------------------------------------------


def test_lora_adds_a_product_to_each_chosen_weight(key):
    network, params, state = started(
        jaxnn.lora(jaxnn.mlp([5], 3), {"hidden_*/weight": True}, rank=2, scale=6.0), key
    )
    assert jax.tree.map(jnp.shape, params) == {
        "hidden_1": {"weight": {"down": (4, 2), "up": (2, 5)}}
    }
    assert not params["hidden_1"]["weight"]["up"].any()
    down, up = real(4, 2, seed=1), real(2, 5, seed=2)
    params = jax.tree.map(jnp.asarray, {"hidden_1": {"weight": {"down": down, "up": up}}})
    base = state["base"]
    weight = np.asarray(base["hidden_1"]["weight"]) + 6 / 2 * down @ up
    hidden = np.maximum(INPUTS @ weight, 0)
    wanted = hidden @ np.asarray(base["output"]["weight"])
    outputs, after = network.apply(params, state, INPUTS)
    assert_close(outputs, wanted)
    assert_same_bits(after, state)
    whole, rest = jaxnn.transforms.merge_lora(params, state)
    assert rest == {}
    assert_close(whole["hidden_1"]["weight"], weight)
    assert_close(jaxnn.mlp([5], 3).apply(whole, rest, INPUTS)[0], outputs)


def test_adapters_start_with_the_variance_of_their_inputs(key):
    network = jaxnn.lora(jaxnn.serial(*[jaxnn.linear(400)] * 2), {"*weight": True}, rank=64)
    params, _ = network.init(key, real(1, 400))
    first, second = (np.asarray(params[name]["weight"]["down"]) for name in "01")
    assert np.isclose(first.std() * 20, 1, rtol=0.02) and np.isclose(
        second.std() * 20, 1, rtol=0.02
    )
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


def test_axes_in_front_are_a_batch_of_matrices(key):
    """The window of a convolution, and the layers of a loop whichever is outside."""
    _, params, _ = started(
        jaxnn.lora(jaxnn.conv(6, 3), {"weight": True}, rank=2), key, real(1, 5, 5, 4)
    )
    assert jax.tree.map(jnp.shape, params["weight"]) == {"down": (3, 3, 4, 2), "up": (3, 3, 2, 6)}
    rules = {"weight": True}
    inside, params, state = started(
        jaxnn.repeat(jaxnn.lora(jaxnn.linear(4), rules, rank=2), 3), key
    )
    params = jax.tree.map(lambda x: jnp.asarray(real(*x.shape, seed=3)), params)
    outside = jaxnn.lora(jaxnn.repeat(jaxnn.linear(4), 3), rules, rank=2)
    wanted, _ = outside.apply(params, state | {"scale": state["scale"][0]}, INPUTS)
    assert_close(inside.apply(params, state, INPUTS)[0], wanted)
    whole = jaxnn.transforms.merge_lora(params, state)[0]
    assert_close(jaxnn.repeat(jaxnn.linear(4), 3).apply(whole, {}, INPUTS)[0], wanted)
    assert whole["weight"].shape == (3, 4, 4)


# --- captured ----------------------------------------------------------------------------------


def test_captured_gives_what_parts_compute(key):
    network, params, state = started(jaxnn.capture(BLOCK, ["branch/linear", "*shortcut"]), key)
    (outputs, inside), after = network.apply(params, state, INPUTS, key=key)
    weights = params["branch"]["linear"]  # biases begin at 0
    assert list(inside) == ["branch/linear", "shortcut"]
    assert_close(inside["branch/linear"], INPUTS @ weights["weight"])
    assert_same_bits(inside["shortcut"], INPUTS)
    assert_same_bits((outputs, after), BLOCK.apply(params, state, INPUTS, key=key))


def test_captured_gives_every_layer_of_a_loop(key):
    """`[batch, layers, ...]`; the last of the layer's own outputs are the outputs of the loop."""
    loop = jaxnn.repeat(jaxnn.repeat(jaxnn.remat(BLOCK), 2), 3)
    network, params, state = started(jaxnn.capture(loop, ["", "branch/linear"]), key)
    (outputs, inside), after = network.apply(params, state, INPUTS, key=key)
    assert inside[""].shape == inside["branch/linear"].shape == (4, 3, 2, 4)
    assert_same_bits(inside[""][:, -1, -1], outputs)
    first = jax.tree.map(lambda x: x[0, 0], params["branch"]["linear"])
    assert_close(inside["branch/linear"][:, 0, 0], INPUTS @ first["weight"])
    assert_same_bits((outputs, after), loop.apply(params, state, INPUTS, key=key))


def test_captured_leaves_no_trace_in_the_state(key):
    """Neither of parts without a state, nor of one capture inside another."""
    network = jaxnn.serial(
        ("a", jaxnn.freeze(jaxnn.linear(4), {"bias": True})), ("b", jaxnn.mlp([3], 2))
    )
    _, params, state = started(network, key)
    inner = jaxnn.capture(network, ["a", "b/hidden_1"])
    outer = jaxnn.capture(inner, ["a", "b*"])
    ((outputs, few), many), after = outer.apply(params, state, INPUTS, key=key)
    assert_same_bits((outputs, after), network.apply(params, state, INPUTS, key=key))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert sorted(few) == ["a", "b/hidden_1"] and sorted(many)[:3] == ["a", "b", "b/activation_1"]
    assert_same_bits(few["a"], many["a"])
    assert_same_bits(many["b"], outputs)


# --- table -------------------------------------------------------------------------------------


def test_the_table_counts_every_layer_of_a_loop():
    block = jaxnn.residual(jaxnn.serial(jaxnn.linear(8), jaxnn.batch_norm()))
    for wrapped in (block, jaxnn.remat(block)):
        network = jaxnn.serial(jaxnn.linear(8), ("blocks", jaxnn.repeat(wrapped, 5)))
        table = jaxnn.table(network, jax.ShapeDtypeStruct((2, 3), jnp.float32))
        rows = {row.part: row for row in table.rows}
        assert list(rows) == ["0", "blocks/branch/0", "blocks/branch/1", "blocks/shortcut"]
        inner = rows["blocks/branch/0"]
        assert inner[2:] == ((2, 8), 5 * 72, 5 * 72 * 4, 5 * 64, 5 * 2 * 2 * 64, 5)
        assert rows["blocks/branch/1"][2:] == ((2, 8), 5 * 16, 5 * 32 * 4, 5 * 64, 0, 5)
        assert rows["0"][2:] == ((2, 8), 32, 128, 64, 96, 1)
        assert table.total[2:5] == ((2, 8), 32 + 5 * 88, 4 * (32 + 5 * 104))
        assert table.total.flops == 2 * (48 + 5 * 128)
        assert "blocks/branch/0 x5  linear" in str(table) and "\n0 " in str(table)


def test_the_total_of_a_table_is_what_is_trained_and_kept():
    inputs = jax.ShapeDtypeStruct((1, 4), jnp.float32)
    network = jaxnn.lora(jaxnn.mixed_precision(jaxnn.linear(8)), {"weight": True}, rank=2)
    table = jaxnn.table(network, inputs)
    # The layer computes with its adapters, 4 x 2 and 2 x 8, beside its weight.
    assert [row[3:] for row in table.rows] == [(64, 256, 16, 2 * (32 + 8 + 16), 1)]
    assert table.total[3:5] == (24, 4 * (24 + 40 + 1))
    assert table.total.flops == 2 * (32 + 8 + 16)
