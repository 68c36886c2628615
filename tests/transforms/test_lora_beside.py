"""Adapters beside the weights: what they cost, and that each kind of part computes what it must."""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jaxnn
from jaxnn.network import Parts, stateless
from jaxnn.programs import operations, products
from jaxnn.transforms import merge_lora
from tests.cases import real

STRICT = pytest.mark.usefixtures("strict")

TOKENS = np.random.default_rng(0).integers(0, 11, (2, 6)).astype(np.int32)
REAL = real(2, 6, 8)
SMALL = {"layers": 2, "heads": 4, "features": 16, "form": "modern", "kv_heads": 2}


def convnet():
    return jaxnn.serial(jaxnn.conv(4, 3), jaxnn.layers.over_time("mean"), jaxnn.linear(3))


def normalized():
    """A wrapper that computes with its weights before it passes them on, and says so to nobody."""
    inner = jaxnn.mlp([5], 3)

    def apply(params, state, inputs, *, key=None):
        params = jax.tree.map(lambda x: x / (1 + jnp.abs(x).sum()), params)
        return inner.apply(params, state, inputs, key=key)

    return inner._replace(apply=apply)


ALL, MATRICES = {"*weight": True}, None
CASES = {
    "mlp": (jaxnn.mlp([5], 3), MATRICES, real(2, 8)),
    "attention": (jaxnn.attention(8, heads=2), MATRICES, REAL),
    "gpt stacked": (jaxnn.gpt(11, **SMALL, stacked=True, remat="nothing"), MATRICES, TOKENS),
    "gpt and its tied rows": (
        jaxnn.gpt(11, **{**SMALL, "layers": 1}), {"tokens": True, "*/query": True}, TOKENS,
    ),
    "gpt whose output is a layer": (
        jaxnn.gpt(11, **{**SMALL, "layers": 1}, tied=False), MATRICES, TOKENS,
    ),
    "convolution": (jaxnn.conv(4, 3), ALL, real(2, 5, 5, 3)),
    "gru": (jaxnn.layers.gru(5), ALL, REAL),
    "a function of one's own": (
        stateless(lambda p, x: x @ jnp.tanh(p["weight"]), lambda key, x: {"weight": jnp.eye(8)}),
        ALL, REAL,
    ),
    "a wrapper that changes weights": (normalized(), ALL, real(2, 8)),
    "mixed precision inside": (jaxnn.mixed_precision(jaxnn.mlp([5], 3)), MATRICES, real(2, 8)),
}  # fmt: skip


def adapted(network, rules, inputs, *, rank=2):
    """Returns an adapted network with its parameters, none of them 0, and its state."""
    network = jaxnn.lora(network, rules, rank=rank)
    params, state = network.init(jax.random.key(0), inputs)
    draws = np.random.default_rng(1)
    params = jax.tree.map(lambda x: jnp.float32(0.3 * draws.normal(size=x.shape)), params)
    return network, params, state


@STRICT
@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_merged_weights(name):
    inner, rules, inputs = CASES[name]
    network, params, state = adapted(inner, rules, inputs)

    def beside(params):
        outputs, after = network.apply(params, state, inputs)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        return (outputs * outputs).mean(), outputs

    def summed(params):
        outputs, _ = inner.apply(*merge_lora(params, state), inputs)
        return (outputs * outputs).mean(), outputs

    got, wanted = (
        jax.jit(jax.grad(function, has_aux=True))(params) for function in (beside, summed)
    )
    tolerance = 0.05 if "mixed" in name else 1e-3
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), got, wanted)
    unchanged = jax.tree.map(jnp.zeros_like, params)
    assert np.abs(got[1] - summed(unchanged)[1]).max() > 1e-3


