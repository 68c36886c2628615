"""The data sets at hand: facts about them, and downloads from a server of our own."""

import gzip
import hashlib
import http.server
import logging
import os
import threading

import numpy as np
import pooch
import pytest

from jaxnn.checks import Invalid, InvalidValue
from jaxnn.data import datasets

TEXT = "tinyshakespeare.txt"
GOOD = b"to be, or not to be\n" * 50

real_files = pytest.mark.skipif(
    not os.environ.get("JAXNN_DATA"), reason="JAXNN_DATA is unset: the real files are not at hand"
)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


class Server(http.server.ThreadingHTTPServer):
    """Serves `pages`, path -> (body, bytes to declare); anything else is a 404."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.asked = {}, []

    def url(self, path, body=None, declared=None):
        if body is not None:
            self.pages[path] = (body, len(body) if declared is None else declared)
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path not in self.server.pages:
            return self.send_error(404)
        body, declared = self.server.pages[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(declared))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXNN_DATA", raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    return tmp_path / "jaxnn"


@pytest.fixture
def mirrors(monkeypatch):
    def set_mirrors(*urls, name=TEXT, content=GOOD):
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(datasets.FILES, name, datasets.File(digest, urls))

    return set_mirrors


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_digits():
    data = datasets.digits()
    assert data["inputs"].shape == (1797, 8, 8) and data["inputs"].dtype == np.uint8
    assert data["inputs"].min() == 0 and data["inputs"].max() == 16
    assert data["labels"].dtype == np.int32
    assert np.bincount(data["labels"]).tolist() == [
        *[178, 182, 177, 183, 181],
        *[182, 181, 179, 174, 180],
    ]


def test_digits_are_those_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    ours = datasets.digits()
    np.testing.assert_array_equal(ours["inputs"], theirs.images)
    np.testing.assert_array_equal(ours["labels"], theirs.target)


@real_files
def test_mnist():
    train, test = datasets.mnist()
    assert train["inputs"].shape == (60000, 28, 28) and test["inputs"].shape == (10000, 28, 28)
    assert train["inputs"].dtype == np.uint8 and train["labels"].dtype == np.int32
    assert train["inputs"].flags.writeable
    assert train["labels"][:5].tolist() == [5, 0, 4, 1, 9]
    assert test["labels"][:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(train["labels"]).tolist() == [
        *[5923, 6742, 5958, 6131, 5842],
        *[5421, 5918, 6265, 5851, 5949],
    ]
    # The mean that everyone standardizes by.
    assert round(train["inputs"].mean() / 255, 4) == 0.1307


@real_files
def test_tiny_shakespeare():
    text = datasets.tiny_shakespeare()
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.")
    assert len(text) == 1115394 and len(set(text)) == 65


def test_idx_round_trip():
    images = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    np.testing.assert_array_equal(datasets.read_idx(idx(images), "images", axes=3), images)


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        (b"", "Fetch labels again, and uncompress it"),
        (gzip.compress(idx(np.zeros(3)), mtime=0), "Fetch labels again, and uncompress it"),
        (idx(np.zeros((3, 1))), "Fetch labels again, and uncompress it"),  # two axes
        (bytes([0, 0, 13, 1, 0, 0, 0, 0]), "Fetch labels again, and uncompress it"),  # floats
        (idx(np.zeros(3))[:6], "Fetch labels again, and uncompress it"),
        (idx(np.zeros(3))[:-1], "Fetch labels again: it was cut"),
        (idx(np.zeros(3)) + b"\0", "Fetch labels again: it was cut"),
    ],
)
def test_idx_errors(content, fix):
    with pytest.raises(InvalidValue, match=fix):
        datasets.read_idx(content, "labels", axes=1)


def test_folder_without_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path))
    with pytest.raises(InvalidValue, match=f"Put {TEXT} into {tmp_path}, or unset JAXNN_DATA"):
        datasets.tiny_shakespeare()
    with pytest.raises(InvalidValue, match="Put mnist/train-images-idx3-ubyte.gz into"):
        datasets.mnist()


def test_folder_with_a_wrong_file(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path))
    (tmp_path / TEXT).write_bytes(GOOD)
    with pytest.raises(InvalidValue, match=f"Replace {tmp_path / TEXT}, or unset JAXNN_DATA"):
        datasets.tiny_shakespeare()
    assert (tmp_path / TEXT).read_bytes() == GOOD  # it is the user's: left alone


def test_folder_with_a_good_file_needs_no_network(tmp_path, monkeypatch, mirrors):
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path))
    mirrors()
    (tmp_path / TEXT).write_bytes(GOOD)
    assert datasets.tiny_shakespeare() == GOOD.decode()


def test_download_once(server, cache, mirrors, caplog, capfd):
    mirrors(server.url("/good", GOOD), server.url("/spare", GOOD))
    level = pooch.get_logger().level
    with caplog.at_level(logging.INFO):
        assert datasets.tiny_shakespeare() == GOOD.decode()
        assert datasets.tiny_shakespeare() == GOOD.decode()
    assert server.asked == ["/good"]
    assert files_in(cache) == [TEXT]
    assert pooch.get_logger().level == level
    assert not [record for record in caplog.records if record.name == "pooch"]
    assert capfd.readouterr() == ("", "")


def test_mnist_downloads_whatever_the_compression(server, cache, mirrors):
    images, labels = np.arange(24).reshape(2, 3, 4), np.array([5, 0])
    for part in ("train", "t10k"):
        for name, array, level in (("images-idx3", images, 1), ("labels-idx1", labels, 9)):
            file, content = f"mnist/{part}-{name}-ubyte.gz", idx(array)
            body = gzip.compress(content, level, mtime=0) if part == "train" else content
            mirrors(server.url(f"/{file}", body), name=file, content=content)
    train, test = datasets.mnist()
    for data in (train, test):
        np.testing.assert_array_equal(data["inputs"], images)
        np.testing.assert_array_equal(data["labels"], labels)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("fault", ["corrupt", "truncated", "cut", "missing", "empty"])
def test_second_mirror(server, cache, mirrors, fault, compressed):
    whole = gzip.compress(GOOD, mtime=0) if compressed else GOOD
    body, declared = {
        "corrupt": (whole[:20] + bytes([whole[20] ^ 1]) + whole[21:], None),
        "truncated": (whole[:-9], None),
        "cut": (whole[:-9], len(whole)),  # the connection ends early
        "missing": (None, None),
        "empty": (b"", None),
    }[fault]
    mirrors(server.url("/bad", body, declared), server.url("/good", whole))
    assert datasets.tiny_shakespeare() == GOOD.decode()
    assert server.asked == ["/bad", "/good"]
    assert files_in(cache) == [TEXT]
    assert (cache / TEXT).read_bytes() == whole


def test_no_mirror_has_it(server, cache, mirrors):
    mirrors(server.url("/absent"), server.url("/wrong", b"something else"))
    with pytest.raises(InvalidValue) as raised:
        datasets.tiny_shakespeare()
    error = str(raised.value)
    assert f"{server.url('/absent')} (HTTPError: 404" in error
    assert f"{server.url('/wrong')} (sha256 " in error
    assert error.endswith(f"Check the connection, or set JAXNN_DATA to a folder that holds {TEXT}.")
    assert isinstance(raised.value, Invalid)
    assert files_in(cache) == []


def test_nobody_listens(cache, mirrors):
    mirrors("http://127.0.0.1:9/a", "http://127.0.0.1:9/b")
    with pytest.raises(InvalidValue, match="9/a .ConnectionError: .*9/b .*Check the connection"):
        datasets.tiny_shakespeare()


def test_cache_that_cannot_be_written(server, cache, mirrors):
    cache.write_text("a file where the folder should be")
    mirrors(server.url("/good", GOOD))
    with pytest.raises(InvalidValue, match="FileExistsError.*set JAXNN_DATA to a folder"):
        datasets.tiny_shakespeare()


@pytest.mark.parametrize("corrupt", [GOOD[:-1], b"", b"\x1f\x8b" + GOOD])
def test_corrupt_cache_is_repaired(server, cache, mirrors, corrupt):
    mirrors(server.url("/good", GOOD))
    cache.mkdir()
    (cache / TEXT).write_bytes(corrupt)
    assert datasets.tiny_shakespeare() == GOOD.decode()
    assert (cache / TEXT).read_bytes() == GOOD


def test_corrupt_cache_does_not_stay_when_nothing_can_be_fetched(server, cache, mirrors):
    mirrors(server.url("/absent"))
    cache.mkdir()
    (cache / TEXT).write_bytes(GOOD[:-1])
    with pytest.raises(InvalidValue, match="Check the connection"):
        datasets.tiny_shakespeare()
    assert files_in(cache) == []


def test_interrupted_download_leaves_nothing(cache, mirrors, monkeypatch):
    def interrupted(self, url, output_file, pooch, check_only=False):
        with open(output_file, "wb") as file:
            file.write(GOOD[:30])
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    mirrors("http://127.0.0.1:9/a", "http://127.0.0.1:9/b")
    with pytest.raises(KeyboardInterrupt):
        datasets.tiny_shakespeare()
    assert files_in(cache) == []


def test_every_file_has_two_mirrors_on_different_hosts():
    for file in datasets.FILES.values():
        assert len({url.split("/")[2] for url in file.mirrors}) == 2
        assert all(url.startswith("https://") for url in file.mirrors)
        assert len(file.digest) == 64
