"""Model files that were cut off, changed, or written to do harm: each is refused, with the fix."""

import hashlib
import json
import shutil
import zipfile

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn.exporting import CorruptModel, WrongPredictions
from jaxnn.exporting.archive import MODEL, PARAMS, PROGRAM
from jaxnn.runs.lowering import PLATFORMS


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    inputs = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    network = jaxnn.mlp([4], 3)
    params, state = network.init(jax.random.key(0), inputs)
    path = tmp_path_factory.mktemp("models") / "good.jaxnn"
    return jaxnn.export((network, params, state), path, inputs=inputs)


def rewritten(good, path, change=lambda entries: None, *, sign=True, comment=None, method=0):
    """Writes a model file again with changed entries, and with digests that fit them if `sign`."""
    with zipfile.ZipFile(good) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
        own = archive.comment
    change(entries)
    if sign:
        content = json.loads(entries[MODEL])
        others = {name: entries[name] for name in entries if name != MODEL}
        content["digests"] = {n: hashlib.sha256(x).hexdigest() for n, x in others.items()}
        entries[MODEL] = json.dumps(content).encode()
        digest = hashlib.sha256(entries[MODEL]).hexdigest()
        own = f"jaxnn model 1\nsha256 {digest}\n".encode()
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.comment = comment or own
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def described(entries, **changes):
    entries[MODEL] = json.dumps(json.loads(entries[MODEL]) | changes).encode()


def test_what_is_only_written_again_opens(good, tmp_path):
    assert jaxnn.load_model(rewritten(good, tmp_path / "same")).description.kind == "vector"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off(good, tmp_path, share):
    content = good.read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(share * len(content))])
    with pytest.raises(CorruptModel, match="no model file|has no digest"):
        jaxnn.load_model(tmp_path / "cut")


def test_any_byte_that_was_changed_is_noticed_or_without_effect(good, tmp_path):
    expected = jaxnn.load_model(good).predict(np.ones((1, 2), np.float32))
    content, refused = good.read_bytes(), 0
    for place in range(0, len(content), max(1, len(content) // 60)):
        changed = bytearray(content)
        changed[place] ^= 0x15
        (tmp_path / "changed").write_bytes(changed)
        try:
            model = jaxnn.load_model(tmp_path / "changed", check=False)
        except (CorruptModel, jaxnn.InvalidValue):
            refused += 1
        else:  # padding, or a field of the zip that nobody reads
            np.testing.assert_array_equal(model.predict(np.ones((1, 2), np.float32)), expected)
    assert refused > 40


def test_a_newer_format(good, tmp_path):
    comment = b"jaxnn model 2\nsha256 " + b"0" * 64 + b"\n"
    with pytest.raises(jaxnn.InvalidValue, match="Got format 2; expected format 1 at most. Update"):
        jaxnn.load_model(rewritten(good, tmp_path / "new", comment=comment))


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "extra.pkl", "x\\y"])
def test_an_entry_that_does_not_belong_there(good, tmp_path, name):
    path = rewritten(good, tmp_path / "file", lambda entries: entries.update({name: b"x"}))
    with pytest.raises(CorruptModel, match="does not belong there"):
        jaxnn.load_model(path)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_bomb_is_refused_before_it_is_read(good, tmp_path):
    bomb = rewritten(
        good, tmp_path / "bomb", lambda e: e.update({"program.onnx": bytes(1 << 24)}), method=8
    )
    assert bomb.stat().st_size < 1 << 17
    with pytest.raises(CorruptModel, match="compressed"):
        jaxnn.load_model(bomb)


def test_entries_that_claim_to_be_larger_than_the_file(good, tmp_path):
    content = bytearray(good.read_bytes())
    start = content.rindex(b"PK\1\2")  # of the last entry in the directory
    content[start + 20 : start + 28] = (1 << 30).to_bytes(4, "little") * 2
    (tmp_path / "large").write_bytes(content)
    with pytest.raises(CorruptModel, match="overlaps another entry|no model file"):
        jaxnn.load_model(tmp_path / "large")


@pytest.mark.parametrize("name", [PARAMS, PROGRAM, MODEL])
def test_an_entry_that_was_tampered_with(good, tmp_path, name):
    def change(entries):
        entries[name] = entries[name][:-3] + b"abc"

    with pytest.raises(CorruptModel, match=f"{name} is not what was written"):
        jaxnn.load_model(rewritten(good, tmp_path / "tampered", change, sign=False))


