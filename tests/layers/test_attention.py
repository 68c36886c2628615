"""Attention against Flax, and against the formula written out place by place."""

import re
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnn
from jaxnn.layers import Rotary, attending
from jaxnn.layers._memory import remembering
from tests.registry import real
from tests.trees import assert_close

INPUTS, MEMORY = real(2, 6, 8), real(2, 5, 3, seed=1)


def made(network, inputs):
    """Returns parameters moved at random, so that no bias is 0, and the state."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), inputs)
    params, state = network.init(jax.random.key(1), shapes)
    draws = np.random.default_rng(2)
    return jax.tree.map(lambda x: x + np.float32(0.3 * draws.normal(size=x.shape)), params), state


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("inputs", [INPUTS, (INPUTS, MEMORY)], ids=["self", "cross"])
def test_it_is_that_of_flax(inputs, causal):
    network = jaxnn.attention(10, heads=2, head_features=4, causal=causal)
    params, state = made(network, inputs)
    queries, memory = inputs if isinstance(inputs, tuple) else (inputs, inputs)
    flax = nnx.MultiHeadAttention(
        2, 8, 8, out_features=10, in_kv_features=memory.shape[-1], decode=False, rngs=nnx.Rngs(0)
    )
    for name in ("query", "key", "value"):
        weight, bias = params[name]["weight"], params[name]["bias"]
        getattr(flax, name).kernel[...] = weight.reshape(-1, 2, 4)
        getattr(flax, name).bias[...] = bias.reshape(2, 4)
    flax.out.kernel[...] = params["output"]["weight"].reshape(2, 4, 10)
    flax.out.bias[...] = params["output"]["bias"]
    mask = np.tril(np.ones((1, 1, queries.shape[1], memory.shape[1]), bool)) if causal else None
    expected = flax(queries, memory, memory, mask=mask)
    assert_close(network.apply(params, state, inputs)[0], expected)


def by_hand(params, queries, memory, *, heads, kv_heads, window=None, rotary=None):
    """Causal attention, one place and one head at a time, positions turned as complex numbers."""

    def nodes(name, x):
        return x @ np.float64(params[name]["weight"]) + np.float64(params[name]["bias"])

    def turned(vector, place):
        if rotary is None:
            return vector
        half = len(vector) // 2
        speeds = rotary ** (-np.arange(half) / half)
        plane = (vector[:half] + 1j * vector[half:]) * np.exp(1j * place * speeds)
        return np.concatenate([plane.real, plane.imag])

    outputs = np.zeros((*queries.shape[:2], params["output"]["weight"].shape[1]))
    for b, (x, m) in enumerate(zip(np.float64(queries), np.float64(memory))):
        q, k, v = nodes("query", x), nodes("key", m), nodes("value", m)
        size = q.shape[1] // heads
        for i in range(len(x)):
            mixed = []
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                other = head // (heads // kv_heads)
                theirs = slice(other * size, (other + 1) * size)
                places = range(0 if window is None else max(0, i - window + 1), i + 1)
                scores = [turned(q[i, own], i) @ turned(k[j, theirs], j) for j in places]
                weights = np.exp(np.array(scores) / np.sqrt(size))
                mixed.append(weights / weights.sum() @ v[list(places), theirs])
            outputs[b, i] = nodes("output", np.concatenate(mixed))
    return outputs


SETTINGS = [
    {"heads": 4, "kv_heads": 2},
    {"heads": 4, "kv_heads": 1, "window": 3},
    {"heads": 2, "kv_heads": 2, "rotary": 100.0},
    {"heads": 4, "kv_heads": 2, "rotary": 10000.0, "window": 2},
]


@pytest.fixture(params=["whole", "blocks"])
def long(request, monkeypatch):
    """Computes short causal sequences as a whole, and in blocks like long ones."""
    if request.param == "blocks":
        monkeypatch.setattr(attending, "_LONG", 1)
    return request.param


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_it_is_the_formula(settings, long):
    network = jaxnn.attention(8, causal=True, **settings)
    params, state = made(network, INPUTS)
    assert_close(
        network.apply(params, state, INPUTS)[0], by_hand(params, INPUTS, INPUTS, **settings)
    )


def heads_of(settings, dtype=jnp.float32):
    """Returns queries, keys and values of a causal attention."""
    sizes = (settings["heads"], settings["kv_heads"], settings["kv_heads"])
    features = 8 // settings["heads"]
    return [jnp.asarray(real(2, n, 6, features, seed=s), dtype) for s, n in enumerate(sizes)]


@pytest.fixture
def kernel_by_xla(monkeypatch):
    """Lets XLA compute what cuDNN's kernel does, where there is none."""
    products = jax.nn.dot_product_attention

    def by_xla(*arrays, implementation, **options):
        assert implementation == "cudnn"
        return products(*arrays, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_kernel_computes_the_same(settings, kernel_by_xla):
    window, arrays = settings.get("window"), heads_of(settings)
    expected = attending.attend(*arrays, causal=True, window=window)
    everything = attending.Visibility()
    assert_close(attending._fused(*arrays, everything, causal=True, window=window), expected)


HOLES = np.array([[1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0]], bool)
ROWS = np.array([[1, 1, 2, 2, 2, 0], [3, 3, 3, 3, 4, 4]], np.int32)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["holes", "segments", "other_segments", "memory"])
@pytest.mark.parametrize("window", [None, 2])
def test_the_kernel_sees_the_same_places(kind, causal, window, kernel_by_xla, long):
    if window is not None and not causal:
        return
    q, k, v = heads_of(SETTINGS[0])
    given = jnp.zeros((2, 6, 1))
    queries = memory = jaxnn.Masked(given, jnp.asarray(HOLES))
    if kind != "holes":
        queries = memory = jaxnn.Masked.from_segments(given, jnp.asarray(ROWS))
    if kind == "other_segments":  # of which some queries see none
        memory = jaxnn.Masked.from_segments(given, jnp.asarray(ROWS[:, ::-1] % 4))
    if kind == "memory":
        memory = jaxnn.Masked(given, jnp.asarray([[True] * 6, [False] * 6]))
    seen = attending.visible(queries, memory, causal, window)
    options = {"causal": causal, "window": window}
    formula = attending.attend(q, k, v, seen=seen, **options)
    kernel = attending._fused(q, k, v, seen, **options)
    exists = queries.mask[:, None, :, None]
    assert_close(*(jnp.where(exists, x, 0) for x in (kernel, formula)))
    if kind in ("other_segments", "memory"):
        nothing = np.asarray(formula == 0).all((1, 3))
        assert nothing[1].any() and not nothing[0].all()


