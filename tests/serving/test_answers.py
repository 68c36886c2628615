"""Answers over HTTP are those of `predict`, alone or several requests at once."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import jaxnn

IMAGES = jaxnn.datasets.digits()["inputs"]


@pytest.fixture(scope="module")
def predicted(digits_run):
    return jaxnn.load(digits_run).predict(IMAGES[:200])


def agree(answer, outputs):
    np.testing.assert_allclose(answer["outputs"], outputs, rtol=1e-5, atol=1e-5)
    assert answer["predictions"] == [str(n) for n in outputs.argmax(-1)]
    np.testing.assert_allclose(np.sum(answer["probabilities"], -1), 1)


@pytest.mark.parametrize("count", [1, 5, 64, 200])
def test_answers_are_those_of_predict(count, client, predicted):
    agree(client.predict({"inputs": IMAGES[:count].tolist()}), predicted[:count])


def test_one_example_needs_no_list(client, predicted):
    agree(client.predict({"inputs": IMAGES[7].tolist()}), predicted[7:8])


def test_requests_at_once_get_their_own_answers(client, predicted):
    def ask(place):
        count = 1 + place % 3
        answer = client.predict({"inputs": IMAGES[place : place + count].tolist()})
        agree(answer, predicted[place : place + count])

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(100)))


def png(pixels):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_png_is_read_as_its_pixels(client, predicted):
    # The 17 shades of the digits, in the 256 of a PNG.
    files = [png(np.rint(image * (255 / 16)).astype(np.uint8)) for image in IMAGES[:3]]
    agree(client.predict({"images": [base64.b64encode(x).decode() for x in files]}), predicted[:3])
    status, _, answer = client("POST", "/predict", files[0], {"content-type": "image/png"})
    assert status == 200
    agree(answer, predicted[:1])


def test_the_model_is_described(client):
    status, headers, model = client("GET", "/model")
    assert status == 200 and model["kind"] == "image" and model["task"] == "classification"
    assert model["inputs"] == {"shape": [8, 8], "dtype": "uint8"} and model["image"]["high"] == 16
    assert model["classes"] == [str(n) for n in range(10)]
    assert "default-src 'none'" in headers["content-security-policy"]
    paths = client("GET", "/openapi.json")[2]["paths"]
    assert set(paths) >= {"/predict", "/health", "/model"}