@STRICT
def test_mixed_precision_of_adapters_computes_in_it():
    network, params, state = adapted(jaxnn.mlp([5], 3), MATRICES, real(2, 8))
    half = jaxnn.mixed_precision(network)
    program = jax.make_jaxpr(lambda p, s, x: half.apply(p, s, x)[0])(params, state, real(2, 8))
    dtypes = {e.outvars[0].aval.dtype for e, _ in operations(program.jaxpr)
              if e.primitive.name == "dot_general"}  # fmt: skip
    assert dtypes == {jnp.dtype("bfloat16")}
    outputs, _ = half.apply(params, state, real(2, 8))
    np.testing.assert_allclose(outputs, network.apply(params, state, real(2, 8))[0], atol=0.1)


@STRICT
def test_members_have_adapters_of_their_own():
    network, params, state = adapted(jaxnn.attention(8, heads=2), MATRICES, REAL)
    members = jax.tree.map(lambda x: jnp.stack([x, -x]), params)
    both = jax.vmap(lambda p: network.apply(p, state, REAL)[0])(members)
    for member in range(2):
        one = jax.tree.map(lambda x: x[member], members)
        wanted, _ = network.apply(one, state, REAL)
        np.testing.assert_allclose(both[member], wanted, rtol=1e-4, atol=1e-4)


# --- which weights -----------------------------------------------------------------------------


def names(network, *arguments, **options):
    adapted_network = jaxnn.lora(network, *arguments, rank=2, **options)
    params, _ = jax.eval_shape(adapted_network.init, jax.random.key(0), TOKENS)
    return {name.rpartition("/")[0] for name in jaxnn.names.named_leaves(params)}


def test_all_layers_of_nodes_by_default():
    blocks = names(jaxnn.gpt(11, **SMALL, stacked=True))
    assert len(blocks) == 7 and all("/blocks/" in name for name in blocks)
    assert len(names(jaxnn.gpt(11, **SMALL))) == 14


def test_kinds_and_rules_choose_together():
    network = jaxnn.gpt(11, **SMALL, stacked=True)
    assert names(network, kinds=["embedding"]) == {"tokens/weight"}
    queries = names(network, {"*/query": True, "*/value": True}, kinds=["linear"])
    assert {name.split("/")[-2] for name in queries} == {"query", "value"}
    # The stacked scales of the norms would pass for matrices.
    assert len(names(network, {"*": True}, kinds=["linear", "embedding"])) == 8


def test_a_kind_that_is_not_there_is_named():
    with pytest.raises(
        ValueError, match=r"no layer of a kind. Got 'conv'; expected some of flatten, linear"
    ):
        jaxnn.lora(jaxnn.mlp([5], 3), rank=2, kinds=["conv"])
    with pytest.raises(ValueError, match="Got 'linear'"):
        flax = jaxnn.mlp([5], 3)._replace(parts=Parts("flax"))
        jaxnn.lora(flax, rank=2)
    with pytest.raises(TypeError, match=r"Pass kinds=\['linear'\]"):
        jaxnn.lora(jaxnn.mlp([5], 3), rank=2, kinds="linear")


class Attention(nn.Module):
    bias: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3,))(x)
        return nn.MultiHeadDotProductAttention(2, qkv_features=32, use_bias=self.bias)(x)


@STRICT
def test_a_kernel_of_flax_with_several_axes_is_one_matrix():
    network = jaxnn.from_flax(Attention())
    adapted_network, params, state = adapted(network, {"*kernel": True}, REAL)
    shapes = {name: x.shape for name, x in jaxnn.names.named_leaves(params).items()}
    layer = "MultiHeadDotProductAttention_0"
    assert shapes[f"{layer}/query/kernel/down"] == (8, 2)
    assert shapes[f"{layer}/query/kernel/up"] == (2, 32)  # of [8, 2, 16]
    assert shapes[f"{layer}/out/kernel/down"] == (32, 2)
    assert shapes[f"{layer}/out/kernel/up"] == (2, 8)  # of [2, 16, 8]
    assert shapes["Conv_0/kernel/down"] == (24, 2)  # of [3, 8, 8]
    merged, own = merge_lora(params, state)
    outputs, _ = adapted_network.apply(params, state, REAL)
    np.testing.assert_allclose(network.apply(merged, own, REAL)[0], outputs, atol=1e-4)
    base = state["base"][layer]["query"]["kernel"]
    thin = params[layer]["query"]["kernel"]
    change = (np.asarray(thin["down"]) @ np.asarray(thin["up"])).reshape(8, 2, 16)
    np.testing.assert_allclose(
        merged[layer]["query"]["kernel"], base + state["scale"] * change, rtol=1e-5, atol=1e-5
    )


