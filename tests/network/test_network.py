"""Combinators: what they compute, the keys and names they give to their parts, and rewriting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn.calls import intercept
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.network import Network, describe, output_shape
from tests.registry import real
from tests.trees import assert_close, assert_same_bits

pytestmark = pytest.mark.usefixtures("strict")

INPUTS = real(4, 3)


def noise():
    """A network that adds the noise of its key, and counts in its state how often it did."""

    def apply(params, state, inputs, *, key=None):
        if key is None:
            return inputs, state
        return inputs + jax.random.normal(key, inputs.shape), {"count": state["count"] + 1}

    return Network(lambda key, inputs: ({}, {"count": jnp.zeros((), jnp.int32)}), apply)


def test_serial_is_composition(key):
    network = jaxnn.serial(jaxnn.linear(5), ("squash", jaxnn.activation(jnp.tanh)), jaxnn.linear(2))
    params, state = network.init(key, INPUTS)
    assert state == {} and sorted(params) == ["0", "2"]
    hidden = np.tanh(INPUTS @ np.asarray(params["0"]["weight"]))
    assert_close(network.apply(params, state, INPUTS)[0], hidden @ params["2"]["weight"])
    assert output_shape(network, params, state, INPUTS).shape == (4, 2)


def test_parts_have_keys_of_their_own_and_their_states_are_kept(key):
    network = jaxnn.serial(noise(), ("inner", jaxnn.parallel(noise(), noise())))
    params, state = network.init(key, INPUTS)
    assert params == {} and state["inner"]["1"] == {"count": 0}
    (left, right), state = network.apply(params, state, INPUTS, key=key)
    first = INPUTS + jax.random.normal(jax.random.fold_in(key, 0), INPUTS.shape)
    assert not np.allclose(left, right) and not np.allclose(left, first)
    (_, _), state = network.apply(params, state, INPUTS, key=key)
    assert jax.tree.map(int, state) == {
        "0": {"count": 2},
        "inner": {"0": {"count": 2}, "1": {"count": 2}},
    }
    (left, right), after = network.apply(params, state, INPUTS)
    assert_same_bits((left, right, after), (INPUTS, INPUTS, state))


def test_every_part_has_a_key_of_its_own(key):
    seen = []

    def apply(params, state, inputs, *, key=None):
        seen.append(np.asarray(jax.random.key_data(key)).tobytes())
        return inputs, state

    spy = Network(lambda key, inputs: ({}, {}), apply)
    branches = jaxnn.parallel(spy, spy, combine=lambda outputs: outputs[0])
    network = jaxnn.serial(spy, jaxnn.serial(spy, spy), branches, jaxnn.residual(spy), spy)
    network.apply({}, {}, INPUTS, key=key)
    assert len(seen) == len(set(seen)) == 7


def test_parts_start_apart(key):
    """Layers of the same shape do not start from the same weights."""
    for network in (
        jaxnn.serial(*[jaxnn.linear(3)] * 3),
        jaxnn.parallel(*[jaxnn.linear(3)] * 3),
        jaxnn.serial(*[jaxnn.serial(jaxnn.linear(3))] * 3),
    ):
        params, _ = network.init(key, INPUTS)
        weights = [
            leaf.tobytes() for leaf in map(np.asarray, jax.tree.leaves(params)) if leaf.any()
        ]
        assert len(set(weights)) == 3


def test_residual_and_parallel(key):
    linear = jaxnn.linear(3)
    network = jaxnn.residual(linear)
    params, _ = network.init(key, INPUTS)
    branch, _ = linear.apply(params["branch"], {}, INPUTS)
    assert_close(network.apply(params, {}, INPUTS)[0], INPUTS + branch)
    wide = jaxnn.residual(jaxnn.linear(5), shortcut=jaxnn.linear(5, bias=False))
    params, _ = wide.init(key, INPUTS)
    sums = INPUTS @ params["branch"]["weight"] + INPUTS @ params["shortcut"]["weight"]
    assert_close(wide.apply(params, {}, INPUTS)[0], sums)
    joined = jaxnn.parallel(linear, linear, combine=lambda outputs: jnp.concatenate(outputs, -1))
    params, _ = joined.init(key, INPUTS)
    halves = [linear.apply(params[name], {}, INPUTS)[0] for name in "01"]
    assert_close(joined.apply(params, {}, INPUTS)[0], np.concatenate(halves, -1))


def test_a_network_is_hashed_whatever_its_sizes_were_given_as():
    for make in (
        lambda sizes: jaxnn.conv(2, sizes, strides=sizes),
        lambda sizes: jaxnn.layers.depthwise_conv(sizes),
        lambda sizes: jaxnn.layers.conv_transpose(2, sizes, strides=sizes),
        jaxnn.max_pool,
        jaxnn.avg_pool,
    ):
        assert isinstance(hash(make([2, 2])), int)
        assert make([2, 2]).parts.settings == make((2, 2)).parts.settings


def test_intercept_changes_parts_wherever_they_are(key):
    network = jaxnn.serial(("block", jaxnn.residual(jaxnn.mlp([3], 3))), jaxnn.linear(2))
    paths = []

    def linearized(path, part):
        if path not in paths:
            paths.append(path)
        if part.parts.kind == "activation":
            return describe(jaxnn.stateless(lambda params, inputs: 2 * inputs), "double")
        return part

    changed = intercept(network, linearized)
    params, state = network.init(key, INPUTS)
    block = params["block"]["branch"]
    branch = 2 * INPUTS @ block["hidden_1"]["weight"] @ block["output"]["weight"]
    wanted = (INPUTS + branch) @ params["1"]["weight"]
    assert_close(changed.apply(params, state, INPUTS)[0], wanted)
    assert paths[:4] == ["", "block", "block/branch", "block/branch/flatten"]


@pytest.mark.slow
def test_models_compute_what_they_say(key):
    """The perceptron and the convolutional network, written out in NumPy."""
    params, _ = jaxnn.mlp([5], 2, activation=jnp.tanh).init(key, INPUTS)
    assert jax.tree.map(jnp.shape, params) == {
        "hidden_1": {"weight": (3, 5), "bias": (5,)},
        "output": {"weight": (5, 2), "bias": (2,)},
    }
    images = real(2, 9, 7)
    network = jaxnn.convnet([4, 3], 5, 2)
    params, _ = network.init(key, images)
    assert [params[name]["weight"].shape for name in ("conv_1", "conv_2", "hidden", "output")] == [
        (3, 3, 1, 4), (3, 3, 4, 3), (2 * 1 * 3, 5), (5, 2),
    ]  # fmt: skip
    x = images[..., None]
    for name in ("conv_1", "conv_2"):
        border = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        _, height, width, _ = x.shape
        x = sum(
            border[:, i : i + height, j : j + width] @ np.asarray(params[name]["weight"])[i, j]
            for i in range(3)
            for j in range(3)
        )
        x = np.maximum(x, 0)[:, : height // 2 * 2, : width // 2 * 2]
        x = x.reshape(2, height // 2, 2, width // 2, 2, -1).max((2, 4))
    x = np.maximum(x.reshape(2, -1) @ np.asarray(params["hidden"]["weight"]), 0)
    wanted = x @ np.asarray(params["output"]["weight"])
    assert_close(network.apply(params, {}, images)[0], wanted)


@pytest.mark.parametrize("combinator", [jaxnn.serial, jaxnn.parallel])
def test_errors(combinator, key):
    with pytest.raises(InvalidValue, match="no parts"):
        combinator()
    with pytest.raises(InvalidValue, match="distinct names"):
        combinator(("a", jaxnn.linear(1)), ("a", jaxnn.linear(2)))
    with pytest.raises(InvalidValue, match="distinct names"):
        combinator(("1", jaxnn.linear(1)), jaxnn.linear(2))
    network = jaxnn.residual(jaxnn.linear(4))
    with pytest.raises(InvalidValue, match="shortcut=linear"):
        network.init(key, INPUTS)[0] and network.apply(*network.init(key, INPUTS), INPUTS)
    assert issubclass(InvalidType, TypeError) and issubclass(InvalidValue, ValueError)
