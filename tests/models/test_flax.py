"""The bridge to Flax, against Flax itself: the same numbers, and exact round trips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from jaxnn.calls import part_key
from jaxnn.models.flax import flax_parameters, from_flax, to_flax
from jaxnn.network import serial
from tests.flax_networks import CNN, IMAGES, KEY, ROWS

BOXED = nn.with_partitioning(nn.initializers.lecun_normal(), (None, None))


class Switched(nn.Module):
    width: int = 6

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(self.width, kernel_init=BOXED)(x)
        x = nn.BatchNorm(use_running_average=not train)(x + x.mean())
        x = nn.Dropout(0.5, deterministic=not train)(x)
        self.sow("losses", "size", x.sum())
        return nn.Dense(3)(x)


class Inverse(nn.Module):
    @nn.compact
    def __call__(self, x, *, deterministic=True):
        x = nn.Dropout(0.5, deterministic=deterministic)(nn.Dense(8)(x))
        noise = 0.0 if deterministic else jax.random.normal(self.make_rng("noise"), x.shape)
        return {"outputs": nn.Dense(3)(x + noise)}


CASES = {
    "nnx": (CNN, {"features": 2}, IMAGES),
    "linen": (Switched(), {"sown": []}, ROWS),
    "linen_inverse": (Inverse(), {}, ROWS),
}


@pytest.fixture(params=CASES)
def case(request):
    model, arguments, inputs = CASES[request.param]
    return from_flax(model, **arguments), inputs


def equal(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def same_types(left, right):
    def types(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)

    assert types(left) == types(right)


def test_nnx_is_what_flax_computes_in_both_modes():
    network = from_flax(CNN, features=2)
    params, state = network.init(KEY, IMAGES)
    assert state["steps"] == 0 and set(state) == {"blocks", "steps"} and "0" in params["blocks"]
    module = CNN(2, rngs=nnx.Rngs(KEY))
    equal((params, state), jax.tree.map(jnp.asarray, flax_parameters(module)))

    module.train()
    streams = nnx.state(module, nnx.RngState)
    flat = dict(nnx.to_flat_state(streams))
    for number, path in enumerate(sorted(path for path in flat if path[-1] == "key")):
        flat[path][...] = jax.random.fold_in(KEY, number)
        flat[(*path[:-1], "count")][...] = jnp.uint32(0)
    nnx.update(module, nnx.from_flat_state(flat))
    outputs, after = network.apply(params, state, IMAGES, key=KEY)
    equal(outputs, module(IMAGES))
    equal(after, jax.tree.map(jnp.asarray, flax_parameters(module)[1]))
    same_types(after, state)
    assert after["steps"] == 1
    assert (after["blocks"]["1"]["norm"]["mean"] != state["blocks"]["1"]["norm"]["mean"]).all()

    module.eval()
    outputs, unchanged = network.apply(params, after, IMAGES)
    equal(outputs, module(IMAGES))
    equal(unchanged, after)


def test_linen_is_what_flax_computes_in_both_modes():
    model, network = Switched(), from_flax(Switched(), sown=[])
    params, state = network.init(KEY, ROWS)
    variables = nn.meta.unbox(model.init(KEY, ROWS, train=False))
    equal((params, state), (variables["params"], {"batch_stats": variables["batch_stats"]}))

    expected, updated = model.apply(
        {"params": params, **state}, ROWS, True, rngs={"dropout": KEY}, mutable=["batch_stats"]
    )
    outputs, after = network.apply(params, state, ROWS, key=KEY)
    equal(outputs, expected)
    equal(after, updated)
    same_types(after, state)
    equal(
        network.apply(params, after, ROWS),
        (model.apply({"params": params, **after}, ROWS, False), after),
    )


@pytest.mark.slow
def test_linen_with_the_inverse_switch_and_another_stream():
    model, network = Inverse(), from_flax(Inverse())
    params, state = network.init(KEY, ROWS)
    equal(params, model.init(KEY, ROWS)["params"])
    assert state == {}
    streams = {"dropout": KEY, "noise": part_key(KEY, "noise")}
    expected = model.apply({"params": params}, ROWS, deterministic=False, rngs=streams)
    equal(network.apply(params, state, ROWS, key=KEY), (expected, {}))
    equal(network.apply(params, state, ROWS), (model.apply({"params": params}, ROWS), {}))


def test_randomness_is_the_keys(case):
    network, inputs = case
    params, state = network.init(KEY, inputs)
    run = jax.jit(lambda key: network.apply(params, state, inputs, key=key))
    first, other = run(KEY), run(jax.random.key(1))
    equal(first, run(KEY))
    different = jax.tree.map(lambda a, b: (a != b).any(), first[0], other[0])
    assert all(jax.tree.leaves(different))
    equal(network.apply(params, state, inputs), network.apply(params, state, inputs))


def test_init_reads_shapes_alone(case):
    network, inputs = case
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), inputs)
    created = network.init(KEY, shapes)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(created))
    same_types(jax.eval_shape(network.init, KEY, shapes), created)
    same_types(jax.eval_shape(network.init, KEY, inputs), created)
    many = jax.eval_shape(jax.vmap(lambda key: network.init(key, shapes)), jax.random.split(KEY, 2))
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(many))


@pytest.mark.slow
def test_trains_in_a_compiled_loop_and_vmaps(case):
    network, inputs = case
    count = 0

    def loss(params, state, key):
        nonlocal count
        count += 1
        outputs, state = network.apply(params, state, inputs, key=key)
        return sum((leaf**2).mean() for leaf in jax.tree.leaves(outputs)), state

    def step(i, carry):
        params, state = carry
        grads, state = jax.grad(loss, has_aux=True)(params, state, jax.random.fold_in(KEY, i))
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), state

    train = jax.jit(lambda carry: jax.lax.fori_loop(0, 3, step, carry))
    start = network.init(KEY, inputs)
    end = train(train(start))
    assert count <= 2  # a loop is traced a second time only to fix the types of its carry
    same_types(end, start)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end))
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), start, end)
    predict = lambda params, state: network.apply(params, state, inputs)[0]  # noqa: E731
    outputs, alone = jax.jit(jax.vmap(predict))(*stacked), jax.jit(predict)(*end)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b, rtol=2e-5, atol=1e-5), outputs, alone
    )
    with jax.checking_leaks():
        jax.jit(network.apply)(*start, inputs, key=KEY)


def test_round_trips_are_exact():
    trained = jax.tree.map(lambda leaf: leaf + 1, from_flax(CNN, features=2).init(KEY, IMAGES))
    module = to_flax(CNN, *trained, features=2)
    assert isinstance(module, CNN) and module.blocks[0].dropout.deterministic
    equal(flax_parameters(module), trained)
    equal(module(IMAGES), from_flax(CNN, features=2).apply(*trained, IMAGES)[0])
    equal(flax_parameters(to_flax(module, *trained)), trained)
    module.train()
    assert (module(IMAGES) != module(IMAGES)).any()  # its random streams advance by themselves

    params, state = from_flax(Switched(), sown=[]).init(KEY, ROWS)
    variables = to_flax(Switched(), params, state)
    assert Switched().apply(variables, ROWS, train=False).shape == (4, 3)
    equal(flax_parameters(variables), (params, state))
    boxed = Switched().init(KEY, ROWS, train=True)
    equal(flax_parameters(boxed)[0], params)


def test_a_module_gives_its_own_parameters_and_is_left_alone():
    module = CNN(2, rngs=nnx.Rngs(3))
    module(IMAGES)  # sows, and updates its statistics
    before = jax.tree.map(jnp.array, flax_parameters(module))
    network = from_flax(module)
    start = network.init(jax.random.key(1), IMAGES)
    equal(start, before)
    assert start[0]["output"]["bias"] is not flax_parameters(module)[0]["output"]["bias"]
    network.apply(*start, IMAGES, key=KEY)
    equal(jax.tree.map(jnp.asarray, flax_parameters(module)), before)
    assert not module.blocks[0].dropout.deterministic
    equal(jax.jit(network.init)(KEY, IMAGES), before)


def test_streams_may_be_given_when_the_model_is_called():
    class Called(nnx.Module):
        def __init__(self, rngs):
            self.dropout = nnx.Dropout(0.5)

        def __call__(self, x, *, rngs=None):
            return self.dropout(x, rngs=rngs)

    network = from_flax(Called)
    expected = nnx.Dropout(0.5)(ROWS, rngs=nnx.Rngs(KEY))
    equal(network.apply({}, {}, ROWS, key=KEY), (expected, {}))
    equal(network.apply({}, {}, ROWS), (ROWS, {}))


def test_factories_combinators_and_another_convolution():
    calls = []

    def convolution(*arguments, **options):
        calls.append(1)
        return jax.lax.conv_general_dilated(*arguments, **options)

    plain, given = (
        from_flax(CNN, features=2),
        from_flax(CNN, features=2, conv_general_dilated=convolution),
    )
    params, state = plain.init(KEY, IMAGES)
    equal(given.apply(params, state, IMAGES, key=KEY), plain.apply(params, state, IMAGES, key=KEY))
    assert calls
    assert repr(given) == "CNN(features=2, conv_general_dilated=convolution)"
    assert repr(from_flax(Switched(width=4))) == "Switched(width=4)"

    def sequence(rngs):
        return nnx.Sequential(nnx.Linear(5, 4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))

    network = serial(("nnx", from_flax(sequence)), ("linen", from_flax(nn.Dense(2))))
    params, state = network.init(KEY, ROWS)
    assert sorted(params) == ["linen", "nnx"] and state == {}
    assert network.apply(params, state, ROWS, key=KEY)[0].shape == (4, 2)
