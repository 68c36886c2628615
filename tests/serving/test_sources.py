"""What is served: runs, the last run of a folder, model files, text."""

import io
import json
import os
import shutil

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.checks import Explained, InvalidValue
from jaxnn.network import stateless
from jaxnn.serving import drawing
from jaxnn.serving.app import Service
from jaxnn.serving.reading import image_of
from jaxnn.serving.served import open_model
from tests.serving.clients import serving

IMAGES = jaxnn.datasets.digits()["inputs"]
WRONG = [
    {},
    {"prompt": ""},
    {"prompt": 3},
    {"prompt": "abd"},
    {"prompt": "a" * 20_001},
    {"prompt": "a", "length": 0},
    {"prompt": "a", "length": 1.5},
    {"prompt": "a", "temperature": -1},
    {"prompt": "a", "temperature": True},
    {"prompt": "a", "top_k": "2"},
    {"prompt": "a", "more": 1},
]


def test_a_model_file_answers_as_the_run_does(digits_run, served, tmp_path):
    path = jaxnn.export(digits_run, tmp_path / "digits.jaxnn", inputs=IMAGES[:2])
    other = open_model(path)
    for name in ("kind", "task", "classes"):
        assert getattr(other.about, name) == getattr(served.about, name)
    assert other.framing == served.framing
    other.warm()
    with serving(other) as client:
        answer = client.predict({"inputs": IMAGES[:9].tolist()})
        np.testing.assert_allclose(answer["outputs"], served.predict(IMAGES[:9]), 1e-5, 1e-5)
    # Its page shows the same layers.
    shown, expected = other.layers(IMAGES[:1]), served.layers(IMAGES[:1])
    assert [*shown] == [*expected] == ["1/activation_1"]
    np.testing.assert_allclose(shown["1/activation_1"], expected["1/activation_1"], 1e-5, 1e-5)


def test_the_last_run_of_a_folder_is_served(digits_run, tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).symlink_to(digits_run)
    assert open_model(digits_run.parent).about.kind == "image"
    with pytest.raises(InvalidValue, match="is not a run directory"):
        open_model(tmp_path)
    with pytest.raises(InvalidValue, match="is not there"):
        open_model(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"no model")
    with pytest.raises(Explained, match="Copy it again"):
        open_model(tmp_path / "file")
    assert os.listdir(tmp_path)
    shutil.copytree(digits_run, tmp_path / "runs" / "one")
    sweep = tmp_path / "runs" / "sweep"  # newer, but it has no model of its own
    sweep.mkdir()
    for name in ("config.json", "result.json", "sweep.json"):
        (sweep / name).write_text("{}")
    assert open_model(sweep.parent).about.kind == "image"


def test_what_the_layers_put_out_comes_with_the_answer(served):
    with serving(served) as client:
        answer = client.predict({"inputs": IMAGES[0].tolist(), "layers": True})
        [layer] = answer["layers"]
        assert layer["name"].endswith("activation_1") and layer["shape"] == [32]
        assert layer["high"] > 0  # of a relu, none of whose outputs is below zero
        assert "layers" not in client.predict({"inputs": IMAGES[0].tolist()})


def test_the_layers_program_gives_what_the_network_computes(digits_run, served):
    loaded = jaxnn.load(digits_run)
    network = jaxnn.serial(jaxnn.standardize(4.88, 6.02), jaxnn.mlp([32], 10))
    captured = jaxnn.capture(network, ["1/activation_1"])
    (_, inside), _ = captured.apply(loaded.params, loaded.state, IMAGES[:1])
    layers = served.layers(IMAGES[:1])
    assert set(layers) == set(inside)
    np.testing.assert_allclose(layers["1/activation_1"], inside["1/activation_1"], 1e-5, 1e-5)


def test_a_model_of_texts_of_any_length_shows_no_layers(tmp_path):
    mean = stateless(lambda params, words: words.mean(1))
    network = jaxnn.serial(jaxnn.embedding(9, 4), mean, jaxnn.mlp([4], 3))
    words = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    params, state = network.init(jax.random.key(0), words)
    model = open_model(jaxnn.export((network, params, state), tmp_path / "m.jaxnn", inputs=words))
    assert model.inputs.shape == (None,) and model.layers is None
    model.warm(model.buckets[:1])
    assert Service(model, protected=False).described["layers"] == []


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_has_the_channels_of_the_model(tmp_path, channels):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, channels)).astype(np.uint8)
    network = jaxnn.serial(jaxnn.standardize(127.0, 70.0), jaxnn.flatten(), jaxnn.linear(2))
    params, state = network.init(jax.random.key(0), pixels[None])
    path = jaxnn.export((network, params, state), tmp_path / "m.jaxnn", inputs=pixels[None])
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    np.testing.assert_array_equal(image_of(open_model(path), file.getvalue())[0], pixels)


