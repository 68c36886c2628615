"""Runs that adapt a frozen network: its weights are saved once, and are never copied."""

import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.catalog.verification import verify
from jaxnn.learning import accumulate, average, guard
from jaxnn.storage import checkpoints
from jaxnn.storage.frozen import CorruptBase
from jaxnn.storage.manifest import read_manifest
from tests.harness import keep_pace
from tests.trees import assert_same_bits

DATA = jaxnn.resident(
    {"inputs": np.random.default_rng(0).normal(size=(8, 256)).astype(np.float32),
     "labels": np.arange(8) % 3}, batch_size=4,
)  # fmt: skip
INNER = jaxnn.mlp([128], 3)  # 128 kB of frozen weights, of which only one array is large
PARAMS, _ = INNER.init(jax.random.key(3), jnp.ones((1, 256)))
ADAPTED = jaxnn.learner(
    jaxnn.lora(INNER, rank=2), jaxnn.classification(), optax.adam(1e-2)
)  # fmt: skip
START = ({}, {"base": PARAMS})
OPTIONS = {"key": jax.random.key(0), "quiet": True, "every": 2, "start": START}


@pytest.fixture(autouse=True)
def each_chunk_is_saved(monkeypatch):
    keep_pace(None, monkeypatch.setattr)


def fitted(out, learner=ADAPTED, steps=6, **options):
    saving = jaxnn.Saving(seconds=0, last=4)
    return jaxnn.fit(learner, DATA, steps=steps, out=out, saving=saving, **OPTIONS | options)


def base_of(out):
    return sorted((out / "checkpoints" / "base").iterdir())


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


