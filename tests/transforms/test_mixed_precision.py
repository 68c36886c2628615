"""Mixed precision: which part computes in what, and what comes in and out of it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn.calls import intercept
from tests.registry import real, whole
from tests.trees import assert_close, assert_same_bits

pytestmark = pytest.mark.usefixtures("strict")

INPUTS = real(4, 4)


def started(network, key, inputs=INPUTS):
    return network, *jax.jit(lambda key: network.init(key, inputs))(key)


@pytest.mark.parametrize("compute", [jnp.bfloat16, jnp.float16])
def test_every_part_computes_in_the_precision(compute, key):
    """Also after one that gives float32, in a repeated layer and in a norm; integers stay."""
    bytes_in = whole(256, 4, 4, dtype=np.uint8)
    body = jaxnn.repeat(jaxnn.residual(jaxnn.serial(jaxnn.linear(4), jaxnn.batch_norm())), 2)
    network = jaxnn.serial(("raw", jaxnn.standardize(128, 74)), ("body", body))
    mixed = jaxnn.capture(jaxnn.mixed_precision(network, compute), ["*"])
    _, params, state = started(mixed, key, bytes_in)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, state))} == {jnp.dtype("float32")}
    (outputs, inside), after = mixed.apply(params, state, bytes_in, key=key)
    assert outputs.dtype == jnp.float32
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    dtypes = {path: str(part.dtype) for path, part in inside.items()}
    assert dtypes.pop("raw") == "float32"
    assert len(dtypes) == 6 and set(dtypes.values()) == {jnp.dtype(compute).name}
    assert_close(outputs, network.apply(params, state, bytes_in, key=key)[0], 0.05)
    loss = lambda params: mixed.apply(params, state, bytes_in)[0][0].sum()  # noqa: E731
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.grad(loss)(params), params)


def test_integers_and_their_embeddings(key):
    tokens = np.arange(6).reshape(2, 3) % 5
    network, params, state = started(jaxnn.mixed_precision(jaxnn.embedding(5, 4)), key, tokens)
    assert_close(
        network.apply(params, state, tokens)[0], np.asarray(params["weight"])[tokens], 0.01
    )


def test_a_part_in_another_precision_keeps_it(key):
    """Whichever is outside, and also in a network whose parts are intercepted."""
    head = jaxnn.mixed_precision(jaxnn.linear(3), jnp.float32)
    network = jaxnn.mixed_precision(jaxnn.serial(jaxnn.linear(4), ("head", head)))
    for each in (network, intercept(network, lambda path, part: part)):
        seen = jaxnn.capture(each, ["0", "head"])
        _, params, state = started(seen, key)
        (outputs, inside), _ = seen.apply(params, state, INPUTS)
        assert {path: str(x.dtype) for path, x in inside.items()} == {
            "0": "bfloat16", "head": "float32",
        }  # fmt: skip
        assert_same_bits(outputs, head.apply(params["head"], {}, inside["0"])[0])


def test_what_computes_in_float32_gets_every_digit_of_raw_inputs():
    """10003 is 9984 in bfloat16; whatever encloses it, and also inside another exception."""
    exact = jaxnn.mixed_precision(jaxnn.standardize(1e4, 1.0), jnp.float32)
    half = jaxnn.mixed_precision(jaxnn.serial(jaxnn.remat(exact)), jnp.float16)
    params = {"1": {"weight": jnp.ones((1, 1)), "bias": jnp.zeros(1)}}
    for first in (exact, jaxnn.remat(jaxnn.serial(exact)), half):
        network = jaxnn.mixed_precision(jaxnn.serial(first, jaxnn.linear(1)))
        inputs = jnp.full((1, 1), 10003.0)
        _, state = network.init(jax.random.key(0), inputs)
        assert network.apply(params, state, inputs)[0].tolist() == [[3.0]]


@pytest.mark.parametrize("layer", [jaxnn.layers.gru(4), jaxnn.layers.lstm(4)], ids=["gru", "lstm"])
def test_what_computes_between_its_parts_does_so_in_the_precision(layer):
    """Outputs have the dtype of the product of the inputs, which may be an exception."""
    first = layer.parts.children[0][0]
    exact = lambda part: jaxnn.mixed_precision(part, jnp.float32)  # noqa: E731
    changed = intercept(layer, lambda path, part: exact(part) if path == first else part)
    for network, dtype in ((layer, jnp.bfloat16), (changed, jnp.float32)):
        seen = jaxnn.capture(jaxnn.mixed_precision(network), [""])
        arrays = jax.random.key(0), real(2, 3, 4)
        outputs = jax.eval_shape(
            lambda key, x, seen=seen: seen.apply(*seen.init(key, x), x)[0][1][""], *arrays
        )
        assert outputs.dtype == dtype


@pytest.mark.parametrize("last", [True, False])
def test_a_repeated_layer_may_have_an_exception(last, key):
    """First or last in the layer: the loop carries the dtype of a layer's outputs."""
    exact = jaxnn.mixed_precision(jaxnn.linear(4), jnp.float32)
    inside = (jaxnn.linear(4), exact) if last else (exact, jaxnn.linear(4))
    loop = jaxnn.repeat(jaxnn.serial(*inside), 2)
    for before in ((), (jaxnn.linear(4),)):
        network = jaxnn.serial(*before, ("loop", loop))
        mixed = jaxnn.mixed_precision(jaxnn.mixed_precision(network))
        seen = jaxnn.capture(mixed, ["loop"])
        _, params, state = started(seen, key)
        (outputs, inside_of), _ = seen.apply(params, state, INPUTS)
        assert str(inside_of["loop"].dtype) == ("float32" if last else "bfloat16")
        assert_close(outputs, network.apply(params, state, INPUTS)[0], 0.05)
