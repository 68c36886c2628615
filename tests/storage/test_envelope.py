"""What a checkpoint adds to bytes in files: every bit comes back, or an error names the array."""

import errno
import itertools
import json
import math
import os
import re
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidType, Saving
from jaxnn.storage import background, checkpoints, files, manifest, shards
from jaxnn.storage.checkpoints import retained_steps, steps
from jaxnn.storage.manifest import CorruptCheckpoint, read_verified
from jaxnn.storage.opening import open_directory
from tests.envelopes import TREE, read, read_newest, write
from tests.small import reseal, there
from tests.trees import assert_same_bits

# --- Nothing is lost in silence ----------------------------------------------------------------


def test_a_every_bit_of_an_array_counts(tmp_path):
    """Flips bits in files of which the digests agree: the arrays have digests of their own."""
    tree = {"a": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)}
    path = write(tmp_path, tree)
    file = path / "shards-00000.bin"
    whole = file.read_bytes()
    assert whole == tree["a"].tobytes()
    for bit in (0, 31, 8 * 5000, 8 * 64 * 64 * 4 - 1):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        for _ in range(2):
            with pytest.raises(CorruptCheckpoint, match="other bytes at a in shards-00000.bin"):
                read(path, tree)
            reseal(path)


def test_b_a_process_that_ends_waits_for_what_is_saved(tmp_path):
    code = f"""
import runpy, time
work = lambda: (time.sleep(0.3), open({str(tmp_path / "done")!r}, "w"))
runpy.run_path({background.__file__!r})["Background"]().start(work)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    assert (tmp_path / "done").exists()


def test_b_an_error_of_what_is_saved_is_raised_once(tmp_path):
    work = background.Background()
    work.start(lambda: write(tmp_path / "file", 1 / 0))
    with pytest.raises(ZeroDivisionError):
        work.wait()
    work.wait()
    assert not work.busy and threading.active_count() >= 1


def test_c_who_does_not_own_the_directory_names_nothing(tmp_path):
    """Two at once: tests/runs/test_locks.py."""
    with open_directory(tmp_path / "run", {}) as first:
        owner = {"token": "of another", "process": os.getpid()}
        (tmp_path / "run" / ".lock").write_text(json.dumps(owner))
        with pytest.raises(jaxnn.DirectoryInUse):
            write(tmp_path / "run" / "checkpoints", TREE, before=first.check_owner)
    assert not any((tmp_path / "run" / "checkpoints").iterdir())


def entry(value=None, for_good=False):
    return {"value": value, "for_good": for_good}


NAN, INF = math.nan, math.inf
RETENTION = {
    # values by step, Saving(...), whether lower is better, the steps that are retained
    "nothing": ({}, {}, True, set()),
    "one": ({5: 1.0}, {}, True, {5}),
    "the last two": ({1: None, 2: None, 3: None}, {}, True, {2, 3}),
    "never fewer than two": ({1: None, 2: None, 3: None}, {"last": 1, "best": 0}, True, {2, 3}),
    "more": ({n: None for n in range(9)}, {"last": 4}, True, {5, 6, 7, 8}),
    "the best": ({1: 2.0, 2: 1.0, 3: 3.0, 4: 4.0, 5: 5.0}, {}, True, {2, 4, 5}),
    "the highest": ({1: 2.0, 2: 9.0, 3: 3.0, 4: 4.0, 5: 5.0}, {}, False, {2, 4, 5}),
    "some of the best": ({1: 2.0, 2: 1.0, 3: 3.0, 4: 9.0, 5: 9.0}, {"best": 2}, True, {1, 2, 4, 5}),
    "none of the best": ({1: 1.0, 2: 2.0, 3: 3.0}, {"best": 0}, True, {2, 3}),
    "NaN is not best": ({1: NAN, 2: 1.0, 3: NAN, 4: 2.0, 5: NAN}, {}, True, {2, 4, 5}),
    "nor is the infinite": ({1: -INF, 2: INF, 3: 1.0, 4: 2.0, 5: 3.0}, {}, True, {3, 4, 5}),
    "the other way round": ({1: -INF, 2: INF, 3: 1.0, 4: 0.0, 5: 0.5}, {}, False, {3, 4, 5}),
    "nor is nothing": ({1: None, 2: 7.0, 3: None, 4: None}, {}, True, {2, 3, 4}),
    "NaN alone": ({1: NAN, 2: NAN, 3: NAN}, {}, True, {2, 3}),
    "of equals the older": ({1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 1.0}, {}, True, {1, 4, 5}),
    "of equals the older, if high": ({3: 1.0, 2: 1.0, 9: 0.0, 8: 1.0}, {}, False, {2, 8, 9}),
    "zero has no sign": ({1: 0.0, 2: -0.0, 3: 1.0, 4: 1.0}, {}, True, {1, 3, 4}),
}


@pytest.mark.parametrize("name", RETENTION)
def test_d_of_the_values_only_finite_ones_are_best(name):
    values, saving, lower, left = RETENTION[name]
    manifests = {step: entry(value) for step, value in values.items()}
    assert retained_steps(manifests, Saving(**saving), lower) == left


def test_d_a_finished_run_retains_as_many_as_were_asked_for():
    manifests = {step: entry(float(step), step == 3) for step in range(9)}
    assert retained_steps(manifests, Saving(), True, least=1) == {0, 3, 7, 8}
    assert retained_steps(manifests, Saving(last=1, best=0), True, least=1) == {3, 8}


def test_d_what_is_for_good_is_kept():
    manifests = {step: entry(float(-step), step % 4 == 0) for step in range(20)}
    assert retained_steps(manifests, Saving(), True) == {0, 4, 8, 12, 16, 18, 19}
    assert retained_steps(manifests, Saving(last=3, best=0), True) == {0, 4, 8, 12, 16, 17, 18, 19}


def fails(monkeypatch, place, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(place, fail)


FULL = OSError(errno.ENOSPC, "no space left on device")
WRITING = {
    "the arrays": ("jaxnn.storage.shards.as_bytes", FULL),
    "reading back": ("jaxnn.storage.shards._read", FULL),
    "a quota": ("jaxnn.storage.shards.as_bytes", OSError(errno.EDQUOT, "Disk quota exceeded")),
    "forcing": ("jaxnn.storage.files.force", FULL),
    "sealing": ("jaxnn.storage.checkpoints.encode_manifest", FULL),
    "the manifest": ("jaxnn.storage.files.write", FULL),
    "the name": ("jaxnn.storage.files.rename", FULL),
    "Ctrl-C": ("jaxnn.storage.checkpoints.encode_manifest", KeyboardInterrupt()),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITING)
def test_e_what_cannot_be_written_leaves_nothing(name, tmp_path, monkeypatch):
    place, error = WRITING[name]
    write(tmp_path, TREE)
    before = there(tmp_path)
    fails(monkeypatch, place, error)
    with pytest.raises(type(error) if isinstance(error, KeyboardInterrupt) else OSError):
        write(tmp_path, TREE, 2)
    monkeypatch.undo()
    assert there(tmp_path) == before and steps(tmp_path) == [1]
    write(tmp_path, TREE, 2)


OTHERS = {
    "another shape": ({"a": np.zeros((3, 2), np.float32)}, "float32[2, 3] at a", "float32[3, 2]"),
    "an axis more": ({"b": np.zeros((1,), np.int32)}, "int32[] at b", "int32[1] there"),
    "another dtype": ({"a": np.zeros((2, 3), np.int32)}, "float32[2, 3] at a", "int32[2, 3]"),
    "half the bits": ({"a": jnp.zeros((2, 3), jnp.bfloat16)}, "float32[2, 3]", "bfloat16[2, 3]"),
    "one more": ({"c": {"d": np.zeros(1)}}, "nothing at c/d", "float64[1] there"),
    "one less": ({"b": None}, "int32[] at b", "nothing there"),
    "another name": ({"b": None, "c": TREE["b"]}, "nothing at c", "int32[] there"),
    "a list": ({"a": list(TREE["a"])}, "nothing at a/0", "float32[3] there"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_f_other_arrays_are_refused(name, tmp_path):
    changes, got, wanted = OTHERS[name]
    path = write(tmp_path, TREE)
    before = there(tmp_path)
    words = f"{path} belongs to another .* Got {re.escape(got)}.*; expected {re.escape(wanted)}"
    with pytest.raises(InvalidType, match=words):
        read_newest(tmp_path, TREE | changes)
    assert there(tmp_path) == before


KEYS = {impl: jax.random.key(0, impl=impl) for impl in manifest._KEYS}


@pytest.mark.parametrize("one, other", list(itertools.permutations(KEYS, 2)))
def test_f_keys_of_another_kind_are_refused(one, other, tmp_path):
    write(tmp_path, {"key": KEYS[one]})
    like = jax.eval_shape(lambda: {"key": KEYS[other]})
    with pytest.raises(InvalidType, match=f"Got {one} keys as .* at key; expected {other} keys as"):
        read_newest(tmp_path, like)


def test_f_keys_are_not_the_numbers_they_are_made_of(tmp_path):
    write(tmp_path, {"key": KEYS["threefry2x32"]})
    with pytest.raises(InvalidType, match=r"threefry2x32 keys .* at key; expected uint32\[2\]"):
        read_newest(tmp_path, {"key": np.zeros(2, np.uint32)})


def test_f_another_optimizer_is_refused(tmp_path):
    params = {"w": jnp.ones(3)}
    write(tmp_path, optax.adam(0.1).init(params))
    with pytest.raises(InvalidType, match=r"Got nothing at 0/trace/w; expected float32\[3\] there"):
        read_newest(tmp_path, optax.sgd(0.1, momentum=0.9).init(params))


def test_g_what_is_being_deleted_is_not_listed(tmp_path, monkeypatch):
    """A process that is killed in the middle of it leaves what the next one sweeps."""
    for step in (1, 2, 3):
        write(tmp_path, TREE, step)

    def half(folder, ignore_errors):
        next(each for each in folder.rglob("*") if each.is_file()).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", half)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.retain(tmp_path, Saving(), True)
    assert steps(tmp_path) == [3, 2]
    for step in steps(tmp_path):
        read_verified(tmp_path / checkpoints.name(step))
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 3
    files.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_h_names_of_arrays_are_no_paths(tmp_path):
    names = (str(tmp_path / "evil"), "../evil", "a/../../../evil", "..", "", "\0", "ä", "x" * 5000)
    tree = {name: np.full(3, number) for number, name in enumerate(names)}
    folder = tmp_path / "run" / "checkpoints"
    assert_same_bits(read(write(folder, tree), tree), tree)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not [path for path in folder.rglob("*") if "evil" in path.name]


# --- Nothing is deleted too early, and nothing is left -----------------------------------------


def test_none_is_deleted_before_a_newer_one_was_read_back(tmp_path, monkeypatch):
    learner = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1))
    data = jaxnn.resident({"inputs": np.ones((4, 1)), "labels": np.ones((4, 1))}, batch_size=2)
    out, part = tmp_path / "run", shards._read

    def wrong(*arguments):
        return None if len(steps(out / "checkpoints")) == 2 else part(*arguments)

    monkeypatch.setattr(shards, "_read", wrong)
    saving = Saving(every=2, best=0)
    words = "shards-00000.bin does not read back as written"
    with pytest.warns(jaxnn.Caution, match=words), pytest.raises(OSError, match=words):
        jaxnn.fit(
            learner, data, steps=8, every=2, key=jax.random.key(0), out=out, saving=saving,
            quiet=True,
        )  # fmt: skip
    monkeypatch.undo()
    assert len(steps(out / "checkpoints")) == 2
    assert len(list((out / "checkpoints").iterdir())) == 2
    for step in steps(out / "checkpoints"):
        read_verified(out / "checkpoints" / checkpoints.name(step))


def test_what_a_stop_left_is_removed_at_the_start(tmp_path):
    out = tmp_path / "run"
    with open_directory(out, {}):
        write(out / "checkpoints", TREE)
    before = there(out)
    for folder in (out, out / "checkpoints"):
        (folder / ".draft-000000000002-1a").mkdir()
        (folder / ".draft-000000000002-1a" / "arrays").write_text("half")
        (folder / ".trash-1a-000000000001").mkdir()
        (folder / ".draft-result.json").write_text("{")
        (folder / ".trash-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    (out / "quarantine").mkdir()
    assert steps(out / "checkpoints") == [1]
    with open_directory(out, {}):
        pass
    after = there(out)
    del before[".lock"], after[".lock"], after["quarantine"]
    assert after == before
    assert (tmp_path / "elsewhere" / "mine").exists()


def test_only_names_of_steps_are_checkpoints(tmp_path):
    write(tmp_path, TREE, 12)
    for name in ("12", "000000000013.txt", "-00000000001", "٠٠٠٠٠٠٠٠٠٠٠١", "1" * 13, "0" * 13, "x"):
        (tmp_path / name).mkdir()
    assert steps(tmp_path) == [int("1" * 13), 12]