def test_parameters_that_fit_a_digest_but_not_the_examples(good, tmp_path):
    def change(entries):
        entries[PARAMS] = entries[PARAMS][:-48] + np.full(12, 9.0, np.float32).tobytes()

    with pytest.raises(WrongPredictions, match="predicts other numbers"):
        jaxnn.load_model(rewritten(good, tmp_path / "other", change))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "pickle"},
        {"inputs": 3},
        {"outputs": {"dict": {"a": {"shape": [-1], "dtype": "float32"}}}},
        {"inputs": {"shape": [2], "dtype": "object"}},
        {"program": {}},
        {"columns": "{}"},
        {"classes": 5},
        {"limits": {"length": "many"}},
        {"examples": []},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_description_that_makes_no_sense(good, tmp_path, changes):
    path = rewritten(good, tmp_path / "file", lambda entries: described(entries, **changes))
    with pytest.raises((CorruptModel, jaxnn.Invalid)):
        jaxnn.load_model(path)


def test_a_description_that_is_nested_deeply(good, tmp_path):
    deep = b'{"inputs": ' + b'{"list": [' * 50_000 + b"]}" * 50_000 + b"}"
    path = rewritten(good, tmp_path / "deep", lambda e: e.update({MODEL: deep}), sign=False)
    with pytest.raises(CorruptModel):
        jaxnn.load_model(path)


def test_a_program_that_is_garbage(good, tmp_path):
    path = rewritten(good, tmp_path / "file", lambda e: e.update({PROGRAM: b"ML\xefR nonsense"}))
    with pytest.raises(Exception, match="cannot be read by jax"):
        jaxnn.load_model(path)


def test_a_program_that_calls_python_is_neither_written_nor_opened(good, tmp_path):
    def noisy(params, state, inputs, *, key=None):
        jax.debug.print("here")
        shape = jax.ShapeDtypeStruct(inputs.shape, inputs.dtype)
        return jax.pure_callback(lambda x: x, shape, inputs, vmap_method="expand_dims"), state

    network = jaxnn.Network(lambda key, inputs: ({}, {}), noisy)
    inputs = np.ones((2, 2), np.float32)
    with pytest.raises(jaxnn.InvalidType, match="no program that stands by itself"):
        jaxnn.export((network, {}, {}), tmp_path / "model.jaxnn", inputs=inputs)
    assert not [*tmp_path.iterdir()]


def test_a_program_that_calls_what_is_not_known(good, tmp_path):
    """As one is that was written with a check of jax switched off."""
    from jax import export as jax_export

    def function(arrays, inputs):
        call = jax.ffi.ffi_call("run_my_code", jax.ShapeDtypeStruct((2, 3), np.float32))
        return call(inputs) + 0 * sum(x.sum() for x in arrays.values())

    model = jaxnn.load_model(good)
    arrays, inputs = model.program.signature
    checks = [jax_export.DisabledSafetyCheck.custom_call("run_my_code")]
    exported = jax_export.export(jax.jit(function), platforms=PLATFORMS, disabled_checks=checks)(
        arrays, jax.ShapeDtypeStruct((2, 2), np.float32)
    )

    def change(entries):
        entries[PROGRAM] = exported.mlir_module_serialized

    with pytest.raises(jaxnn.InvalidValue, match="Got run_my_code; expected StableHLO alone"):
        jaxnn.load_model(rewritten(good, tmp_path / "file", change), check=False)


@pytest.mark.parametrize(
    "inputs, words",
    [
        (np.ones((2, 3), np.float32), r"Got examples of float32\[3\]; expected .*float32\[2\]"),
        (np.ones(2, np.float32), r"Got examples of float32\[\]"),
        (np.array([["a", "b"]]), "does not hold numbers|not numbers"),
        ({"x": np.ones((2, 2))}, "expected examples of"),
        (np.full((1, 2), np.nan), "not finite"),
        (np.ones((0, 2)), "empty"),
    ],
    ids=["shape", "no examples", "text", "structure", "not finite", "none"],
)
def test_inputs_of_another_kind(good, inputs, words):
    with pytest.raises(jaxnn.Invalid, match=words):
        jaxnn.load_model(good).predict(inputs)


def test_paths_that_are_no_files(good, tmp_path):
    with pytest.raises(jaxnn.NoCheckpoint, match="no checkpoint to load"):
        jaxnn.load_model(tmp_path)
    with pytest.raises(FileNotFoundError):
        jaxnn.load_model(tmp_path / "none.jaxnn")
    (tmp_path / "link").symlink_to(good)
    with pytest.raises(OSError):
        jaxnn.load_model(tmp_path / "link")


def test_a_write_that_fails_leaves_the_file_before(good, tmp_path, monkeypatch):
    path = tmp_path / "model.jaxnn"
    shutil.copy(good, path)
    before = path.read_bytes()
    network, inputs = jaxnn.linear(2), np.ones((2, 2), np.float32)
    params, state = network.init(jax.random.key(0), inputs)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxnn.storage.files.force", full)
    with pytest.raises(OSError):
        jaxnn.export((network, params, state), path, inputs=inputs)
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]
