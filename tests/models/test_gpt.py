"""The transformer against its formula and published sizes, and what it writes."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn.layers._memory import remembering
from jaxnn.masked import Masked
from jaxnn.models._writing import _largest, _most_probable, empty_memory, write_all
from tests.registry import whole
from tests.trees import assert_close, assert_same_bits

KEY = jax.random.key(3)
FORMS = {
    "gpt2": {"positions": 12},
    "modern": {"form": "modern", "kv_heads": 2, "window": 5},
    "stacked": {"positions": 12, "stacked": True},
}


@cache  # one network compiles once, however many tests use it
def small(**settings):
    """Returns a small network, with weights large enough that some tokens are likelier."""
    network = jaxnn.gpt(7, layers=2, heads=4, features=16, **settings)
    shape = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    params, state = jax.jit(lambda key: network.init(key, shape))(jax.random.key(0))
    draws = np.random.default_rng(2)
    return network, jax.tree.map(
        lambda x: x + np.float32(0.3 * draws.normal(size=x.shape)), params
    ), state  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        # Radford et al. 2019, table 2, as counted in the published weights.
        ({}, 124_439_808),
        ({"layers": 24, "heads": 16, "features": 1024}, 354_823_168),
        # Karpathy's nanoGPT prints these for its character model, 0.80M, and without positions.
        ({"layers": 4, "heads": 4, "features": 128, "positions": 64, "bias": False}, 804_096),
    ],
    ids=["small", "medium", "characters"],
)
def test_its_sizes_are_the_published_ones(settings, parameters):
    network = jaxnn.gpt(65 if "bias" in settings else 50257, **settings)
    params, _ = jax.eval_shape(network.init, KEY, jax.ShapeDtypeStruct((1, 8), jnp.int32))
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(params)) == parameters


@pytest.mark.parametrize("stacked", [False, True], ids=["apart", "stacked"])
def test_blocks_computed_again_give_the_same_and_store_their_inputs_alone(stacked):
    tokens = jnp.asarray(whole(7, 2, 12))

    def saved(remat):
        network, params, state = small(positions=12, stacked=stacked, remat=remat)
        loss = lambda params: jnp.mean(network.apply(params, state, tokens)[0] ** 2)  # noqa: E731
        _, pull = jax.eval_shape(lambda params: jax.vjp(loss, params), params)
        return jax.jit(jax.grad(loss))(params), sum(x.size for x in jax.tree.leaves(pull))

    (plain, many), (again, few) = saved(None), saved("nothing")
    assert_close(again, plain)
    assert few < 0.6 * many


def test_weights_start_small_and_those_at_the_ends_of_branches_smaller():
    network = jaxnn.gpt(65, layers=8, heads=4, features=128, positions=64)
    params, _ = network.init(KEY, jax.ShapeDtypeStruct((1, 8), jnp.int32))
    block = params["body"]["block_3"]
    attend, feed = block["attention"]["branch"]["attention"], block["mlp"]["branch"]
    for weight in (attend["query"], attend["value"], feed["hidden"], params["tokens"]):
        assert abs(float(weight["weight"].std()) / 0.02 - 1) < 0.05
    for weight in (attend["output"], feed["output"]):
        assert abs(float(weight["weight"].std()) / (0.02 / math.sqrt(16)) - 1) < 0.05


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def normal(x, own):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * own["scale"] + own["bias"]


def test_it_is_the_formula():
    """GPT-2, written out in NumPy for one sequence."""
    network, params, state = small(positions=12)
    tokens = whole(7, 1, 9)
    p = jax.tree.map(np.float64, params)
    x = p["tokens"]["weight"][tokens[0]] + p["body"]["positions"]["weight"][:9]
    for number in (1, 2):
        block = p["body"][f"block_{number}"]
        own = block["attention"]["branch"]
        y = normal(x, own["norm"])
        q, k, v = (
            (y @ own["attention"][name]["weight"] + own["attention"][name]["bias"]).reshape(9, 4, 4)
            for name in ("query", "key", "value")
        )
        scores = np.einsum("ihf,jhf->hij", q, k) / 2
        scores = np.where(np.tril(np.ones((9, 9))), scores, -np.inf)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        mixed = np.einsum("hij,jhf->ihf", weights, v).reshape(9, 16)
        x = x + mixed @ own["attention"]["output"]["weight"] + own["attention"]["output"]["bias"]
        own = block["mlp"]["branch"]
        hidden = normal(x, own["norm"]) @ own["hidden"]["weight"] + own["hidden"]["bias"]
        x = x + gelu(hidden) @ own["output"]["weight"] + own["output"]["bias"]
    logits = normal(x, p["body"]["norm"]) @ p["tokens"]["weight"].T
    assert_close(network.apply(params, state, tokens)[0][0], logits)


def recomputed(network, params, state, prompt, length, draw, context=None):
    """Writes by reading everything anew for each token."""
    text, first = np.asarray(prompt), 0
    apply = jax.jit(network.apply)
    for number in range(length):
        if context is not None and text.shape[1] - first > context:
            first = text.shape[1] - context // 2
        # What comes after a place does not change it, so that one program serves all lengths.
        read = np.zeros((len(text), 12), np.int32)
        read[:, : text.shape[1] - first] = text[:, first:]
        logits, _ = apply(params, state, read)
        token = draw(number, np.asarray(logits)[:, text.shape[1] - first - 1])
        text = np.concatenate([text, np.asarray(token)[:, None]], 1)
    return text[:, prompt.shape[1] :]


def likeliest(number, logits):
    return logits.argmax(-1)


def drawn(number, logits):
    return jax.random.categorical(jax.random.fold_in(KEY, number), jnp.asarray(logits) / 0.7)


@pytest.mark.parametrize("form", FORMS)
def test_it_writes_what_it_would_without_a_cache(form):
    network, params, state = small(**FORMS[form])
    prompt = whole(7, 2, 4)
    tokens = jaxnn.generate(network, params, state, prompt, 9, key=KEY, temperature=0.7)
    assert tokens.tolist() == recomputed(network, params, state, prompt, 9, drawn).tolist()
    assert len(set(tokens.ravel().tolist())) > 2
    tokens = jaxnn.generate(network, params, state, prompt, 9, key=KEY, temperature=0)
    assert tokens.tolist() == recomputed(network, params, state, prompt, 9, likeliest).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("times", [4, 13], ids="prompt of {}".format)
def test_beyond_its_context_it_goes_on_from_the_later_half(times):
    network, params, state = small(positions=12)
    prompt = whole(7, 2, times)
    tokens = jaxnn.generate(network, params, state, prompt, 30, key=KEY, temperature=0, context=10)
    expected = recomputed(network, params, state, prompt, 30, likeliest, 10)
    assert tokens.tolist() == expected.tolist()


def test_other_temperatures_and_texts_compile_nothing():
    network, params, state = small.__wrapped__(positions=12)
    options = {"top_k": 5, "top_p": 0.9}
    prompt = whole(7, 2, 4)
    jaxnn.generate(network, params, state, prompt, 6, key=KEY, temperature=0.5, **options)
    programs = write_all._cache_size()
    again = {"top_k": 5, "top_p": 0.5}
    key = jax.random.key(9)
    for temperature in (2.0, 1, jnp.float32(0.3)):
        options = {**again, "temperature": temperature}
        jaxnn.generate(network, params, state, prompt[::-1], 6, key=key, **options)
    assert write_all._cache_size() == programs


@pytest.mark.parametrize("form", FORMS)
def test_prompts_of_different_lengths_are_one_batch(form):
    """Each text is what it is alone, whatever stands in the empty places."""
    network, params, state = small(**FORMS[form] | {"positions": 40})
    rows = [whole(7, 1, time) for time in (1, 3, 6)]
    padded = np.full((3, 6), 6)
    for row, alone in zip(padded, rows, strict=True):
        row[: alone.shape[1]] = alone[0]
    prompts = Masked.from_lengths(padded, np.array([1, 3, 6]))
    texts = jaxnn.generate(network, params, state, prompts, 6, key=KEY, temperature=0)
    for text, alone in zip(texts, rows, strict=True):
        expected = recomputed(network, params, state, alone, 6, likeliest)
        assert text.tolist() == expected[0].tolist()


def test_prompts_and_texts_of_other_lengths_compile_nothing():
    network, params, state = small.__wrapped__(positions=64)
    options = {"key": KEY, "temperature": 0}
    jaxnn.generate(network, params, state, whole(7, 2, 4), 6, **options)
    programs = write_all._cache_size()
    for time, length in ((1, 16), (16, 1), (9, 9)):
        text = jaxnn.generate(network, params, state, whole(7, 2, time), length, **options)
        assert text.shape == (2, length)
    assert write_all._cache_size() == programs


def test_a_text_ends_at_its_stop_token():
    network, params, state = small(positions=40)
    prompt, options = whole(7, 3, 4), {"key": KEY, "temperature": 2.0}
    whole_texts = jaxnn.generate(network, params, state, prompt, 16, **options)
    stop = (int(whole_texts[0, 3]), 99)
    texts = jaxnn.generate(network, params, state, prompt, 16, stop=stop, **options)
    streamed = jaxnn.models.generate_tokens(
        network, params, state, prompt, 16, stop=stop, **options
    )
    streamed = np.stack(list(streamed), 1)
    for row in range(3):
        tokens = whole_texts[row].tolist()
        end = tokens.index(stop[0]) if stop[0] in tokens else 16
        assert texts.mask[row].tolist() == [place < end for place in range(16)]
        assert texts.values[row, :end].tolist() == tokens[:end]
        assert texts.values[row, end:].tolist() == [0] * (16 - end)
        count = min(end + 1, streamed.shape[1])
        assert streamed[row, :count].tolist() == tokens[:count]
    assert streamed.shape[1] <= 16


def test_tokens_come_one_by_one_as_they_are_drawn():
    network, params, state = small(positions=40)
    arguments = (network, params, state, whole(7, 2, 4), 9)
    together = jaxnn.generate(*arguments, key=KEY, temperature=0.7)
    stream = jaxnn.models.generate_tokens(*arguments, key=KEY, temperature=0.7)
    first = next(stream)
    assert first.tolist() == together[:, 0].tolist()
    assert np.stack(list(stream), 1).tolist() == together[:, 1:].tolist()


def test_what_is_remembered_has_the_precision_of_the_parameters():
    network, params, state = small()
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    memory = empty_memory(remembering(network, 8), half, state, 2)
    floats = {x.dtype for x in jax.tree.leaves(memory) if jnp.issubdtype(x.dtype, jnp.floating)}
    assert floats == {jnp.dtype(jnp.bfloat16)}
    text = jaxnn.generate(network, half, state, whole(7, 2, 4), 5, key=KEY, temperature=0)
    assert text.shape == (2, 5)


def chances(network, params, state, **options):
    """Returns how often each token was drawn first, of 4,000 draws, and the softmax."""
    prompt = jnp.tile(whole(7, 1, 4), (4000, 1))
    first = jaxnn.generate(network, params, state, prompt, 1, key=KEY, **options)[:, 0]
    logits, _ = network.apply(params, state, prompt[:1])
    return np.bincount(first, minlength=7) / 4000, np.asarray(logits[0, -1], np.float64)


def test_of_equal_logits_so_many_are_left_as_were_asked_for():
    allowed = _largest(jnp.array([[1.0, 1.0, 1.0, 0.0]]), 2)
    assert allowed.tolist() == [[1.0, 1.0, -jnp.inf, -jnp.inf]]


def test_a_share_of_one_leaves_all():
    logits = 9 * jax.random.normal(KEY, (1, 50257))
    assert_same_bits(_most_probable(logits, jnp.float32(1.0)), logits)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


@pytest.mark.slow
def test_tokens_are_drawn_as_likely_as_the_network_says():
    network, params, state = small(positions=12)
    shares, logits = chances(network, params, state, temperature=3.0)
    assert np.abs(shares - softmax(logits / 3)).max() < 0.03
    shares, logits = chances(network, params, state, temperature=3.0, top_k=3)
    allowed = np.where(logits >= np.sort(logits)[-3], logits, -np.inf)
    assert np.abs(shares - softmax(allowed / 3)).max() < 0.03 and (shares > 0).sum() == 3
    shares, logits = chances(network, params, state, temperature=3.0, top_p=0.6)
    order = np.argsort(-logits)
    count = int((np.cumsum(softmax(logits / 3)[order]) < 0.6).sum()) + 1
    allowed = np.full(7, -np.inf)
    allowed[order[:count]] = logits[order[:count]]
    assert 1 < count < 7 and np.abs(shares - softmax(allowed / 3)).max() < 0.03


ERRORS = [
    ({"temperature": -1.0}, ["temperature is out of range"]),
    ({"temperature": math.nan}, ["temperature is out of range"]),
    ({"top_p": 0.0}, ["top_p is out of range", "above 0 and at most 1"]),
    ({"top_p": 1.5}, ["top_p is out of range"]),
    ({"top_k": 0}, ["top_k is out of range"]),
    ({"top_k": 8}, ["top_k is out of range", "at most 7"]),
    ({"length": 0}, ["length is out of range"]),
    ({"length": 30}, ["fewer positions", "33 tokens to read and 12 positions", "context=12"]),
    ({"context": 1}, ["context is too short"]),
    ({"prompt": [[1, 7]]}, ["not in the vocabulary", "tokens from 1 to 7", "from 0 to 6"]),
    ({"prompt": [[-1]]}, ["not in the vocabulary"]),
    ({"prompt": [1, 2]}, ["the prompt has the wrong type", "shape (2,)", "prompt[None]"]),
    ({"prompt": [[0.5]]}, ["the prompt has the wrong type", "float64"]),
    ({"prompt": np.zeros((1, 0), int)}, ["the prompt has the wrong type", "shape (1, 0)"]),
    ({"prompt": "to be"}, ["the prompt has the wrong type", "shape ()"]),
    (
        {"prompt": Masked(np.zeros((1, 2), np.int32), np.zeros((1, 2), bool))},
        ["a prompt is empty", "[0] tokens"],
    ),
    ({"stop": (1,), "length": 20, "context": 9}, ["beyond its context", "and stop"]),
    ({"key": 0}, ["key is not a random key", "jax.random.key(0)"]),
]


@pytest.mark.parametrize(("change", "words"), ERRORS)
def test_mistakes_are_explained(change, words):
    network, params, state = small(positions=12)
    given = {"prompt": [[1, 2, 3, 4]], "length": 5, "key": KEY, **change}
    if not isinstance(given["prompt"], Masked):
        given["prompt"] = np.asarray(given["prompt"])
    prompt, length = given.pop("prompt"), given.pop("length")
    with pytest.raises(jaxnn.Invalid) as caught:
        jaxnn.generate(network, params, state, prompt, length, **given)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            jaxnn.serial(jaxnn.embedding(7, 4), jaxnn.attention(7, heads=1)),
            "only causal attention can read a sequence in chunks",
        ),
        (
            jaxnn.serial(
                jaxnn.embedding(7, 4), jaxnn.attention(4, heads=1, causal=True), jaxnn.layers.gru(7)
            ),
            "differ between reading in chunks and as a whole. Got serial, whose logits differ by",
        ),
        (
            jaxnn.capture(jaxnn.gpt(7, layers=1, heads=1, features=4), ["tokens"]),
            "are not one array of logits. Got a tuple",
        ),
    ],
)
def test_a_network_that_cannot_write_is_refused(network, words):
    prompt = whole(7, 1, 4)
    params, state = network.init(KEY, prompt)
    with pytest.raises(jaxnn.Invalid, match=words):
        jaxnn.generate(network, params, state, prompt, 5, key=KEY)


def test_a_network_that_looks_at_one_place_can_write():
    network = jaxnn.serial(jaxnn.embedding(7, 4), jaxnn.linear(7))
    params, state = network.init(KEY, whole(7, 1, 4))
    text = jaxnn.generate(network, params, state, whole(7, 1, 4), 5, key=KEY, temperature=0)
    token = int(whole(7, 1, 4)[0, -1])
    for drawn in text[0].tolist():
        token = int(network.apply(params, state, jnp.array([[token]]))[0].argmax())
        assert drawn == token


def test_a_wrapper_that_drops_the_memory_is_refused():
    network, params, state = small()
    dropping = network._replace(
        apply=lambda p, s, x, *, key=None: (network.apply(p, s, x, key=key)[0], s)
    )
    with pytest.raises(jaxnn.InvalidType, match="returns the state of its parts"):
        jaxnn.generate(dropping, params, state, whole(7, 1, 4), 5, key=KEY)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"form": "gpt3"}, "form is unknown"),
        ({"heads": 5}, "features is not a multiple of heads"),
        ({"layers": 0}, "layers is out of range"),
        ({"dropout": -0.1}, "dropout is out of range"),
    ],
)
def test_a_transformer_that_cannot_be_is_refused(settings, words):
    with pytest.raises(jaxnn.InvalidValue, match=words):
        jaxnn.gpt(7, **{"layers": 1, "heads": 2, "features": 16, **settings})


def test_a_sequence_longer_than_the_positions_is_refused():
    network, params, state = small(positions=12)
    with pytest.raises(jaxnn.InvalidValue, match="the sequence is too long"):
        network.apply(params, state, whole(7, 1, 13))