@pytest.mark.parametrize("window", [None, 40])
def test_a_long_causal_sequence_takes_less_work(window, monkeypatch):
    """Queries in four blocks compute 5/8 of the scores, and those of fewer keys in a window."""
    monkeypatch.setattr(attending, "_LONG", 50)
    q, k, v = (real(1, 2, 200, 4, seed=seed) for seed in range(3))

    def summed(*arrays):
        return jnp.sum(jnp.sin(attending.attend(*arrays, causal=True, window=window)))

    def made_anew():
        return jax.jit(jax.value_and_grad(lambda *arrays: summed(*arrays), argnums=(0, 1, 2)))

    def work():
        return made_anew().lower(q, k, v).compile().cost_analysis()["flops"]

    blocks, fewer = made_anew()(q, k, v), work()
    monkeypatch.setattr(attending, "_LONG", 201)
    assert_close(blocks, made_anew()(q, k, v))
    assert fewer < (0.72 if window is None else 0.55) * work()


def test_queries_beyond_a_shorter_memory_and_its_window_are_not_in_blocks(monkeypatch):
    q, k, v = (jnp.asarray(real(1, 1, n, 4, seed=s)) for s, n in enumerate((12, 3, 3)))
    whole = attending.attend(q, k, v, causal=True, window=2)
    monkeypatch.setattr(attending, "_LONG", 1)
    assert_close(attending.attend(q, k, v, causal=True, window=2), whole)


