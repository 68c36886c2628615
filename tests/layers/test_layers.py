"""Every layer against the same layer of Flax, with the same parameters, and against its formula."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxnn
from jaxnn.layers.pooling import _by_slices, _by_windows
from tests.registry import real, whole
from tests.trees import assert_close

IMAGES = real(3, 7, 6, 4)


def applied(layer, params, inputs, state=None, key=None):
    return jax.jit(layer.apply)(params, state or {}, inputs, key=key)


def test_linear():
    weight, bias = real(5, 3, seed=1), real(3, seed=2)
    for inputs in (real(4, 5), real(2, 3, 5)):
        wanted = linen.Dense(3).apply({"params": {"kernel": weight, "bias": bias}}, inputs)
        params = {"weight": jnp.array(weight), "bias": jnp.array(bias)}
        assert_close(applied(jaxnn.linear(3), params, inputs)[0], wanted)
        assert_close(
            applied(jaxnn.linear(3, bias=False), {"weight": jnp.array(weight)}, inputs)[0],
            inputs @ weight,
        )


@pytest.mark.parametrize("scale", [1.0, 2.0**0.5])
def test_initial_weights_keep_the_variance(key, scale):
    for layer, inputs in (
        (jaxnn.linear(400, scale=scale), real(1, 300)),
        (jaxnn.conv(200, 3, scale=scale), real(1, 4, 4, 50)),
    ):
        params, _ = layer.init(key, inputs)
        weight = np.asarray(params["weight"])
        fan_in = weight.size // weight.shape[-1]
        assert np.isclose(weight.std() * np.sqrt(fan_in), scale, rtol=0.01)
        assert abs(weight.mean()) < 0.01 * weight.std()
        # The normal is cut at two of its own deviations, before which it is stretched by 1 / 0.88.
        assert np.abs(weight).max() <= scale * 2 / 0.8796 / np.sqrt(fan_in) * 1.001
        assert not np.asarray(params["bias"]).any()


CONVOLUTIONS = [
    # shape of the inputs, features, window, and what both libraries are given
    ((2, 9, 3), 4, (3,), {}),
    ((2, 9, 3), 4, (2,), {"strides": 2, "padding": "VALID"}),
    ((2, 9, 4), 6, (3,), {"dilation": 3, "groups": 2}),
    ((2, 8, 7, 3), 4, (3, 3), {}),
    ((2, 8, 7, 3), 4, (3, 2), {"strides": (2, 3)}),
    ((2, 8, 7, 3), 4, (3, 2), {"strides": (3, 1), "padding": "VALID", "bias": False}),
    ((2, 8, 7, 4), 8, (2, 3), {"dilation": (1, 2), "groups": 4}),
    ((2, 8, 7, 3), 4, (4, 4), {"padding": [(1, 2), (0, 3)], "strides": 2, "dilation": 2}),
    ((1, 4, 5, 6, 2), 3, (2, 3, 2), {"strides": (1, 2, 1)}),
    ((1, 4, 5, 6, 2), 4, (2, 2, 2), {"padding": "VALID", "groups": 2, "dilation": (2, 1, 2)}),
]


@pytest.mark.parametrize("shape, features, window, options", CONVOLUTIONS)
def test_conv(shape, features, window, options):
    names = {"dilation": "kernel_dilation", "groups": "feature_group_count", "bias": "use_bias"}
    given = {names.get(name, name): value for name, value in options.items()}
    zeros = {"kernel_init": nnx.initializers.zeros, "bias_init": nnx.initializers.zeros}
    theirs = nnx.Conv(shape[-1], features, window, rngs=nnx.Rngs(0), **zeros, **given)
    params = {"weight": jnp.array(real(*theirs.kernel[...].shape, seed=1))}
    theirs.kernel[...] = params["weight"]
    if options.get("bias", True):
        theirs.bias[...] = params["bias"] = jnp.array(real(features, seed=3))
    layer = jaxnn.conv(features, window, **options)
    inputs = real(*shape)
    assert_close(applied(layer, params, inputs)[0], theirs(jnp.array(inputs)))
    drawn, _ = jax.eval_shape(layer.init, jax.random.key(0), inputs)
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, params)


@pytest.mark.parametrize("padding", ["VALID", "SAME", [(1, 0), (0, 1)]])
@pytest.mark.parametrize("window, strides", [((2, 2), None), ((3, 2), (1, 2)), ((2, 3), (3, 1))])
def test_pooling(window, strides, padding):
    options = {"strides": strides or window, "padding": padding}
    for ours, theirs in ((jaxnn.max_pool, linen.max_pool), (jaxnn.avg_pool, linen.avg_pool)):
        # Below zero, so that padding would show if it were ever the largest.
        outputs = applied(ours(window, strides=strides, padding=padding), {}, IMAGES - 9)[0]
        wanted = jax.jit(lambda x, theirs=theirs: theirs(x, window, **options))(IMAGES - 9)
        assert_close(outputs, wanted)


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pooling_is_the_same_on_every_platform(kind, dtype):
    """In values, slopes of slopes and members side by side: by slices on CPU, else by windows."""
    given = {"kind": kind, "sizes": (3, 2), "steps": (2, 1), "pads": ((1, 0), (0, 1))}
    numbers = np.random.default_rng(0).permutation(1008) / 64 - 8  # of which no two are equal
    members = jnp.asarray(numbers.reshape(2, 3, 7, 6, 4), dtype)

    def summary(pool):
        def scalar(x):
            return jnp.sum(jnp.sin(pool(x, **given).astype(jnp.float32)))

        def along_its_slope(x):
            return jnp.sum(jax.grad(scalar)(x).astype(jnp.float32) ** 2)

        return jax.vmap(lambda x: (pool(x, **given), jax.grad(scalar)(x)))(members), (
            jax.vmap(jax.grad(along_its_slope))(members)
        )

    by_slices, by_windows = (jax.jit(partial(summary, p))() for p in (_by_slices, _by_windows))
    assert_close(by_windows, by_slices, 1e-5 if dtype == "float32" else 0.01)
    assert by_windows[0][0].dtype == by_slices[0][0].dtype == dtype


def test_pooling_in_one_and_three_dimensions():
    for shape in ((2, 7, 3), (2, 5, 4, 5, 2)):
        inputs, window = real(*shape), (2,) * (len(shape) - 2)
        theirs = linen.max_pool(jnp.array(inputs), window, strides=window)
        assert_close(applied(jaxnn.max_pool(2), {}, inputs)[0], theirs)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_example_norms(name):
    theirs = {"layer_norm": linen.LayerNorm(use_fast_variance=False), "rms_norm": linen.RMSNorm()}[
        name
    ]
    params = {"scale": jnp.array(real(4, seed=1)), "bias": jnp.array(real(4, seed=2))}
    if name == "rms_norm":
        del params["bias"]
    outputs = applied(getattr(jaxnn.layers, name)(), params, 3 * IMAGES + 2)[0]
    assert_close(outputs, theirs.apply({"params": params}, 3 * IMAGES + 2))


def test_batch_norm():
    """Outputs and running statistics over three steps of training, then inference."""
    params = {"scale": jnp.array(real(4, seed=1)), "bias": jnp.array(real(4, seed=2))}
    state = {"mean": jnp.array(real(4, seed=3)), "var": jnp.abs(jnp.array(real(4, seed=4)))}
    ours, theirs = jaxnn.batch_norm(momentum=0.8), linen.BatchNorm(momentum=0.8)
    variables = {"params": params, "batch_stats": state}
    for step in range(3):
        inputs = (step + 1) * real(3, 5, 4, seed=step) + step
        outputs, state = applied(ours, params, inputs, state, jax.random.key(0))
        wanted, updated = theirs.apply(
            variables, inputs, use_running_average=False, mutable=["batch_stats"]
        )
        variables |= updated
        assert_close(outputs, wanted)
        assert_close(state, variables["batch_stats"])
    outputs, after = applied(ours, params, inputs, state)
    assert_close(outputs, theirs.apply(variables, inputs, use_running_average=True))
    assert_close(after, state)


def test_embedding():
    table, symbols = real(7, 3), whole(7, 4, 5)
    outputs = applied(jaxnn.embedding(7, 3), {"weight": jnp.array(table)}, symbols)[0]
    assert_close(outputs, linen.Embed(7, 3).apply({"params": {"embedding": table}}, symbols))
    near = applied(jaxnn.embedding(7, 3), {"weight": jnp.array(table)}, np.int32([[-1, 7, 99]]))[0]
    assert_close(near[0], table[[0, 6, 6]])
    drawn = jaxnn.embedding(1000, 100).init(jax.random.key(0), symbols)[0]["weight"]
    assert np.isclose(np.std(drawn), 0.1, rtol=0.01)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout(rate, key):
    """As many zeros as the rate says, independently, and the same mean."""
    inputs = np.ones((400, 500), np.float32)
    outputs = np.asarray(applied(jaxnn.dropout(rate), {}, inputs, key=key)[0])
    kept = outputs != 0
    deviation = np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(kept.mean() - (1 - rate)) < 4 * deviation
    np.testing.assert_allclose(outputs[kept], 1 / (1 - rate), rtol=1e-3)
    both = (kept[:, 1:] & kept[:, :-1]).mean()
    assert abs(both - (1 - rate) ** 2) < 10 * deviation
    other = applied(jaxnn.dropout(rate), {}, inputs, key=jax.random.key(1))[0]
    assert ((np.asarray(other) != 0) != kept).any()


def test_dropout_traced_and_at_its_ends(key):
    inputs = jnp.ones((50, 40))

    @jax.jit
    def share(rate):
        return jnp.mean(applied(jaxnn.dropout(rate), {}, inputs, key=key)[0] == 0)

    assert float(share(0.0)) == 0 and 0.2 < float(share(0.25)) < 0.3 and float(share(1.0)) > 0.99
    assert_close(applied(jaxnn.dropout(0.0), {}, inputs, key=key)[0], inputs)


def test_standardize():
    images = whole(256, 6, 5, 2, dtype=np.uint8)
    layer = jaxnn.standardize(100, 50)
    one = applied(layer, {}, images, layer.init(None, images)[1])[0]
    assert one.dtype == jnp.float32
    assert_close(one, (images.astype(np.float32) - 100) / 50)
    mean, std = images.mean(0), images.std(0)
    layer = jaxnn.standardize(mean, std)
    outputs = np.asarray(applied(layer, {}, images, layer.init(None, images)[1])[0])
    np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(outputs.std(0), 1, atol=1e-6)


def test_activation_and_flatten():
    assert_close(applied(jaxnn.activation(jax.nn.relu), {}, IMAGES)[0], np.maximum(IMAGES, 0))
    assert_close(applied(jaxnn.flatten(), {}, IMAGES)[0], IMAGES.reshape(3, -1))
    assert applied(jaxnn.flatten(), {}, real(3))[0].shape == (3, 1)


def test_batch_norm_far_from_zero(key):
    inputs = real(64, 3) + 3000.0
    params, state = jaxnn.batch_norm().init(key, inputs)
    outputs, _ = applied(jaxnn.batch_norm(), params, inputs, state, key=key)
    np.testing.assert_allclose(np.asarray(outputs).std(0), 1.0, rtol=1e-2)
