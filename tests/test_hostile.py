"""Files that somebody else has written, to do harm: they are refused, and do none.

No code of theirs is run, nothing is written outside the run directory, no memory is asked for that
they have not filled, and each is told from a good one at once, with words that say what is wrong.
"""

import builtins
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import tensorstore

import jaxnn
from jaxnn import Caution, InvalidType, InvalidValue
from jaxnn.checks import Explained, Invalid
from jaxnn.records.checkpoints import read_checkpoint
from jaxnn.records.manifest import Damaged, opened
from tests.promises import counted
from tests.small import NEWEST, Small, contents, reseal, seal, there
from tests.trees import assert_same_bits


class Harm:
    """Is harm when a pickle of it is read."""

    def __reduce__(self):
        return os.system, ("touch harm",)


HARM = pickle.dumps(Harm())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("small"))


# The engine leaves some of its own work unawaited when a file is not what it should be.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("torn_engine"),
]


@pytest.fixture(autouse=True)
def harmless(small, tmp_path, monkeypatch):
    """Asserts that a test runs no code of a file, and takes neither memory nor time."""
    monkeypatch.chdir(tmp_path)

    def ran(*args, **kwargs):
        raise AssertionError("code of a file was run")

    def run(code, *args, run=exec):
        # Imports, and the annotations that tests enforce, are run so.
        caller = sys._getframe(1).f_globals["__name__"].split(".")[0]
        assert caller in ("_frozen_importlib", "importlib", "jaxtyping", "beartype"), caller
        return run(code, *args)

    def stuck(number, frame):
        raise TimeoutError("it waits for what never comes")

    for place, name in (
        (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (builtins, "eval"),
        (os, "system"), (subprocess, "Popen"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, ran)
    monkeypatch.setattr(builtins, "exec", run)
    handler = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(5)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    assert time.process_time() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000  # in kB
    assert not any(tmp_path.iterdir())


def outside(out):
    """What is beside a run directory, which nothing may change."""
    return {name: it for name, it in there(out.parent).items() if name.split("/")[0] != "run"}


def newest(small):
    return small.copy([12]) / "checkpoints" / NEWEST


def refused(small, folder, words):
    """Asserts that a checkpoint is told from a good one."""
    before = there(folder.parents[2])
    with counted(P12="hostile files, each refused and harmless") as count:
        with pytest.raises(Damaged, match=words):
            read_checkpoint(folder, opened(folder), small.kept[12].trial)
        assert there(folder.parents[2]) == before
        count.append(words)


def left_out(small, out, words):
    """Asserts that a run goes on from the checkpoint before."""
    before = outside(out)
    with counted(P12="hostile files, each refused and harmless") as count:
        with pytest.warns(Caution, match=f"{NEWEST} is damaged. Got .*{words}"):
            kept = small.found(out)
        assert kept.step == 8
        assert_same_bits(kept.trial, small.kept[8].trial)
        assert (out / "quarantine" / f"{NEWEST}-1.txt").read_text()
        assert outside(out) == before
        count.append(words)


def untouched(small, out, error, words):
    """Asserts that a run is refused, and left as it is."""
    before = there(out.parent)
    with counted(P12="hostile files, each refused and harmless") as count:
        with pytest.raises(error, match=words):
            small.found(out)
        assert there(out.parent) | {"run/.lock": b""} == before | {"run/.lock": b""}
        count.append(words)


# --- Manifests that are not JSON ---------------------------------------------------------------

MESS = {
    "nothing": (b"", "cannot be read"),
    "a list": (b"[1, 2]", "cannot be read"),
    "a word": (b'"sha256"', "cannot be read"),
    "null": (b"null", "cannot be read"),
    "a pickle": (HARM, "cannot be read"),
    "no text": (bytes(range(256)), "cannot be read"),
    "NaN": (b'{"sha256": "", "value": NaN}', "NaN is no number"),
    "infinity": (b'{"sha256": "", "value": -Infinity}', "-Infinity is no number"),
    "infinity in digits": (b'{"sha256": "", "value": 1e999}', "manifest.json"),
    "a name twice": (b'{"step": 1, "sha256": "", "step": 12}', "there twice: 'step'"),
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


def of_array(**fields):
    return lambda content: content["arrays"][2].update(fields)


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


SENSE = "makes no sense|without"
SEALED = {
    **{
        f"a file {name!r:.20}": (of_file(name=name), SENSE)
        for name in (
            "../x", "/etc/passwd", "a/../../b", "", "..", ".hidden", "a//b", "a\nb", "a\0b",
            "\udcff", "x" * 300, 5, None, ["a"],
        )
    },
    "a file twice": (lambda content: content["files"].append(content["files"][0]), SENSE),
    "a file less": (lambda content: content["files"].pop(), "which was not written with it"),
    "a file too many": (
        lambda c: c["files"].append({"name": "more", "size": 0, "sha256": ""}), "no more",
    ),
    "files counted often": (counted_often, SENSE),
    "no files": (of_all(files=[]), SENSE),
    "a petabyte": (of_array(shape=[1 << 50]), "larger than its files"),
    "a petabyte in many axes": (of_array(shape=[2] * 60), "larger than its files"),
    "a petabyte that is claimed": (larger, "no more"),
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
    "the digest of an array": (of_array(sha256="0" * 64), "other bytes at state/params/weight"),
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
    "seconds without end": (of_all(seconds=float("inf")), "no number"),
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


# --- What is no file, or not that of a checkpoint ----------------------------------------------


def replaced(make):
    """Another thing in the place of a file: `make(path, where it is now)`."""

    def replace(path):
        place = path.parents[path.parts[::-1].index("run")] / "elsewhere"
        path.rename(place)
        make(path, place)

    return replace


def large(path, place):
    with path.open("wb") as file:
        file.truncate(1 << 40)  # which takes no place on the disk


THINGS = {
    "a link to itself": lambda path, place: path.symlink_to(place),
    "a link to another file": lambda path, place: path.symlink_to("/etc/passwd"),
    "a link to what never ends": lambda path, place: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path, place: path.symlink_to(place / "none"),
    "a pipe": lambda path, place: os.mkfifo(path),
    "a folder": lambda path, place: path.mkdir(),
    "a terabyte": large,
    "a pickle": lambda path, place: path.write_bytes(HARM),
}


@pytest.mark.parametrize("file", ["manifest.json", "arrays/_METADATA"])
@pytest.mark.parametrize("name", THINGS)
def test_another_thing_in_the_place_of_a_file(small, name, file):
    out = small.copy()
    replaced(THINGS[name])(out / "checkpoints" / NEWEST / file)
    left_out(small, out, file)


# --- What is not damaged, but cannot be used ---------------------------------------------------

OTHER = {
    "a newer format": ({"format": 2}, InvalidValue, "written by a newer jaxnn"),
    "a format far away": ({"format": 10**30}, InvalidValue, "written by a newer jaxnn"),
    "another identity": ({"identity": {}}, InvalidValue, "was begun with something else"),
    "a deep identity": (
        {"identity": {"steps": json.loads("[" * 500 + "]" * 500)}}, InvalidValue, "something else",
    ),
    "no arrays": ({"arrays": []}, InvalidType, "Got nothing at state/step"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_a_checkpoint_that_cannot_be_used_is_left_as_it_is(small, name):
    fields, error, words = OTHER[name]
    out = small.copy()
    seal(out / "checkpoints" / NEWEST, **fields)
    untouched(small, out, error, words)


WEIGHT = "state/params/weight"
ARRAYS = {
    "a path": (of_array(name="../../x"), f"Got nothing at {WEIGHT}"),
    "a place on the disk": (of_array(name="/etc/passwd"), f"Got nothing at {WEIGHT}"),
    "another shape": (
        of_array(shape=[3, 4]),
        rf"Got float32\[3, 4\] at {WEIGHT}; expected float32\[4, 3\] there",
    ),
    "no array": (of_array(shape=[0, 1 << 60]), "Got float32"),
    "another dtype": (of_array(dtype="int32"), rf"Got int32\[4, 3\] at {WEIGHT}"),
    "keys": (of_array(keys="rbg"), rf"Got rbg keys as float32\[4, 3\] at {WEIGHT}"),
    "in another order": (lambda content: content["arrays"].reverse(), "arrays in another order"),
    "twice": (
        lambda content: content["arrays"].append(content["arrays"][-1]), "arrays in another order",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_other_than_those_that_are_wanted(small, name):
    edit, words = ARRAYS[name]
    out = small.copy()
    content = contents(out / "checkpoints" / NEWEST)
    edit(content)
    seal(out / "checkpoints" / NEWEST, **content)
    untouched(small, out, InvalidType, words)


# --- Files of the engine, with a manifest that agrees with them --------------------------------


def stored(**fields):
    """What the engine's own files say of the weights."""

    def change(folder):
        base = f"file://{folder / 'arrays'}/"
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
        said = json.loads(store.read("2/.zarray").result().value) | fields
        store.write("2/.zarray", json.dumps(said).encode()).result()

    return change


def text(name, content):
    return lambda folder: (folder / "arrays" / name).write_bytes(content)


ENGINE = {
    "a petabyte": stored(shape=[1 << 48, 3]),
    "a petabyte at a time": stored(chunks=[1 << 48, 3]),
    "ten gigabytes": stored(shape=[1 << 30, 3], chunks=[1 << 30, 3], fill_value=0),
    "another shape": stored(shape=[3, 4], chunks=[3, 4]),
    "another dtype": stored(dtype="<i4"),
    "a list of things": stored(shape=["a"]),
    "no dtype": stored(dtype="|O"),
    "a compressor": stored(compressor={"id": "zlib", "level": 1}),
    "no tree": text("_METADATA", b"{}"),
    "a pickle": text("_METADATA", HARM),
    "a deep tree": text("_METADATA", b'{"a":' * 100_000),
    "another store": text("_METADATA", b'{"tree_metadata": {}, "use_ocdbt": false}'),
    "a store of nothing": text("manifest.ocdbt", b""),
}


@pytest.mark.parametrize("name", ENGINE)
def test_files_of_the_engine_that_lie(small, name):
    folder = newest(small)
    ENGINE[name](folder)
    reseal(folder)
    refused(small, folder, f"Got arrays that cannot be read|other bytes at {WEIGHT}")


@pytest.mark.parametrize("name", ["more", "arrays/more.pkl", "arrays/d/more"])
def test_a_pickle_among_the_files_is_not_read(small, name):
    out = small.copy()
    (out / "checkpoints" / NEWEST / name).write_bytes(HARM)
    reseal(out / "checkpoints" / NEWEST)
    assert_same_bits(small.found(out).trial, small.kept[12].trial)


# --- Other files of a run ----------------------------------------------------------------------


def written(name, content):
    return lambda out: (out / name).write_bytes(content)


def led_astray(name):
    """A link in the place of a file or a folder, to what is outside."""

    def lead(out):
        victim = out.parent / "victim"
        if (out / name).exists():
            (out / name).rename(victim)
        else:
            victim.mkdir()
        (out / name).symlink_to(victim)

    return lead


def without_rows(count):
    def cut(out):
        lines = (out / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        (out / "metrics.jsonl").write_bytes(b"".join(lines[: len(lines) - count]))

    return cut


def sealed(**fields):
    return lambda out: seal(out / "checkpoints" / NEWEST, **fields)


NOT_OURS = "is not a run directory"
CONFIGS = [
    b"", b"[]", b"5", b"null", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": 1, "a": 2}',
    b'{"a":' * 100_000, b"\xff\xfe", HARM, b'{"a": ' + b"9" * 100_000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_a_configuration_that_is_a_mess(small, number):
    out = small.copy()
    (out / "config.json").write_bytes(CONFIGS[number])
    untouched(small, out, InvalidValue, NOT_OURS)


@pytest.mark.parametrize("name", ["a pipe", "a folder", "a terabyte", "a pickle"])
def test_another_thing_in_the_place_of_the_configuration(small, name):
    out = small.copy()
    replaced(THINGS[name])(out / "config.json")
    untouched(small, out, InvalidValue, NOT_OURS)


def test_a_quarantine_that_leads_elsewhere(small):
    out = small.copy()
    led_astray("quarantine")(out)
    (out / "checkpoints" / NEWEST / "manifest.json").write_bytes(b"")
    left_out(small, out, "manifest.json")


ROWS = {
    "none": lambda out: (out / "metrics.jsonl").unlink(),
    "one less": without_rows(1),
    "rows that are none": written("metrics.jsonl", b"\xff" * 1000),
    "a pickle": written("metrics.jsonl", HARM * 100),
    "a terabyte": sealed(rows=1 << 40),
    "without end": sealed(rows=10**400),
    "half a row": sealed(rows=10),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_not_those_of_the_checkpoint(small, name):
    out = small.copy()
    ROWS[name](out)
    untouched(small, out, Explained, "run directory: ")


LINKS = ("config.json", "metrics.jsonl", ".lock", "checkpoints")
PIPES = (".lock", "metrics.jsonl")


@pytest.mark.parametrize("name", LINKS)
def test_files_that_lead_elsewhere(small, name):
    out = small.copy()
    led_astray(name)(out)
    untouched(small, out, Explained, "run directory: ")


@pytest.mark.parametrize("name", PIPES)
@pytest.mark.parametrize("thing", ["a pipe", "a folder"])
def test_another_thing_in_the_place_of_a_file_of_the_run(small, name, thing):
    out = small.copy()
    replaced(THINGS[thing])(out / name)
    untouched(small, out, Explained, "run directory: ")


def test_an_environment_that_says_nothing_is_another_one(small):
    out = small.copy()
    sealed(environment={})(out)
    with pytest.warns(Caution, match="may not be bit for bit"):
        assert small.found(out).step == 12


# --- Data --------------------------------------------------------------------------------------


def npz(header=None, name="inputs.npy", **arrays):
    """Writes an archive with arrays, and one of which the header alone is given."""

    def write(path):
        np.savez(path, **arrays)
        if header is not None:
            text = header.encode().ljust(118) + b"\n"
            with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(name, b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text)

    return write


def header(descr="'<f4'", shape="(2, 2)"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


DATA = {
    "objects": npz(inputs=np.array([None, "a"], object)),
    "objects beside numbers": npz(inputs=np.ones((2, 2)), labels=np.array([[1], "a"], object)),
    "records of objects": npz(header("[('a', '|O')]")),
    "a pickle": lambda path: path.write_bytes(HARM),
    "an array of its own": lambda path: np.save(path.open("wb"), np.ones(3)),
    "code": npz("__import__('os').system('touch harm')"),
    "code in a shape": npz(header(shape="(__import__('os').system('touch harm'),)")),
    "more than there is": npz(header(shape=f"({1 << 30},)")),
    "below zero": npz(header(shape="(-5,)")),
    "text": npz(inputs=np.array(["a", "b"])),
    "times": npz(inputs=np.array(["2026-01-01"], "datetime64[D]")),
    "raw bytes": npz(header("'|V8'", "(0,)")),
    "a path": npz(header(), name="../../inputs.npy"),
    "a petabyte": npz(header(shape=f"({1 << 48},)")),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_are_hostile(small, name):
    path = small.copy([]) / "data.npz"
    DATA[name](path)
    before = there(path.parents[1])
    with counted(P12="hostile files, each refused and harmless") as count:
        with pytest.raises(Invalid, match="examples: "):
            jaxnn.examples(path)
        assert there(path.parents[1]) == before
        count.append(name)