def test_a_run_directory_is_described_as_a_model_file_is(tmp_path):
    images = np.zeros((8, 6, 6), np.float32)
    data = jaxnn.resident({"inputs": images, "labels": np.zeros(8, np.int32)}, batch_size=4)
    network = jaxnn.serial(jaxnn.flatten(), jaxnn.linear(3))
    learner = jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.1))
    jaxnn.fit(learner, data, steps=2, key=jax.random.key(0), out=tmp_path / "run", quiet=True)
    file = jaxnn.export(tmp_path / "run", tmp_path / "m.jaxnn")
    for path in (tmp_path / "run", file):
        about = open_model(path).about
        assert (about.name, about.kind, about.task) == ("run", "image", "classification")
        assert about.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    "shape", [(8, 8), (28, 28), (28, 28, 1), (32, 32, 3)], ids=["8", "28", "28x1", "32x3"]
)
def test_a_drawing_is_framed_as_the_images_are(shape):
    like = jax.ShapeDtypeStruct(shape, np.uint8)
    framing = drawing.framing(like)
    strokes = [[[0.1, 0.1], [0.2, 0.1], [0.2, 0.3], [0.1, 0.3]]]  # small, in a corner
    image = drawing.rounded(drawing.drawn(framing, strokes), np.uint8)
    assert image.shape == shape and image.max() <= framing.high
    ink = image.reshape(*shape[:2], -1).mean(-1) / framing.high
    rows = np.flatnonzero(ink.max(1) > 0.1)
    assert rows[-1] - rows[0] + 1 == pytest.approx(framing.extent * shape[0], abs=1.5)
    for axis in (0, 1):  # the centre of mass is in the middle
        centre = (ink.sum(1 - axis) * np.arange(shape[axis])).sum() / ink.sum()
        assert centre == pytest.approx((shape[axis] - 1) / 2, abs=0.8)


def test_where_and_how_large_one_draws_does_not_matter(served):
    stroke = np.array([[0.3, 0.2], [0.7, 0.2], [0.45, 0.8]])
    images = [
        drawing.drawn(served.framing, [(scale * (stroke - 0.5) + place).tolist()])
        for scale, place in ((1.0, 0.5), (0.4, 0.3), (0.5, 0.7))
    ]
    np.testing.assert_allclose(images[1], images[0], atol=0.5)
    np.testing.assert_allclose(images[2], images[0], atol=0.5)


@pytest.mark.parametrize("high", [1.0, 255.0])
def test_range_and_paper_are_those_of_the_examples(high):
    images = np.full((4, 28, 28), high)
    images[:, 4:24, 8:20] = 0
    like = jax.ShapeDtypeStruct((28, 28), np.float32)
    framing = drawing.framing(like, images)
    assert (framing.high, framing.inverted) == (high, True)
    assert framing.extent == pytest.approx(20 / 28)
    image = drawing.drawn(framing, [[[0.5, 0.2], [0.5, 0.8]]])
    assert image[0, 0] == high and image.min() == pytest.approx(0, abs=high / 100)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A run of a language model that has seen one line."""
    text = "abcabcabc" * 40
    characters = jaxnn.Characters(text)
    network = jaxnn.gpt(3, layers=1, heads=1, features=16, positions=8)
    objective = jaxnn.next_token(vocabulary=characters.all)
    learner = jaxnn.learner(network, objective, optax.adam(1e-2))
    data = jaxnn.windows(characters.encode(text), 9, batch_size=8)
    out = tmp_path_factory.mktemp("text") / "abc"
    directory = jaxnn.Directory(out, report=True)
    jaxnn.fit(learner, data, steps=60, key=jax.random.key(0), out=directory)
    return out


@pytest.mark.slow
def test_text_comes_in_pieces(writer):
    served = open_model(writer)
    assert served.writes and served.writer.steps is not None
    with serving(served) as client:
        body = {"prompt": "ab", "length": 12, "temperature": 0}
        status, headers, content = client("POST", "/generate", body)
        assert status == 200 and headers["content-type"].startswith("text/event-stream")
        *pieces, end = content.decode().strip().split("\n\n")
        text = [json.loads(piece.removeprefix("data: "))["text"] for piece in pieces]
        assert text == list("cabcabcabcab")
        assert end == 'event: done\ndata: {"tokens": 12, "reason": "length"}'
        drawn = body | {"temperature": 2.0, "top_k": 2, "seed": 3}
        assert client("POST", "/generate", drawn)[2] == client("POST", "/generate", drawn)[2]
        for wrong in WRONG:
            status, _, answer = client("POST", "/generate", wrong)
            assert status == 422 and "expected" in answer["error"], wrong
        assert client("GET", "/model")[2]["writes"] is True