def test_each_block_of_a_long_sequence_drops_other_weights(monkeypatch):
    """Values that are 1 yield the sum of the weights that are kept, divided by their rate."""
    monkeypatch.setattr(attending, "_LONG", 64)
    q, k, v = jnp.zeros((1, 1, 256, 1)), jnp.zeros((1, 1, 256, 1)), jnp.ones((1, 1, 256, 1))
    key = jax.random.key(0)
    dropped = attending.attend(q, k, v, causal=True, window=20, dropout=0.5, key=key)
    seen = np.minimum(np.arange(1, 257), 20)  # keys of each query
    kept = np.asarray(dropped)[0, 0, :, 0] * seen / 2
    assert_close(kept, np.round(kept), 1e-4)
    assert abs(kept.sum() / seen.sum() - 0.5) < 0.02
    assert len({tuple(np.round(rows)) for rows in kept.reshape(4, 64)[1:]}) == 3


def test_the_platform_of_the_program_decides_between_kernel_and_formula(kernel_by_xla, monkeypatch):
    arrays = heads_of({"heads": 1, "kv_heads": 1}, jnp.bfloat16)

    def compiled_anew():
        return jax.jit(partial(attending.attend, causal=True))

    def program(platform):
        exported = jax.export.export(compiled_anew(), platforms=[platform])(*arrays)
        return re.sub("loc\\(.*\\)|@\\w+|#.*", "", exported.mlir_module())

    formula = {platform: program(platform) for platform in ("cpu", "cuda", "tpu")}
    assert formula["cpu"] == formula["cuda"] == formula["tpu"]
    monkeypatch.setattr(attending, "_has_ampere", lambda: True)
    assert program("cuda") != formula["cuda"]
    outputs = compiled_anew()(*arrays)
    expected = attending.attend(*map(jnp.float32, arrays), causal=True)
    assert_close(outputs.astype(jnp.float32), expected, 0.02)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1, 1), (4, 2), (6,)], ids=str)
def test_read_piece_by_piece_it_is_the_same(settings, pieces):
    network = jaxnn.attention(8, causal=True, **settings)
    params, state = made(network, INPUTS)
    whole, _ = jax.jit(network.apply)(params, state, INPUTS)
    reader, read, found = remembering(network, 7), 0, []
    _, state = reader.init(jax.random.key(0), INPUTS[:, :1])
    apply = jax.jit(reader.apply)
    for length in pieces:
        outputs, state = apply(params, state, INPUTS[:, read : read + length])
        found.append(outputs)
        read += length
    assert_close(np.concatenate(found, 1), whole)
    assert int(state["position"]) == 6


def test_in_training_a_memory_is_not_used():
    network = remembering(jaxnn.attention(8, heads=2, causal=True), 6)
    params, state = made(network, INPUTS)
    key = jax.random.key(0)
    outputs, after = network.apply(params, state, INPUTS, key=key)
    assert_close(after, state)
    plain = jaxnn.attention(8, heads=2, causal=True)
    assert_close(outputs, plain.apply(params, {}, INPUTS, key=key)[0])


@pytest.mark.slow
def test_what_is_looked_at_is_dropped_in_training_alone():
    network = jaxnn.attention(8, heads=2, dropout=0.5)
    params, state = made(network, INPUTS)
    plain = jaxnn.attention(8, heads=2).apply(params, state, INPUTS)[0]
    assert_close(network.apply(params, state, INPUTS)[0], plain)
    keys = jax.random.split(jax.random.key(0), 4000)
    each = jax.vmap(lambda key: network.apply(params, state, INPUTS, key=key)[0])(keys)
    assert float(jnp.std(each, 0).min()) > 0.01
    # The output layer is linear, so that the mean over what is dropped is what is not dropped.
    assert_close(each.mean(0), plain, 0.1)


