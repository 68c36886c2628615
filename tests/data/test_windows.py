"""Windows of a sequence, and characters as tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import Masked
from jaxnn.objectives._places import of_places
from tests.trees import assert_close, assert_same_bits

TEXT = np.arange(23, dtype=np.uint8)
KEY = jax.random.key(0)


@pytest.mark.parametrize("stride", [1, 3, 7])
def test_windows_are_the_examples_of_the_same_data_written_out(stride):
    """In order and shuffled: the same as `resident` data that hold every window."""
    view = np.lib.stride_tricks.sliding_window_view(TEXT, 5)[::stride]
    data = jaxnn.windows(TEXT, 5, stride=stride, batch_size=2).shuffled(KEY)
    wanted = jaxnn.resident({"inputs": view}, batch_size=2).shuffled(KEY)
    assert data.num_examples == wanted.num_examples == len(view)
    assert data.num_batches == wanted.num_batches
    steps = jnp.arange(25, dtype=jnp.int32)
    assert_same_bits(*(jax.jit(jax.vmap(each.batch))(steps) for each in (data, wanted)))
    numbers = jnp.arange(data.num_batches)
    assert_same_bits(*(jax.jit(jax.vmap(each.in_order))(numbers) for each in (data, wanted)))


def test_they_are_stored_once_in_their_dtype():
    data = jaxnn.windows(TEXT, 5, batch_size=2)
    assert data.arrays["inputs"].shape == (23,) and data.arrays["inputs"].dtype == jnp.uint8
    assert data.batch(jnp.int32(0))["inputs"].dtype == jnp.uint8


def test_places_may_have_features():
    data = jaxnn.windows(np.ones((9, 2, 3), np.float32), 4, batch_size=2)
    assert data.batch(jnp.int32(0))["inputs"].shape == (2, 4, 2, 3)


def test_what_is_checked_is_every_place():
    data = jaxnn.windows(TEXT, 5, stride=5, batch_size=2)
    assert set(data.examples["inputs"].ravel().tolist()) == set(TEXT.tolist())


@pytest.mark.slow
def test_a_text_is_learned_and_one_with_unknown_tokens_is_refused(compilations):
    """Counting modulo 7, in batches that run over the borders of epochs."""
    text = (np.arange(300) % 7).astype(np.uint8)
    network = jaxnn.gpt(7, layers=1, heads=2, features=16, positions=8)
    learner = jaxnn.learner(network, jaxnn.next_token(), optax.adam(0.01))
    data = jaxnn.windows(text, 9, batch_size=8)
    rest = jaxnn.windows(text[:50], 9, stride=8, batch_size=4)
    options = {"steps": 80, "key": KEY, "every": 80, "evaluate": rest}
    (*_, last) = jaxnn.train(learner, data, **options)
    assert float(last.metrics["test/loss"]) < 0.05
    assert float(last.metrics["test/perplexity"]) < 1.05
    text[-1] = 7
    compilations.clear()
    with pytest.raises(jaxnn.InvalidValue, match="next_token: .*7.*0 to 6"):
        jaxnn.train(learner, jaxnn.windows(text, 9, batch_size=8), **options)
    assert not compilations


MISTAKES = [
    (lambda: jaxnn.windows(TEXT, 0, batch_size=2), "windows: length is out of range"),
    (lambda: jaxnn.windows(TEXT, 5, batch_size=0), "windows: batch_size is out of range"),
    (lambda: jaxnn.windows(TEXT, 5, batch_size=2, stride=0), "windows: stride is out of range"),
    (
        lambda: jaxnn.windows(TEXT, 24, batch_size=2),
        "shorter than a window. Got 23 places and length=24; expected at least 24 places",
    ),
    (lambda: jaxnn.windows(np.array(["a"]), 1, batch_size=1), "does not hold numbers"),
    (lambda: jaxnn.windows("text", 2, batch_size=1), r"Got a str of length 4; .* Characters\(text"),
    (lambda: jaxnn.windows({"a": [1]}, 1, batch_size=1), "not a sequence of numbers. Got a dict"),
    (lambda: jaxnn.windows([], 1, batch_size=1), "Got a list of length 0"),
    (lambda: jaxnn.Characters("abc").decode([-1]), "no character. Got -1; .* from 0 to 2"),
    (lambda: jaxnn.Characters(""), "Characters: there are no characters"),
    (
        lambda: jaxnn.Characters("abc").encode("cab!"),
        "not in the vocabulary. Got '!'; expected some of the 3 in 'abc'",
    ),
]


@pytest.mark.parametrize(("mistake", "words"), MISTAKES)
def test_mistakes_are_explained(mistake, words):
    with pytest.raises(jaxnn.Invalid, match=words):
        mistake()


def test_characters_come_back():
    text = "To be, or not to be: that is the question.\n"
    characters = jaxnn.Characters(text)
    numbers = characters.encode(text)
    assert numbers.dtype == np.uint8 and numbers.max() == len(characters) - 1
    assert characters.decode(numbers.tolist()) == text
    assert list(characters.all) == sorted(set(text))
    wide = "".join(map(chr, range(300)))
    assert jaxnn.Characters(wide).encode(wide).dtype == np.uint16


SEGMENTS = np.repeat([1, 2, 3, 4], [6, 1, 9, 7])


@pytest.mark.parametrize("stride", [1, 4])
def test_windows_of_documents_carry_their_segments(stride):
    data = jaxnn.windows(TEXT, 5, stride=stride, batch_size=2, segments=SEGMENTS)
    view = np.lib.stride_tricks.sliding_window_view
    fields = {"inputs": view(TEXT, 5)[::stride], "segments": view(SEGMENTS, 5)[::stride]}
    wanted = jaxnn.resident(fields, batch_size=2)
    for number in range(data.num_batches):
        assert_same_bits(data.in_order(number), wanted.in_order(number))
    assert set(data.examples) == {"inputs", "segments"}


def test_no_prediction_crosses_a_border():
    """Windows of the text side by side: each token is predicted, but the first of a document."""
    data = jaxnn.windows(TEXT[:21], 5, stride=4, batch_size=1, segments=SEGMENTS[:21])
    network = jaxnn.gpt(23, layers=1, heads=2, features=8, positions=4)
    learner = jaxnn.learner(network, jaxnn.next_token(), optax.sgd(0.1))
    predicted = []
    for number in range(data.num_batches):
        batch = of_places(jaxnn.next_token()).prepare(None, data.in_order(number))
        predicted += np.asarray(batch["labels"])[np.asarray(batch["inputs"].mask)].tolist()
    firsts = {0, 6, 7, 16}
    assert predicted == [i for i in range(21) if i not in firsts]
    state = learner.init(KEY, {}, data.in_order(0))
    learner.check({}, data.examples, state, data.in_order(0))
    alone = learner.predict(state, jnp.asarray(TEXT[None, 7:9]))
    row = Masked.from_segments(jnp.asarray(TEXT[None, 5:9]), jnp.asarray(SEGMENTS[None, 5:9]))
    assert_close(learner.predict(state, row).values[:, 2:], alone, 1e-6)


@pytest.mark.parametrize("segments", [[1, 2], SEGMENTS[:, None], -SEGMENTS, SEGMENTS % 3 + 1])
def test_segments_that_do_not_fit_are_refused(segments):
    with pytest.raises(jaxnn.InvalidValue, match="windows: .*segment"):
        jaxnn.windows(TEXT, 5, batch_size=1, segments=segments)
