"""Downloading from a server on this machine, which answers as the hub does."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from jaxnn import pretrained
from jaxnn.checks import InvalidValue
from tests.pretrained.files import tensors_of, write_folder
from tests.pretrained.peers import peer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """The three answers that a download needs: of a revision, about a file, and the file."""

    folder = None
    fetched: list[str] = []

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = self.path.split("?")[0]
        names = sorted(x.name for x in self.folder.iterdir())
        if path.startswith(f"/api/models/owner/small/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in names]
            text = json.dumps({"id": "owner/small", "sha": COMMIT, "siblings": siblings})
            return self.send(text.encode(), body, "application/json")
        if path.startswith(f"/api/models/owner/small/tree/{COMMIT}"):
            sizes = ((name, (self.folder / name).stat().st_size) for name in names)
            entries = [{"type": "file", "path": n, "size": s, "oid": "0" * 40} for n, s in sizes]
            return self.send(json.dumps(entries).encode(), body, "application/json")
        name = path.removeprefix(f"/owner/small/resolve/{COMMIT}/")
        if name not in names:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if body:
            self.fetched.append(name)
        return self.send((self.folder / name).read_bytes(), body, "application/octet-stream")

    def send(self, contents, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(contents)))
        self.send_header("ETag", f'"{hashlib.sha1(contents).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(contents)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    peer("huggingface_hub")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    Hub.folder, Hub.fetched = write_folder(tmp_path / "served"), []
    (Hub.folder / "pytorch_model.bin").write_bytes(b"a pickle")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.filterwarnings("ignore")  # of the library, about links and progress
def test_a_revision_is_fetched_once_and_loads(endpoint, tmp_path):
    digest = hashlib.sha256((Hub.folder / "model.safetensors").read_bytes()).hexdigest()
    options = dict(revision=COMMIT, endpoint=endpoint, folder=tmp_path / "here")
    place = pretrained.download(
        "owner/small", **options, digests={"model.safetensors": digest.upper()}
    )
    assert sorted(Hub.fetched) == ["config.json", "model.safetensors"]  # and no pickle
    expected = tensors_of()["model.norm.weight"]
    loaded = pretrained.load(place).params
    np.testing.assert_array_equal(loaded["body"]["norm"]["scale"], expected)
    pretrained.download("owner/small", **options)
    assert len(Hub.fetched) == 2
    with pytest.raises(InvalidValue, match="model.safetensors has the wrong digest"):
        pretrained.download("owner/small", **options, digests={"model.safetensors": "0" * 64})
    with pytest.raises(InvalidValue, match="no other.json to verify"):
        pretrained.download("owner/small", **options, digests={"other.json": "0" * 64})


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_there_is_said(endpoint, tmp_path):
    options = dict(endpoint=endpoint, folder=tmp_path / "here")
    with pytest.raises(InvalidValue, match="could not be downloaded at revision f000"):
        pretrained.download("owner/small", revision="f000", **options)
    with pytest.raises(InvalidValue, match="owner/name"):
        pretrained.download("../small", revision=COMMIT, **options)