def test_positions_are_rows_that_are_added():
    network = jaxnn.layers.positions(9)
    params, state = made(network, INPUTS)
    expected = INPUTS + np.asarray(params["weight"])[None, :6]
    assert_close(network.apply(params, state, INPUTS)[0], expected)


def whole(*shape):
    return jnp.zeros(shape, jnp.int32)


ERRORS = [
    (
        lambda: jaxnn.attention(10, heads=4),
        [
            "attention: features is not a multiple of heads",
            "features=10 and heads=4",
            "features=12, or heads=2",
        ],
    ),
    (
        lambda: jaxnn.attention(8, heads=4, kv_heads=3),
        ["heads is not a multiple of kv_heads", "heads=4 and kv_heads=3", "kv_heads=1"],
    ),
    (
        lambda: jaxnn.attention(9, heads=3, rotary=100.0),
        ["head_features is not a multiple", "head_features=3", "head_features=4"],
    ),
    (
        lambda: jaxnn.attention(8, heads=2, rotary=Rotary(yarn=True)),
        ["low, high and length of rotary do not fit together", "or, without yarn, none of them"],
    ),
    (lambda: jaxnn.attention(8, heads=0), ["heads is out of range", "heads=0"]),
    (
        lambda: jaxnn.attention(8, heads=2, window=3),
        ["a window requires causal attention", "causal"],
    ),
    (lambda: jaxnn.attention(8, heads=2, dropout=1.0), ["dropout is out of range"]),
    (
        lambda: jaxnn.attention(8, heads=2).init(jax.random.key(0), real(2, 8)),
        ["the inputs are not sequences", "shape (2, 8)", "[batch, time, features]"],
    ),
    (
        lambda: jaxnn.attention(8, heads=2).init(jax.random.key(0), (real(2, 3, 8), real(1, 3, 8))),
        ["(2, 3, 8) and (1, 3, 8)", "with one batch"],
    ),
    (
        lambda: jaxnn.attention(8, heads=2).init(jax.random.key(0), whole(2, 3, 8)),
        ["inputs are not floating-point numbers"],
    ),
    (
        lambda: remembering(jaxnn.attention(8, heads=2), 4).init(jax.random.key(0), real(1, 2, 8)),
        ["only causal attention can read a sequence in chunks", "causal=False"],
    ),
    (lambda: jaxnn.layers.positions(0), ["positions: length is out of range"]),
    (
        lambda: jaxnn.layers.positions(4).apply({"weight": jnp.zeros((4, 8))}, {}, real(2, 5, 8)),
        ["the sequence is too long", "shape (2, 5, 8) for 4 positions", "positions(5)"],
    ),
    (
        lambda: jaxnn.layers.positions(4).apply({"weight": jnp.zeros((4, 8))}, {}, real(2, 8)),
        ["the inputs are not sequences"],
    ),
]


@pytest.mark.parametrize(("mistake", "words"), ERRORS)
def test_mistakes_are_explained(mistake, words):
    with pytest.raises(jaxnn.Invalid) as caught:
        mistake()
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_piece_longer_than_the_cache_is_refused():
    reader = remembering(jaxnn.attention(8, heads=2, causal=True), 4)
    params, state = made(reader, INPUTS[:, :1])
    with pytest.raises(jaxnn.InvalidValue, match="the cache is too short. Got 6 positions for a"):
        reader.apply(params, state, INPUTS)
    _, state = jax.jit(reader.apply)(params, state, INPUTS[:, :3])
    with pytest.raises(jaxnn.InvalidValue, match="the cache is too short. Got 5 positions for a"):
        reader.apply(params, state, INPUTS[:, :2])
