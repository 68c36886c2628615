"""Manifests that somebody else has written, some of them with the right digests."""

import json

import pytest

from tests.small import contents, seal
from tests.storage.hostile.harm import HARM, newest, of_array, refused

pytestmark = pytest.mark.slow


# --- Manifests that are not JSON ---------------------------------------------------------------

MESS = {
    "nothing": (b"", "cannot be read"),
    "a list": (b"[1, 2]", "cannot be read"),
    "a word": (b'"sha256"', "cannot be read"),
    "null": (b"null", "cannot be read"),
    "a pickle": (HARM, "cannot be read"),
    "no text": (bytes(range(256)), "cannot be read"),
    "NaN": (b'{"sha256": "", "value": NaN}', "NaN is not a number"),
    "infinity": (b'{"sha256": "", "value": -Infinity}', "-Infinity is not a number"),
    "infinity in digits": (b'{"sha256": "", "value": 1e999}', "manifest.json"),
    "a name twice": (b'{"step": 1, "sha256": "", "step": 12}', "repeated: 'step'"),
    "deep": (b'{"a":' * 100_000, "nested too deeply"),
    "a long number": (b'{"a":' + b"9" * 100_000 + b"}", "cannot be read"),
    "other bytes": (b'{"format": 1, "sha256": ""}', "with other bytes"),
    "a newer one, unsealed": (b'{"format": 2, "sha256": ""}', "with other bytes"),
}


@pytest.mark.parametrize("name", MESS)
def test_a_manifest_that_is_a_mess(small, name):
    content, words = MESS[name]
    folder = newest(small)
    (folder / "manifest.json").write_bytes(content)
    refused(small, folder, words)


@pytest.mark.parametrize("depth", [20, 200, *range(900, 1000, 20)])
def test_a_manifest_of_any_depth(small, depth):
    folder = newest(small)
    text = '{"sha256": "", "a": ' + "[" * depth + "]" * depth + "}"
    (folder / "manifest.json").write_text(text)
    refused(small, folder, "manifest.json")


# --- Manifests with the right digests ----------------------------------------------------------


def of_file(**fields):
    return lambda content: content["files"][0].update(fields)


def of_all(**fields):
    return lambda content: content.update(fields)


def without(name):
    return lambda content: content.pop(name)


def larger(content):
    """Files that claim to be as large as the array."""
    content["arrays"][2]["shape"] = [1 << 50]
    content["files"].append({"name": "more", "size": 1 << 60, "sha256": ""})


def counted_often(content):
    """The same file again and again, so that all files seem to be large."""
    content["arrays"][2]["shape"] = [10_000]
    content["files"] += [content["files"][0]] * 1000


SENSE = "invalid content|without"
SEALED = {
    **{
        f"a file {name!r:.20}": (of_file(name=name), SENSE)
        for name in (
            "../x", "/etc/passwd", "a/../../b", "", "..", ".hidden", "a//b", "a\nb", "a\0b",
            "\udcff", "x" * 300, 5, None, ["a"],
        )
    },
    "a file twice": (lambda content: content["files"].append(content["files"][0]), SENSE),
    "a file less": (lambda content: content["files"].pop(), SENSE),
    "a file too many": (
        lambda c: c["files"].append({"name": "more", "size": 0, "sha256": ""}), "no more",
    ),
    "files counted often": (counted_often, SENSE),
    "no files": (of_all(files=[]), SENSE),
    "a petabyte": (of_array(shape=[1 << 50]), "larger than its files"),
    "a petabyte in many axes": (of_array(shape=[2] * 60), "larger than its files"),
    "a petabyte that is claimed": (larger, SENSE),
    "an array twice": (
        lambda content: content["arrays"].append(content["arrays"][-1]), "larger than its files",
    ),
    "a shape without end": (of_array(shape=[10**400]), "larger than its files"),
    "a shape below zero": (of_array(shape=[-1, -12]), SENSE),
    "a shape of booleans": (of_array(shape=[True]), SENSE),
    "a shape of floats": (of_array(shape=[4.0, 3.0]), SENSE),
    "a shape that is text": (of_array(shape="43"), SENSE),
    "a shape of lists": (of_array(shape=[[4], [3]]), SENSE),
    "no shape": (of_array(shape=None), SENSE),
    **{
        f"dtype {dtype!r}": (of_array(dtype=dtype), SENSE)
        for dtype in (
            "object", "V8", "datetime64", "O", "S12", "<f4", "f4,O", "\udcff", None, 5, ["f4"], {},
        )
    },
    **{f"keys {keys!r}": (of_array(keys=keys), SENSE) for keys in ("xor", "", 5, ["rbg"], True)},
    **{f"a name {name!r}": (of_array(name=name), SENSE) for name in (5, None, ["a"], {})},
    "an array of words": (lambda content: content["arrays"].insert(0, "a"), SENSE),
    "arrays are a number": (of_all(arrays=5), SENSE),
    "arrays are missing": (without("arrays"), SENSE),
    "files are missing": (without("files"), SENSE),
    "files are words": (of_all(files="abc"), SENSE),
    "a size that is text": (of_file(size="5"), SENSE),
    "the digest of an array": (of_array(sha256="0" * 64), "weight have another digest"),
    "no digest of an array": (lambda content: content["arrays"][2].pop("sha256"), SENSE),
    **{
        f"step {step!r}": (of_all(step=step), f"{SENSE}|the manifest of step")
        for step in (8, -12, "12", 12.0, True, None, 10**400)
    },
    **{
        f"format {number!r}": (of_all(format=number), SENSE)
        for number in (-1, "1", 1.0, True, None, [1])
    },
    **{
        f"no {name}": (without(name), SENSE)
        for name in ("format", "step", "rows", "seconds", "config", "identity", "environment")
    },
    **{
        f"{name} {value!r}": (of_all(**{name: value}), SENSE)
        for name, value in (
            ("rows", "5"), ("rows", True), ("rows", -1), ("rows", 1.5), ("seconds", "5"),
            ("config", []), ("identity", [1]), ("identity", None), ("environment", []),
            ("environment", "jax"), ("value", "0.5"), ("value", [0.5]),
        )
    },
    "seconds without end": (of_all(seconds=float("inf")), "not a number"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEALED)
def test_a_manifest_with_the_right_digest(small, name):
    edit, words = SEALED[name]
    folder = newest(small)
    content = contents(folder)
    edit(content)
    (folder / "manifest.json").write_text(json.dumps(content))
    seal(folder)
    refused(small, folder, words)
