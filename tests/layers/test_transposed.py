"""Transposed and depthwise convolution, group norm and stochastic depth: Flax, and by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxnn
from jaxnn import InvalidValue, layers
from jaxnn.layers.convolution import _by_groups, _by_shifts
from tests.mistakes import judge
from tests.registry import real
from tests.trees import assert_close

IMAGES = real(3, 7, 6, 4)


def applied(layer, params, inputs, key=None):
    return jax.jit(layer.apply)(params, {}, inputs, key=key)[0]


TRANSPOSED = [
    # shape of the inputs, features, window, and what both libraries are given
    ((2, 5, 3), 4, (3,), {}),
    ((2, 5, 3), 4, (2,), {"strides": 3}),
    ((2, 5, 4, 3), 4, (3, 2), {"strides": (2, 1)}),
    ((2, 5, 4, 3), 4, (4, 5), {"strides": 2, "bias": False}),
    ((2, 5, 4, 3), 4, (3, 2), {"strides": (2, 3), "padding": "VALID"}),
    ((2, 5, 4, 3), 2, (3, 4), {"strides": 2, "padding": [(2, 1), (0, 3)]}),
    ((1, 3, 2, 4, 2), 2, (2, 1, 3), {"strides": (1, 2, 2)}),
]


@pytest.mark.parametrize("shape, features, window, options", TRANSPOSED)
def test_conv_transpose(shape, features, window, options):
    given = {"use_bias" if name == "bias" else name: value for name, value in options.items()}
    strides = given.pop("strides", 1)
    strides = (strides,) * len(window) if isinstance(strides, int) else strides
    theirs = linen.ConvTranspose(features, window, strides=strides, **given)
    params = {"weight": jnp.array(real(*window, shape[-1], features, seed=1))}
    kernel = {"kernel": params["weight"]}
    if options.get("bias", True):
        kernel["bias"] = params["bias"] = jnp.array(real(features, seed=3))
    layer, inputs = layers.conv_transpose(features, window, **options), real(*shape)
    assert_close(applied(layer, params, inputs), theirs.apply({"params": kernel}, inputs))
    drawn, _ = jax.eval_shape(layer.init, jax.random.key(0), inputs)
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, params)


def test_padding_has_its_name_in_any_case():
    inputs, params = real(2, 5, 3), {"weight": jnp.array(real(4, 3, 2)), "bias": jnp.zeros(2)}
    for name in ("SAME", "VALID"):
        upper, lower = (
            applied(layers.conv_transpose(2, 4, strides=2, padding=each), params, inputs)
            for each in (name, name.lower())
        )
        assert_close(upper, lower)


def test_one_input_paints_its_window():
    params = {"weight": jnp.arange(1.0, 7.0).reshape(3, 2, 1, 1), "bias": jnp.zeros(1)}
    one = np.zeros((1, 2, 2, 1), np.float32)
    one[0, 1, 0] = 10
    painted = applied(layers.conv_transpose(1, (3, 2), strides=(3, 2)), params, one)[0, :, :, 0]
    # The last weight of a window, not the first, is at its first output, as in Flax.
    assert painted[3:, :2].tolist() == [[60, 50], [40, 30], [20, 10]]
    assert float(jnp.sum(painted)) == 210


def test_transposed_convolution_keeps_the_variance_of_the_inputs(key):
    layer = layers.conv_transpose(40, 4, strides=2, padding="VALID")
    inputs = real(4, 12, 12, 30)
    outputs = np.asarray(applied(layer, layer.init(key, inputs)[0], inputs))
    assert np.isclose(outputs[:, 3:-3, 3:-3].std(), 1, rtol=0.05)


DEPTHWISE = [
    ((2, 9, 3), (3,), {}),
    ((2, 9, 4), (2,), {"strides": 2, "padding": "VALID", "dilation": 3}),
    ((2, 8, 7, 3), (3, 2), {"strides": (2, 3), "multiplier": 2}),
    ((2, 8, 7, 3), (2, 4), {"padding": [(1, 2), (0, 3)], "dilation": (2, 1), "bias": False}),
    ((1, 4, 5, 6, 2), (2, 3, 2), {"strides": (1, 2, 1), "multiplier": 3}),
]


@pytest.mark.parametrize("shape, window, options", DEPTHWISE)
def test_depthwise_conv(shape, window, options):
    names = {"dilation": "kernel_dilation", "bias": "use_bias"}
    given = {names.get(k, k): v for k, v in options.items() if k != "multiplier"}
    channels, features = shape[-1], shape[-1] * options.get("multiplier", 1)
    zeros = {"kernel_init": nnx.initializers.zeros, "bias_init": nnx.initializers.zeros}
    theirs = nnx.Conv(
        channels, features, window, feature_group_count=channels, rngs=nnx.Rngs(0), **zeros, **given
    )
    params = {"weight": jnp.array(real(*window, 1, features, seed=1))}
    theirs.kernel[...] = params["weight"]
    if options.get("bias", True):
        theirs.bias[...] = params["bias"] = jnp.array(real(features, seed=3))
    layer, inputs = layers.depthwise_conv(window, **options), real(*shape)
    assert_close(applied(layer, params, inputs), theirs(jnp.array(inputs)))
    drawn, _ = jax.eval_shape(layer.init, jax.random.key(0), inputs)
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, params)


def test_depthwise_conv_is_the_same_on_every_platform():
    """By shifts on CPU, else by groups: values, slopes of slopes, and members side by side."""
    members = jnp.array(real(2, 3, 8, 7, 3)), jnp.array(real(2, 3, 2, 1, 6, seed=1))
    given = {"steps": (2, 1), "pads": ((1, 2), (0, 3)), "gaps": (1, 2)}

    def summary(convolve):
        def slopes(*arrays):
            return jax.grad(lambda *x: jnp.sum(jnp.sin(convolve(*x, **given))), (0, 1))(*arrays)

        def along_its_slope(*arrays):
            return sum(jnp.sum(slope**2) for slope in slopes(*arrays))

        every = partial(convolve, **given), slopes, jax.grad(along_its_slope)
        return [jax.vmap(each)(*members) for each in every]

    by_shifts, by_groups = (jax.jit(partial(summary, f))() for f in (_by_shifts, _by_groups))
    assert_close(by_groups, by_shifts, 1e-4)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(groups):
    params = {"scale": jnp.array(real(4, seed=1)), "bias": jnp.array(real(4, seed=2))}
    theirs = linen.GroupNorm(groups, use_fast_variance=False)
    for inputs in (3 * IMAGES + 2, real(3, 4)):
        wanted = theirs.apply({"params": params}, inputs)
        assert_close(applied(layers.group_norm(groups), params, inputs), wanted)


def test_group_norm_far_from_zero():
    layer, inputs = layers.group_norm(2), real(2, 50, 4) + 3000.0
    outputs = applied(layer, layer.init(jax.random.key(0), inputs)[0], inputs)
    np.testing.assert_allclose(np.asarray(outputs).std((1, 2)), 1.0, rtol=1e-2)


def test_batch_norm_begins_with_the_scale_it_is_given(key):
    params, _ = jaxnn.batch_norm(scale=0.25).init(key, IMAGES)
    assert params["scale"].tolist() == [0.25] * 4 and params["bias"].tolist() == [0] * 4


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_stochastic_depth(rate, key):
    """As many examples dropped as the rate says, each as a whole, and the same mean."""
    inputs = np.ones((20000, 2, 3), np.float32)
    outputs = np.asarray(applied(layers.stochastic_depth(rate), {}, inputs, key))
    kept = outputs[:, 0, 0] != 0
    np.testing.assert_array_equal(outputs != 0, np.broadcast_to(kept[:, None, None], inputs.shape))
    np.testing.assert_allclose(outputs[kept], 1 / (1 - rate), rtol=1e-3)
    assert abs(kept.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / len(kept))
    assert_close(applied(layers.stochastic_depth(rate), {}, inputs[:8]), inputs[:8])


def test_a_dropped_example_skips_the_branch(key):
    """The rate may be a hyper-parameter, traced."""
    inputs = np.ones((64, 2), np.float32)

    @jax.jit
    def outputs(rate):
        branch = jaxnn.serial(jaxnn.activation(jnp.ones_like), layers.stochastic_depth(rate))
        return jaxnn.residual(branch).apply({}, {}, inputs, key=key)[0]

    assert set(np.asarray(outputs(0.75))[:, 0].tolist()) == {1.0, 5.0}
    assert (np.asarray(outputs(0.0)) == 2).all()


def shape(network, inputs):
    return jax.eval_shape(network.init, jax.random.key(0), inputs)


WEIGHTS = {"weight": real(3, 3, 1, 4), "bias": real(4)}
CASES = {
    "groups that do not divide": (
        lambda: shape(layers.group_norm(6), real(2, 3, 4)),
        InvalidValue, r"group_norm: .* features=4 and groups=6",
        r"Pass, say, features=6, or groups=2",
    ),
    "no groups": (lambda: layers.group_norm(0), InvalidValue, r"groups=0", r"groups=1"),
    "an infinite scale": (
        lambda: jaxnn.batch_norm(scale=np.inf), InvalidValue, r"scale=inf", r"Pass, say, scale=",
    ),
    "dropping all": (
        lambda: layers.stochastic_depth(1.0),
        InvalidValue, r"stochastic_depth: rate is out of range. Got rate=1",
        r"Pass, say, rate=0\.5",
    ),
    "no nodes for a channel": (
        lambda: layers.depthwise_conv(3, multiplier=0),
        InvalidValue, r"multiplier=0", r"multiplier=1",
    ),
    "depthwise without space": (
        lambda: shape(layers.depthwise_conv(3), real(2, 4)),
        InvalidValue, r"inputs of shape \(2, 4\)", r"Reshape images",
    ),
    "depthwise with other channels": (
        lambda: jax.eval_shape(layers.depthwise_conv(3).apply, WEIGHTS, {}, real(2, 6, 6, 3)),
        InvalidValue, r"weight of shape \(3, 3, 1, 4\)", r"Pass inputs of the shape that init",
    ),
    "depthwise with a window too large": (
        lambda: jax.eval_shape(
            layers.depthwise_conv(3, padding="VALID").apply, WEIGHTS, {}, real(2, 2, 6, 4)
        ),
        InvalidValue, r"of extent 3", r"padding='SAME'",
    ),
    "transposed without space": (
        lambda: shape(layers.conv_transpose(2, 3), real(2, 4)),
        InvalidValue, r"conv_transpose: .* inputs of shape \(2, 4\)", r"Reshape images",
    ),
    "transposed with other channels": (
        lambda: jax.eval_shape(layers.conv_transpose(4, 3).apply, WEIGHTS, {}, real(2, 6, 6, 3)),
        InvalidValue, r"weight of shape \(3, 3, 1, 4\)", r"Pass inputs of the shape that init",
    ),
    "transposed by a padding of another name": (
        lambda: jax.eval_shape(
            layers.conv_transpose(4, 3, padding="HALF").apply, WEIGHTS, {}, real(2, 6, 6, 1)
        ),
        InvalidValue, r"padding='HALF'", r"Pass padding='SAME'",
    ),
    "transposed strides of zero": (
        lambda: layers.conv_transpose(4, 3, strides=0), InvalidValue, r"strides=0", r"strides=1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