WRAPPERS = {
    "plain": lambda each: each,
    "guard": guard,
    "average": lambda each: average(each, decay=0.9),
    "accumulate": lambda each: accumulate(each, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("form", ["looped", "stepped"])
def test_the_caller_s_own_weights_are_trained_with(name, form):
    """Neither used up nor copied: the run has the very arrays, at its end too."""
    training = jaxnn.train(
        WRAPPERS[name](ADAPTED), DATA, steps=4, key=jax.random.key(0), start=START,
        watch=jaxnn.Watch("train/loss", patience=9), execution=jaxnn.Execution(form=form),
    )  # fmt: skip
    assert len(training.fixed) == 1
    own = PARAMS["hidden_1"]["weight"].unsafe_buffer_pointer()
    for progress in training:
        for state in (progress.state, progress.best):
            assert state.state["base"]["hidden_1"]["weight"].unsafe_buffer_pointer() == own
    assert not PARAMS["hidden_1"]["weight"].is_deleted()


@pytest.mark.slow
def test_a_run_has_the_bits_of_one_that_copies(tmp_path):
    """The caller's arrays as NumPy's, so that the run has copies; and a drawn base."""
    one = fitted(None, watch="train/loss")
    other = fitted(None, watch="train/loss", start=jax.tree.map(np.asarray, START))
    assert_same_bits(one.state, other.state)
    assert_same_bits(one.best, other.best)
    assert fitted(None, start=None).result["train/loss"] != one.result["train/loss"]


def test_the_base_is_saved_once(tmp_path):
    fitted(tmp_path / "run", watch="train/loss")
    folders = checkpoints.folders(tmp_path / "run" / "checkpoints")
    assert len(folders) >= 2
    (file,) = base_of(tmp_path / "run")
    assert file.stat().st_size == 4 * 256 * 128
    for folder in folders:
        content = read_manifest(folder)
        assert content["format"] == 3
        names = {each["name"] for each in content["arrays"] if "base" in each}
        assert names == {f"{state}/state/base/hidden_1/weight" for state in ("state", "best/state")}
        assert size(folder) < 4 * 256 * 128
    loaded = jaxnn.load(tmp_path / "run")
    np.testing.assert_array_equal(
        loaded.state["base"]["hidden_1"]["weight"], PARAMS["hidden_1"]["weight"]
    )
    assert loaded.predict(np.ones((2, 256), np.float32)).shape == (2, 3)
    assert {check.state for check in verify(tmp_path / "run")} == {"good"}


def losses(row):
    return {name: value for name, value in row.items() if name != "seconds"}


def stopped(out, at=4):
    """Trains to a step, and leaves the directory as a run that was stopped there."""
    fitted(out)
    for step in checkpoints.steps(out / "checkpoints"):
        if step > at:
            shutil.rmtree(out / "checkpoints" / checkpoints.name(step))
    (out / "result.json").unlink()


@pytest.mark.slow
def test_a_run_resumes_with_the_bits_of_one_that_nothing_stopped(tmp_path):
    whole = fitted(tmp_path / "whole")
    stopped(tmp_path / "run")
    before = base_of(tmp_path / "run")[0].stat().st_mtime_ns
    run = fitted(tmp_path / "run")
    assert_same_bits(run.state, whole.state)
    assert [losses(row) for row in run.history] == [losses(row) for row in whole.history]
    assert base_of(tmp_path / "run")[0].stat().st_mtime_ns == before


def test_a_finished_run_may_have_one_checkpoint_and_be_extended(tmp_path):
    whole = fitted(tmp_path / "whole")
    for steps in (4, 6):
        options = {"resume": steps > 4, "allow_change": ["steps"]}
        out = jaxnn.Directory(tmp_path / "run", **options)
        saving = jaxnn.Saving(seconds=0, last=1)
        run = jaxnn.fit(ADAPTED, DATA, steps=steps, out=out, saving=saving, **OPTIONS)
        assert checkpoints.steps(tmp_path / "run" / "checkpoints") == [steps]
    assert_same_bits(run.state, whole.state)


@pytest.mark.slow
def test_a_checkpoint_with_all_arrays_resumes_too(tmp_path, monkeypatch):
    """As they were saved before there was a base."""
    monkeypatch.setattr("jaxnn.loop.unchanged.LEAST", 1 << 40)
    whole = fitted(tmp_path / "whole")
    stopped(tmp_path / "run")
    assert read_manifest(checkpoints.folders(tmp_path / "run" / "checkpoints")[0])["format"] == 2
    monkeypatch.undo()
    run = fitted(tmp_path / "run")
    assert_same_bits(run.state, whole.state)
    assert len(base_of(tmp_path / "run")) == 1


def changed(file):
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)


HARM = {
    "missing": (lambda file: file.unlink(), "No such file"),
    "no folder": (lambda file: shutil.rmtree(file.parent), "No such file"),
    "changed": (changed, "other bytes at"),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-4]), "131,068 bytes at"),
    "link": (lambda file: (file.rename(file.parent.parent / "x"),
                           file.symlink_to(file.parent.parent / "x")), "131,072 bytes|not a file"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", HARM)
def test_a_base_that_is_not_there_is_an_error_and_nothing_is_lost(name, tmp_path):
    """Older checkpoints have the same base: to skip this one would lose the run."""
    stopped(tmp_path / "run")
    steps = checkpoints.steps(tmp_path / "run" / "checkpoints")
    (file,) = base_of(tmp_path / "run")
    HARM[name][0](file)
    words = "the frozen base of .* is corrupt at state/state/base/hidden_1/weight"
    for use in (fitted, jaxnn.load):
        with pytest.raises(CorruptBase, match=words) as error:
            use(tmp_path / "run")
        assert jaxnn.checks.InvalidValue in type(error.value).mro()
        assert any(part in str(error.value) for part in HARM[name][1].split("|"))
        assert "Restore" in str(error.value)
    assert checkpoints.steps(tmp_path / "run" / "checkpoints") == steps
    assert "corrupt" in {check.state for check in verify(tmp_path / "run")}


@pytest.mark.slow
@pytest.mark.parametrize("change", [
    lambda part: part.__setitem__(0, "../../../secret"), lambda part: part.__setitem__(1, 4),
    lambda part: part[2][0].__setitem__(1, 1 << 40), lambda part: part.__setitem__(0, "0" * 64),
], ids=["path", "offset", "bounds", "name"])  # fmt: skip
def test_a_manifest_cannot_lead_elsewhere(change, tmp_path):
    stopped(tmp_path / "run")
    folder = checkpoints.folders(tmp_path / "run" / "checkpoints")[0]
    content = json.loads((folder / "manifest.json").read_text())
    (entry,) = [each for each in content["arrays"] if "base" in each]
    change(entry["base"][0])
    from jaxnn.storage import json_files, manifest

    content.pop("sha256")
    content["sha256"] = manifest._own(content)
    (folder / "manifest.json").write_bytes(json_files.encode(content, indent=1))
    with pytest.raises(manifest.CorruptCheckpoint, match="invalid content"):
        read_manifest(folder)


@pytest.mark.slow
def test_members_share_nothing_but_save_it_once(tmp_path):
    keys = jax.random.split(jax.random.key(0), 2)
    whole = fitted(tmp_path / "whole", key=keys)
    # On several devices each member is a part of the array, and equal parts are one file.
    (file,) = base_of(tmp_path / "whole")
    assert file.stat().st_size in (4 * 256 * 128, 2 * 4 * 256 * 128)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = fitted(tmp_path / "run", key=keys, steps=4)
        (tmp_path / "run" / "result.json").unlink()
        out = jaxnn.Directory(tmp_path / "run", allow_change=["steps"])
        run = fitted(out, key=keys)
    assert_same_bits(run.state, whole.state)


@pytest.mark.slow
def test_what_is_not_used_any_more_is_deleted(tmp_path):
    fitted(tmp_path / "run")
    other = tmp_path / "run" / "checkpoints" / "base" / ("0" * 64)
    other.write_bytes(b"of a run that started over")
    checkpoints.retain(tmp_path / "run" / "checkpoints", jaxnn.Saving(), True)
    assert not other.exists() and len(base_of(tmp_path / "run")) == 1


@pytest.mark.slow
def test_on_a_mesh_each_part_is_a_file_and_resumes_on_another(tmp_path):
    if len(jax.devices()) < 2:
        pytest.skip("one device: others are simulated where tests run in parallel")
    count = max(n for n in (2, 4) if n <= len(jax.devices()))
    fsdp = [("*", jaxnn.scale.largest("data", at_least=1 << 10))]
    spread = {"mesh": jaxnn.scale.mesh(data=count), "rules": fsdp}
    whole = fitted(tmp_path / "whole", **spread)
    files = base_of(tmp_path / "whole")
    assert len(files) == count and sum(x.stat().st_size for x in files) == 4 * 256 * 128
    content = read_manifest(checkpoints.folders(tmp_path / "whole" / "checkpoints")[0])
    assert content["format"] == 3
    stopped(tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = fitted(tmp_path / "run", **spread)
    for one, other in zip(jax.tree.leaves(run.state.params), jax.tree.leaves(whole.state.params)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
