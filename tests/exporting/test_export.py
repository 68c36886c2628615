"""Model files: what is exported predicts the same numbers without the code that made it."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn.exporting import Spec
from jaxnn.exporting.generating import Drawing
from jaxnn.loop._evaluate import in_batches
from jaxnn.network import stateless


def bound(network, inputs, seed=0):
    params, state = network.init(jax.random.key(seed), inputs)
    return network, params, state


def applied(model, inputs):
    """Returns what a network outputs, computed in the batches of `predict`."""
    network, params, state = model
    apply = jax.jit(lambda params, state, inputs: network.apply(params, state, inputs)[0])
    return in_batches(lambda x: apply(params, state, x), np.asarray(inputs), 1024)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    inputs = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    model = bound(jaxnn.mlp([4], 3), inputs)
    path = tmp_path_factory.mktemp("models") / "model.jaxnn"
    return model, inputs, jaxnn.export(model, path, inputs=inputs, classes=["a", "b", "c"])


def test_a_model_predicts_the_same_bits_for_any_number_of_examples(classifier):
    model, inputs, path = classifier
    loaded = jaxnn.load_model(path)
    for count in (1, 2, 5, 9):
        np.testing.assert_array_equal(
            loaded.predict(inputs[:count]), applied(model, inputs[:count])
        )


def test_an_optional_program_that_cannot_be_exported_is_reported(tmp_path, monkeypatch):
    def fails(*arguments):
        raise TypeError("no such layer\nand more")

    monkeypatch.setattr("jaxnn.runs.layers.exported", fails)
    inputs = np.ones((2, 2), np.float32)
    with pytest.warns(jaxnn.Caution, match=r"lacks the program 'layers'.*\(TypeError: no such"):
        path = jaxnn.export(bound(jaxnn.mlp([4], 3), inputs), tmp_path / "m", inputs=inputs)
    assert jaxnn.load_model(path).layers is None


def test_a_description_says_what_a_model_takes_and_gives(classifier):
    description = jaxnn.load_model(classifier[2]).description
    assert description.kind == "vector" and description.task == "classification"
    assert description.inputs == Spec((2,), "float32")
    assert description.outputs == Spec((3,), "float32")
    assert description.classes == ("a", "b", "c")
    assert description.versions["jax"] == jax.__version__
    assert description.platforms == ("cpu", "cuda", "rocm", "tpu")


def test_the_length_of_tokens_is_free_up_to_what_positions_allow(tmp_path):
    network = jaxnn.gpt(7, layers=1, heads=2, features=4, positions=5)
    inputs = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    model = bound(network, inputs)
    loaded = jaxnn.load_model(jaxnn.export(model, tmp_path / "gpt.jaxnn", inputs=inputs))
    assert loaded.description.kind == "tokens" and loaded.description.task == "next_token"
    assert loaded.description.limits == {"length": (1, 5)}
    for length in (1, 3, 5):
        tokens = np.arange(2 * length, dtype=np.int32).reshape(2, length) % 7
        np.testing.assert_array_equal(loaded.predict(tokens), applied(model, tokens))
    with pytest.raises(jaxnn.InvalidType, match="length up to 5"):
        loaded.predict(np.zeros((1, 6), np.int32))


def test_what_takes_no_free_number_of_examples_is_filled_up(tmp_path):
    flat = stateless(lambda params, x: 2 * x.reshape(int(x.shape[0]), -1))
    inputs = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    path = jaxnn.export((flat, {}, {}), tmp_path / "m.jaxnn", inputs=inputs[:2])
    model = jaxnn.load_model(path)
    assert model.description.batch == 64
    np.testing.assert_array_equal(model.predict(inputs), 2 * inputs.reshape(3, 4))


def test_a_text_is_read_once_and_is_the_same_as_when_it_is_read_anew(tmp_path):
    network = jaxnn.gpt(7, layers=1, heads=2, features=4, positions=12)
    inputs = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    model = bound(network, inputs)
    loaded = jaxnn.load_model(jaxnn.export(model, tmp_path / "gpt.jaxnn", inputs=inputs))
    assert loaded.writer.steps is not None
    anew = replace(loaded.writer, steps=None)
    # Beyond its twelve places it starts anew from the later half.
    for prompt, length in (([3], 5), ([1] * 11, 9), ([2, 5] * 9, 20)):
        drawing = Drawing(jax.random.key(length))
        expected = [*anew.tokens(prompt, length, drawing)]
        key = jax.random.key(length)
        assert loaded.generate(prompt, length, key=key).tolist() == expected
    first = loaded.generate([1], 6, key=jax.random.key(0)).tolist()
    ended = loaded.generate([1], 6, key=jax.random.key(0), stop=[first[2]]).tolist()
    assert ended == first[: first.index(first[2])]
