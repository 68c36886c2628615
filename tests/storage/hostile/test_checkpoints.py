"""Checkpoints whose files are none, or lie with a manifest that agrees."""

import json
import shutil
from hashlib import sha256

import pytest
import tensorstore

from jaxnn import InvalidType, InvalidValue
from jaxnn.storage.checkpoints import read_checkpoint
from jaxnn.storage.manifest import FORMAT, read_verified
from tests.envelopes import write_format_1
from tests.small import NEWEST, contents, reseal, seal
from tests.storage.hostile.harm import (
    HARM,
    THINGS,
    left_out,
    newest,
    of_array,
    refused,
    replaced,
    untouched,
)
from tests.trees import assert_same_bits

# Orbax leaves some of its own work unawaited when a file is not what it should be.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("torn_engine"),
]


# --- What is no file, or not that of a checkpoint ----------------------------------------------


@pytest.mark.parametrize("file", ["manifest.json", "shards-00000.bin"])
@pytest.mark.parametrize("name", THINGS)
def test_another_thing_in_the_place_of_a_file(small, name, file):
    out = small.copy()
    replaced(THINGS[name])(out / "checkpoints" / NEWEST / file)
    left_out(small, out, file)


# --- What is not corrupt, but cannot be used ---------------------------------------------------

OTHER = {
    "a newer format": ({"format": FORMAT + 1}, InvalidValue, "written by a newer jaxnn"),
    "a format far away": ({"format": 10**30}, InvalidValue, "written by a newer jaxnn"),
    "another identity": ({"identity": {}}, InvalidValue, "was started with other settings"),
    "a deep identity": (
        {"identity": {"steps": json.loads("[" * 500 + "]" * 500)}}, InvalidValue, "other settings",
    ),
    "no arrays": ({"arrays": []}, InvalidType, "Got nothing at state/step"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_a_checkpoint_that_cannot_be_used_is_left_as_it_is(small, name):
    fields, error, words = OTHER[name]
    out = small.copy()
    seal(out / "checkpoints" / NEWEST, **fields)
    reseal(out / "checkpoints" / NEWEST)
    untouched(small, out, error, words)


WEIGHT = "state/params/weight"


def reshaped(content):
    content["arrays"][2]["shape"] = [3, 4]
    content["arrays"][2]["shards"][0][2] = [[0, 3], [0, 4]]


ARRAYS = {
    "a path": (of_array(name="../../x"), f"Got nothing at {WEIGHT}"),
    "a place on the disk": (of_array(name="/etc/passwd"), f"Got nothing at {WEIGHT}"),
    "another shape": (
        reshaped,
        rf"Got float32\[3, 4\] at {WEIGHT}; expected float32\[4, 3\] there",
    ),
    "no array": (
        of_array(shape=[0, 1 << 60], shards=[], sha256=sha256().hexdigest()), "Got float32",
    ),
    "another dtype": (of_array(dtype="int32"), rf"Got int32\[4, 3\] at {WEIGHT}"),
    "keys": (of_array(keys="rbg"), rf"Got rbg keys as float32\[4, 3\] at {WEIGHT}"),
    "in another order": (lambda content: content["arrays"].reverse(), "arrays in another order"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_other_than_those_that_are_wanted(small, name):
    edit, words = ARRAYS[name]
    out = small.copy()
    content = contents(out / "checkpoints" / NEWEST)
    edit(content)
    seal(out / "checkpoints" / NEWEST, **content)
    reseal(out / "checkpoints" / NEWEST)
    untouched(small, out, InvalidType, words)


# --- Files of Orbax in an older checkpoint, with a manifest that agrees with them ---------------


@pytest.fixture
def older(small):
    """Returns the newest checkpoint of a run, as an older version wrote it."""
    folder = newest(small)
    shutil.rmtree(folder)
    return write_format_1(folder.parent, small.restored[12].trial, 12)


def stored(**fields):
    """What Orbax's own files say of the weights."""

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
def test_files_of_the_engine_that_lie(small, older, name):
    ENGINE[name](older)
    reseal(older)
    refused(small, older, f"Got arrays that cannot be read|other bytes at {WEIGHT}")


@pytest.mark.parametrize("name", ["more", "arrays/more.pkl", "arrays/d/more"])
def test_a_pickle_among_the_files_is_not_read(small, older, name):
    (older / name).write_bytes(HARM)
    reseal(older)
    trial = small.restored[12].trial
    assert_same_bits(read_checkpoint(older, read_verified(older), trial), trial)
