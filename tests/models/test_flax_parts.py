"""The submodules of Flax models are parts: in tables and captured outputs, in Linen and in NNX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxnn
from jaxnn.calls import intercept
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.models.flax import from_flax
from jaxnn.network import Network
from jaxnn.runs import layers
from tests.flax_networks import CNN, IMAGES, KEY, ROWS


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(6, name="hidden")(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dropout(0.5, deterministic=not train)(x)


class Linen(nn.Module):
    """Blocks in a loop of Python, a layer that is called twice, and a loop of Flax."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        for _ in range(2):
            x = Block()(x, train)
        shared = nn.Dense(6, name="shared")
        x = shared(nn.relu(shared(x)))
        layers = nn.scan(
            nn.remat(Layer), variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = layers(name="layers")(x, None)
        return nn.Dense(3, name="output")(x)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dense(6, name="inner")(x), None


LINEN = from_flax(Linen())
NNX = from_flax(CNN, features=2)


def equal(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_table_has_a_row_for_each_layer_of_linen():
    rows = {row.part: row for row in jaxnn.table(LINEN, ROWS).rows}
    assert list(rows) == [
        *(f"Block_{n}/{name}" for n in (0, 1) for name in ("hidden", "BatchNorm_0", "Dropout_0")),
        "shared", "layers/inner", "output",
    ]  # fmt: skip
    hidden, shared = rows["Block_1/hidden"], rows["shared"]
    assert (hidden.kind, hidden.output, hidden.parameters) == ("Dense", (4, 6), 42)
    assert hidden.flops == 2 * 4 * 6 * 6 and shared.flops == 2 * hidden.flops
    assert rows["layers/inner"].flops == 3 * hidden.flops  # in all iterations
    assert rows["Block_0/BatchNorm_0"].bytes == 4 * 6 * 4  # its statistics too
    total = jaxnn.table(LINEN, ROWS).total
    assert total.flops == sum(row.flops for row in rows.values())
    assert total.parameters == 36 + 2 * 12 + 42 + 42 + 3 * 42 + 21


def test_a_table_has_a_row_for_each_layer_of_nnx():
    rows = {row.part: row for row in jaxnn.table(NNX, IMAGES).rows}
    assert list(rows) == [
        *(f"blocks/{n}/{name}" for n in (0, 1) for name in ("conv", "norm", "dropout")), "output",
    ]  # fmt: skip
    conv = rows["blocks/1/conv"]
    assert (conv.kind, conv.output, conv.parameters) == ("Conv", (4, 6, 6, 2), 9 * 2 * 2 + 2)
    assert conv.flops > 0 and rows["blocks/0/norm"].bytes == 4 * 2 * 4


@pytest.mark.parametrize("key", [None, KEY], ids=["inference", "training"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_a_captured_network_computes_what_it_computes_alone(name, compiled, key):
    network, inputs, patterns = {
        "linen": (LINEN, ROWS, ["*hidden", "shared", "*Dropout*", "output"]),
        "nnx": (NNX, IMAGES, ["blocks/*/dropout", "output", ""]),
    }[name]
    params, state = network.init(KEY, inputs)
    captured = jaxnn.transforms.capture(network, patterns)
    run, alone = (
        (lambda n: jax.jit(n.apply) if compiled else n.apply)(each) for each in (captured, network)
    )
    (outputs, inside), after = run(params, state, inputs, key=key)
    equal((outputs, after), alone(params, state, inputs, key=key))
    expected = {
        "linen": {*(f"Block_{n}/{x}" for n in (0, 1) for x in ("hidden", "Dropout_0")),
                  "shared", "output"},
        "nnx": {"blocks/0/dropout", "blocks/1/dropout", "output", ""},
    }[name]  # fmt: skip
    assert set(inside) == expected
    equal(inside["output"], outputs)


def test_captured_outputs_are_those_of_flax():
    params, state = LINEN.init(KEY, ROWS)
    (_, inside), _ = jaxnn.transforms.capture(LINEN, ["Block_0/hidden"]).apply(params, state, ROWS)
    weights = params["Block_0"]["hidden"]
    np.testing.assert_allclose(
        inside["Block_0/hidden"], ROWS @ weights["kernel"] + weights["bias"][None], atol=1e-6
    )
    params, state = NNX.init(KEY, IMAGES)
    (_, inside), _ = jaxnn.transforms.capture(NNX, ["blocks/0/conv"]).apply(params, state, IMAGES)
    module = jaxnn.models.to_flax(CNN, params, state, features=2)
    equal(inside["blocks/0/conv"], module.blocks[0].conv(IMAGES))


def test_submodules_are_parts_below_the_part_that_holds_the_model():
    network = jaxnn.serial(("first", jaxnn.linear(5)), ("model", LINEN))
    params, state = network.init(KEY, ROWS)
    both = jaxnn.transforms.capture(network, ["first", "model/output"])
    (outputs, inside), after = jax.jit(both.apply)(params, state, ROWS)
    assert list(inside) == ["first", "model/output"]
    equal(inside["model/output"], outputs)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    mixed = jaxnn.transforms.capture(jaxnn.mixed_precision(network), ["model/output"])
    (outputs, inside), _ = mixed.apply(params, state, ROWS)
    assert inside["model/output"].dtype == jnp.bfloat16 and outputs.dtype == jnp.float32


def test_the_page_of_a_run_has_the_outputs_of_submodules():
    trees = NNX.init(KEY, IMAGES)
    arrays = {f"arrays/{n}": x for n, x in enumerate(jax.tree.leaves(trees))}

    def bind(given):  # the arrays that the program reads
        leaves = (arrays | given).values()
        return NNX, *jax.tree.unflatten(jax.tree.structure(trees), leaves)

    program = layers.exported(bind, arrays, IMAGES[:1]).exported
    (used, _), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    used = {name: arrays[name] for name in used}
    outputs = layers.named(program.call(used, IMAGES[:1]))
    assert list(outputs)[:2] == ["blocks/0/conv", "blocks/0/norm"] and "output" in outputs


def test_a_part_that_is_not_called_is_an_error():
    params, state = LINEN.init(KEY, ROWS)
    with pytest.raises(InvalidValue, match="capture: a part is not called.*'hiden'"):
        jaxnn.transforms.capture(LINEN, ["hiden"]).apply(params, state, ROWS)
    with pytest.raises(InvalidType, match="patterns have the wrong type"):
        jaxnn.transforms.capture(LINEN, "hidden")
    with pytest.raises(InvalidValue, match="layers/inner"):  # whose loop drops its variables
        jaxnn.transforms.capture(LINEN, ["output", "layers/inner"]).apply(params, state, ROWS)


class Cached(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=True, rngs=rngs)
        self.attention.init_cache((4, 3, 8))

    def __call__(self, x):
        return self.attention(self.norm(x))


class LinenCached(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(2, decode=True)(nn.LayerNorm()(x))


@pytest.mark.parametrize("model", [Cached, LinenCached()], ids=["nnx", "linen"])
def test_a_table_of_a_model_with_a_cache_changes_no_cache(model):
    network, inputs = from_flax(model), jnp.ones((4, 1, 8))
    kinds = {row.kind for row in jaxnn.table(network, inputs).rows}
    assert "LayerNorm" in kinds and len(kinds) > 1
    params, state = network.init(KEY, inputs)
    captured = jaxnn.transforms.capture(network, ["*orm*"])
    equal(captured.apply(params, state, inputs)[1], network.apply(params, state, inputs)[1])


def test_a_frame_may_replace_a_submodule():
    def change(path, part):
        if path != "output":
            return part
        doubled = lambda *arrays, key=None: (2 * part.apply(*arrays)[0], {})  # noqa: E731
        return Network(part.init, doubled)

    for network, inputs in ((LINEN, ROWS), (NNX, IMAGES)):
        params, state = network.init(KEY, inputs)
        outputs, _ = intercept(network, change).apply(params, state, inputs)
        equal(outputs, 2 * network.apply(params, state, inputs)[0])


def test_classes_are_left_as_they_are():
    before = nnx.Linear.__call__, "__call__" in vars(CNN)
    jaxnn.table(NNX, IMAGES)
    with pytest.raises(InvalidValue):
        jaxnn.transforms.capture(NNX, ["nothing"]).apply(*NNX.init(KEY, IMAGES), IMAGES)
    assert (nnx.Linear.__call__, "__call__" in vars(CNN)) == before
