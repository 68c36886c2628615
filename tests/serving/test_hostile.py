"""Malformed and hostile requests: each is answered 4xx with the fix, and none ends the server."""

import base64
import io
import json
import socket
import struct
import zlib

import numpy as np
import pytest

from jaxnn.serving import bodies
from tests.serving.clients import serving

GOOD = [[0] * 8] * 8


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def bomb(width, height):
    """A PNG of a few bytes that says it is large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 22), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def archive():
    file = io.BytesIO()
    np.savez_compressed(file, inputs=np.zeros((1000, 8, 8)))
    return file.getvalue()


def deep(count, open_="[", close="]"):
    return '{"inputs": ' + open_ * count + close * count + "}"


def with_cell(cell):
    return json.dumps({"inputs": GOOD}).replace("0", cell, 1)


TEXTS = {
    "empty": "",
    "no_json": "digits",
    "cut_off": '{"inputs": [[0, 0',
    "nan": with_cell("NaN"),
    "infinity": with_cell("Infinity"),
    "minus_infinity": with_cell("-Infinity"),
    "overflow": with_cell("1e999"),
    "long_integer": with_cell("9" * 5000),
    "wide_integer": with_cell("9" * 30),
    "negative": with_cell("-1"),
    "fraction": with_cell("0.5"),
    "too_high": with_cell("256"),
    "text_cell": with_cell('"0"'),
    "null_cell": with_cell("null"),
    "true_cell": with_cell("true"),
    "object_cell": with_cell("{}"),
    "ragged": with_cell("[0, 0]"),
    "list": "[]",
    "number": "3",
    "text": '"inputs"',
    "null": "null",
    "no_fields": "{}",
    "other_field": '{"input": [[0]]}',
    "two_fields": '{"inputs": [], "images": []}',
    "extra_field": json.dumps({"inputs": GOOD, "__class__": "os.system"}),
    "no_examples": '{"inputs": []}',
    "empty_lists": '{"inputs": [[]]}',
    "inputs_text": '{"inputs": "0"}',
    "inputs_object": '{"inputs": {"a": 1}}',
    "small": '{"inputs": [[1, 2], [3, 4]]}',
    "flat": json.dumps({"inputs": [0] * 64}),
    "four_axes": json.dumps({"inputs": [[GOOD]]}),
    "many": json.dumps({"inputs": [GOOD] * 5000}),
    "deep": deep(100_000),
    "deep_objects": deep(50_000, '{"a":', "}").replace("{}", "{"),
    "deep_33": deep(40),
    "rows": '{"rows": [{"a": 1}]}',
    "images_number": '{"images": 3}',
    "images_empty": '{"images": []}',
    "images_text": '{"images": ["not base64!"]}',
    "images_no_png": json.dumps({"images": [base64.b64encode(b"GIF89a").decode()]}),
    "image_bomb": json.dumps({"images": [base64.b64encode(bomb(30_000, 30_000)).decode()]}),
    "image_other_size": json.dumps({"images": [base64.b64encode(bomb(9, 9)).decode()]}),
    "image_vast": json.dumps({"images": [base64.b64encode(bomb(1 << 30, 1 << 30)).decode()]}),
    "strokes_none": '{"strokes": []}',
    "strokes_empty": '{"strokes": [[]]}',
    "strokes_flat": '{"strokes": [0.5, 0.5]}',
    "strokes_far": '{"strokes": [[[0.5, 1e9]]]}',
    "strokes_text": '{"strokes": [[["a", "b"]]]}',
    "strokes_many": json.dumps({"strokes": [[[0.5, 0.5]]] * 201}),
    "strokes_long": json.dumps({"strokes": [[[0.5, 0.5]] * 20_001]}),
    "bad_utf_8": b'{"inputs": "\xff"}',
    "utf_16": '{"inputs": []}'.encode("utf-16"),
    "zip": archive(),
    "null_bytes": bytes(1000),
}
HEADERS = {
    "no_type": (b"{}", {"content-type": ""}, 415),
    "form": (b"inputs=1", {"content-type": "application/x-www-form-urlencoded"}, 415),
    "zip": (archive(), {"content-type": "application/zip"}, 415),
    "pickle": (b"\x80\x04.", {"content-type": "application/octet-stream"}, 415),
    "gzip": (zlib.compress(bytes(1 << 20)), {"content-encoding": "gzip"}, 415),
    "deflate": (zlib.compress(bytes(1 << 20)), {"content-encoding": "deflate"}, 415),
    "png": (b"PNG", {"content-type": "image/png"}, 422),
    "png_bomb": (bomb(20_000, 20_000), {"content-type": "image/png"}, 422),
    "png_cut_off": (bomb(8, 8)[:40], {"content-type": "image/png"}, 422),
    "host": (b"{}", {"host": "evil.example"}, 421),
}


def says_the_fix(answer):
    text = answer["error"]
    return "Got " in text and "; expected " in text and len(text) < 2000


@pytest.mark.parametrize("name", TEXTS)
def test_a_body_that_is_not_right_is_refused(name, client):
    status, _, answer = client("POST", "/predict", TEXTS[name])
    assert 400 <= status < 500 and says_the_fix(answer), (status, answer)
    assert client.predict({"inputs": GOOD})["predictions"]


@pytest.mark.parametrize("name", HEADERS)
def test_what_comes_with_a_body_is_checked(name, client):
    body, headers, expected = HEADERS[name]
    status, _, answer = client("POST", "/predict", body, headers)
    assert status == expected and says_the_fix(answer)


def test_five_hundred_corrupt_bodies_end_nothing(client):
    """Bodies that were right before bytes of them were changed, cut out or doubled."""
    random = np.random.default_rng(0)
    right = [json.dumps({"inputs": GOOD}).encode(), TEXTS["strokes_many"].encode()[:400]]
    right += [json.dumps({"images": [base64.b64encode(bomb(8, 8)[:300]).decode()]}).encode()]
    seen = set()
    for number in range(500):
        body = bytearray(right[number % 3])
        for _ in range(random.integers(1, 8)):
            place = int(random.integers(len(body)))
            match random.integers(3):
                case 0:
                    body[place] = random.integers(256)
                case 1:
                    del body[place : place + 5]
                case 2:
                    body[place:place] = body[place : place + 40]
        status, _, answer = client("POST", "/predict", bytes(body))
        seen.add(status)
        assert status == 200 or (400 <= status < 500 and says_the_fix(answer)), bytes(body)
    assert {400, 422} <= seen
    assert client.predict({"inputs": GOOD})["predictions"]


def test_a_large_body_is_refused_before_it_is_read(client):
    status, _, answer = client("POST", "/predict", b" " * (bodies.LARGEST + 1))
    assert status == 413 and says_the_fix(answer)
    # Without a length it is cut off at the limit.
    with socket.create_connection(("127.0.0.1", client.port), 30) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        part = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        try:
            for _ in range(6):
                connection.sendall(part)
        except OSError:
            pass  # it has answered, and closed
        assert b"413" in connection.recv(100)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/../../etc/passwd", 404), ("GET", "/predict", 405),
     ("POST", "/model", 405), ("DELETE", "/", 405)],
)  # fmt: skip
def test_other_paths_and_methods_are_refused(method, path, status, client):
    answer = client(method, path)
    assert answer[0] == status and says_the_fix(answer[2])


def test_what_is_no_http_ends_nothing(client):
    for content in (b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"/" * 100_000 + b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", client.port), 30) as connection:
            try:
                connection.sendall(content)
                connection.recv(100)
            except OSError:
                pass
    assert client("GET", "/health")[0] == 200


def test_a_body_that_does_not_come_is_not_waited_for(served, monkeypatch):
    monkeypatch.setattr(bodies, "SECONDS", 0.2)
    with serving(served) as client:
        with socket.create_connection(("127.0.0.1", client.port), 30) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert b"408" in connection.recv(100)


def test_a_token_is_asked_for(served):
    with serving(served, token="secret") as client:
        assert client.predict({"inputs": GOOD})["predictions"]
        for wrong in ("", "Bearer", "Bearer other", "Basic secret", "secret", "Bearer s\xe9cret"):
            status, headers, answer = client(
                "POST", "/predict", {"inputs": GOOD}, {"authorization": wrong}
            )
            assert status == 401 and says_the_fix(answer), wrong
            assert {"www-authenticate"} <= {name.lower() for name in headers}
        for path in ("/model", "/openapi.json"):
            assert client("GET", path, headers={"authorization": ""})[0] == 401
        assert client("GET", "/", headers={"authorization": ""})[0] == 200


def test_everybody_may_ask_where_that_is_wanted(served):
    with serving(served, local=False) as client:
        assert client("GET", "/health", headers={"host": "digits.example"})[0] == 200
