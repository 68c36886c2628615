"""Residual networks: published sizes, what they learn at first, and what their shortcuts are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidValue
from tests.mistakes import judge
from tests.registry import real
from tests.trees import assert_close

PUBLISHED = [
    # He et al. 2016, table 6 (in millions), and the weights that PyTorch's torchvision publishes.
    ([3, 3, 3], {}, 0.27e6, 0.01e6),
    ([2, 2, 2, 2], {"form": "imagenet"}, 11_689_512, 0),
    ([3, 4, 6, 3], {"form": "imagenet", "bottleneck": True}, 25_557_032, 0),
    pytest.param([5, 5, 5], {}, 0.46e6, 0.01e6, marks=pytest.mark.slow),
    pytest.param([9, 9, 9], {}, 0.85e6, 0.01e6, marks=pytest.mark.slow),
    pytest.param([3, 4, 6, 3], {"form": "imagenet"}, 21_797_672, 0, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("blocks, settings, published, rounding", PUBLISHED)
def test_it_has_as_many_parameters_as_published(blocks, settings, published, rounding):
    outputs, pixels = (1000, 224) if settings else (10, 32)
    network = jaxnn.resnet(blocks, outputs, **settings)
    images = jax.ShapeDtypeStruct((1, pixels, pixels, 3), jnp.float32)
    params, _ = jax.eval_shape(network.init, jax.random.key(0), images)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert abs(count - published) <= rounding / 2


def test_each_stage_halves_the_image_and_doubles_the_channels():
    network, images = jaxnn.resnet([1, 1, 1], 5, width=4), real(2, 12, 12, 3)
    params, state = jax.eval_shape(network.init, jax.random.key(0), images)
    seen = images
    shapes = []
    for name, part in network.parts.children:
        seen = jax.eval_shape(part.apply, params.get(name, {}), state.get(name, {}), seen)[0]
        shapes.append((name, seen.shape[1:]))
    assert shapes[4:] == [
        ("stage_1", (12, 12, 4)), ("stage_2", (6, 6, 8)), ("stage_3", (3, 3, 16)),
        ("mean", (16,)), ("output", (5,)),
    ]  # fmt: skip


def test_a_block_without_its_branch_is_its_shortcut(key):
    """So the outputs are those of the entrance: skipped pixels, zeros in the new channels."""
    network, images = jaxnn.resnet([2, 1], 3, width=4), real(2, 6, 6, 2)
    params, state = jax.jit(network.init)(key, images)
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x * ("norm_2" not in jax.tree_util.keystr(path)), params
    )
    entered = images
    parts = dict(network.parts.children)
    for name in ("conv", "norm", "activation"):
        entered, _ = parts[name].apply(params.get(name, {}), state.get(name, {}), entered)
    features = np.zeros((2, 8), np.float32)
    features[:, :4] = np.asarray(entered)[:, ::2, ::2].mean((1, 2))
    wanted = features @ params["output"]["weight"]  # the biases begin as zeros
    assert_close(jax.jit(network.apply)(params, state, images)[0], wanted)


def test_short_runs_evaluate_as_they_train(key):
    """Running statistics that lag behind fail this."""
    labels = np.arange(256) % 2
    images = 30 + 20 * real(256, 8, 8, 1)
    images += 20 * labels[:, None, None, None] * np.indices((8, 8, 1))[0]
    data = jaxnn.resident({"inputs": images, "labels": labels}, batch_size=32)
    learner = jaxnn.learner(jaxnn.resnet([1], 2, width=4), jaxnn.classification(), optax.adam(1e-2))
    for progress in jaxnn.train(learner, data, steps=30, key=key, evaluate=data):
        last = progress
    assert last.metrics["test/accuracy"] > 0.95


def test_stochastic_depth_grows_with_depth():
    text = repr(jaxnn.resnet([1, 1, 2], 3, width=2, drop=0.4))
    rates = [float(line.split("rate=")[1][:-1]) for line in text.splitlines() if "rate=" in line]
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3, 0.4])


def test_a_bottleneck_is_its_formula(key):
    """One block of ImageNet's form in training, by hand, with `lax` and the statistics of NumPy."""
    network = jaxnn.resnet([1], 2, form="imagenet", width=2, bottleneck=True)
    images = real(4, 16, 16, 1)
    params, state = jax.jit(network.init)(key, images)
    draws = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + np.float32(0.1 * draws.normal(size=x.shape)), params)

    def convolved(x, layer, strides, padding):
        return jax.lax.conv_general_dilated(
            x, layer["weight"], (strides, strides), [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def normal(x, layer):
        x = np.asarray(x)
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        return x * np.asarray(layer["scale"]) + np.asarray(layer["bias"])

    x = np.maximum(normal(convolved(images, params["conv"], 2, 3), params["norm"]), 0)
    padding = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = [padding[:, i : i + 7 : 2, j : j + 7 : 2] for i in range(3) for j in range(3)]
    x = np.max(windows, 0)
    block = params["stage_1"]["block_1"]["sum"]
    y = x
    for number, padding in ((1, 0), (2, 1), (3, 0)):
        y = convolved(y, block["branch"][f"conv_{number}"], 1, padding)
        y = normal(y, block["branch"][f"norm_{number}"])
        y = np.maximum(y, 0) if number < 3 else y
    skip = normal(convolved(x, block["shortcut"]["conv"], 1, 0), block["shortcut"]["norm"])
    output = {name: np.asarray(leaf) for name, leaf in params["output"].items()}
    wanted = np.maximum(y + skip, 0).mean((1, 2)) @ output["weight"] + output["bias"]
    outputs = jax.jit(network.apply)(params, state, images, key=key)[0]
    assert_close(outputs, wanted)


CASES = {
    "a form of another name": (
        lambda: jaxnn.resnet([1], 3, form="imagnet"),
        InvalidValue, r"resnet: form is unknown. Got form='imagnet'", r"Did you mean 'imagenet'\?",
    ),
    "a stage without blocks": (
        lambda: jaxnn.resnet([1, 0], 3), InvalidValue, r"resnet: blocks .* blocks=0", r"blocks=1",
    ),
    "a depth instead of blocks": (
        lambda: jaxnn.resnet(18, 1000),
        InvalidValue, r"resnet: blocks are not a number for each stage. Got blocks=18",
        r"Pass, say, blocks=\[2, 2, 2, 2\]",
    ),
    "no stages": (
        lambda: jaxnn.resnet([], 10),
        InvalidValue, r"blocks=\[\]; expected .* of at least one", r"Pass, say, blocks=",
    ),
    "no width": (lambda: jaxnn.resnet([1], 3, width=0), InvalidValue, r"width=0", r"width=1"),
    "dropping everything": (
        lambda: jaxnn.resnet([1], 3, drop=1.0), InvalidValue, r"drop=1", r"Pass, say, drop=0\.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