def test_an_adapter_larger_than_its_kernel_is_refused():
    network = jaxnn.from_flax(Attention(bias=False))  # without biases, its axes are not known
    with pytest.raises(
        jaxnn.InvalidValue,
        match=r"the adapter of .*key/kernel is larger than the weight. Got 288 numbers for a weight"
        r" of shape \(8, 2, 16\), as matrices of 2 x 16",
    ):
        jaxnn.lora(network, {"*/key/kernel": True}, rank=2).init(jax.random.key(0), REAL)


# --- what it costs -----------------------------------------------------------------------------

SMOLLM = {"layers": 30, "heads": 9, "kv_heads": 3, "features": 576, "hidden": 1536}


def step_of(network, trains_all):
    """Returns a training step by AdamW, and the shapes of its arguments."""
    inputs = jax.ShapeDtypeStruct((4, 128), jnp.int32)
    adam = optax.adamw(1e-4)
    params, state = jax.eval_shape(network.init, jax.random.key(0), inputs)

    def step(params, state, memory, tokens):
        def loss(params):
            logits, _ = network.apply(params, state, tokens, key=jax.random.key(0))
            return optax.softmax_cross_entropy_with_integer_labels(
                logits[:, :-1], tokens[:, 1:]
            ).mean()

        grads = jax.grad(loss)(params)
        updates, memory = adam.update(grads, memory, params)
        return optax.apply_updates(params, updates), memory

    return step, (params, state, jax.eval_shape(adam.init, params), inputs)


def smollm(*, layers=30, vocabulary=49152, stacked=False):
    settings = {**SMOLLM, "layers": layers}
    return jaxnn.gpt(vocabulary, form="modern", rotary=1e5, stacked=stacked, **settings)


@pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "blocks"])
def test_all_matrices_take_three_quarters_of_the_products_of_full_tuning(stacked):
    """A tenth of SmolLM's depth and of its vocabulary: the same proportions."""
    network = smollm(layers=3, vocabulary=4915, stacked=stacked)
    counts = {}
    for name, each in (("full", network), ("lora", jaxnn.lora(network, rank=8))):
        step, arguments = step_of(each, name == "full")
        counts[name] = products(jax.make_jaxpr(step)(*arguments).jaxpr)
    assert counts["lora"] <= 0.75 * counts["full"]


@pytest.mark.benchmark
def test_all_matrices_take_the_time_of_their_products():
    """SmolLM2-135M, 4 x 128 tokens, rank 8, in turns: 0.69 of the products of full tuning."""
    steps = {}
    for name, network in (("full", smollm()), ("lora", jaxnn.lora(smollm(), rank=8))):
        step, shapes = step_of(network, name == "full")
        params, state, memory, tokens = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        params, state = jax.jit(network.init)(jax.random.key(0), tokens)
        compiled = jax.jit(step, donate_argnums=(0, 2)).lower(params, state, memory, tokens)
        steps[name] = [compiled.compile(), params, memory, state, tokens]
    times = {name: [] for name in steps}
    for turn in range(8):
        for name, (step, params, memory, state, tokens) in steps.items():
            begin = time.perf_counter()
            steps[name][1:3] = jax.block_until_ready(step(params, state, memory, tokens))
            if turn > 1:
                times[name].append(time.perf_counter() - begin)
    for name, seconds in times.items():
        print(f"{name}: {min(seconds):.2f} {np.median(seconds):.2f} {max(seconds):.2f} s a step")
    assert np.median(times["lora"]) <= 0.8 * np.median(times["full"])
