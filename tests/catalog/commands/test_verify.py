"""`python -m jaxnn verify`: corruption is detected and named, and nothing else is called so."""

import json
import os
import shutil

import pytest

from tests.catalog.commands.runs import (
    append,
    fit,
    flip,
    largest,
    manifest_of,
    reseal,
    saved,
    spoil_text,
    swap_rows,
)

pytestmark = pytest.mark.slow


def test_what_is_whole_is_good(trained, query, call):
    for name in ("one", "deep/cut", "lost", "swept"):
        code, answer = query("verify", trained.place / name)
        assert code == 0 and answer["good"] and {c["state"] for c in answer["checks"]} == {"good"}
    what = [check["what"] for check in query("verify", trained.place / "swept")[1]["checks"]]
    assert what[:2] == ["config.json", "result.json"] and "hidden=5/metrics.jsonl" in what
    assert "hidden=4/checkpoint 20" in what
    assert call("verify", trained.place / "one")[1].endswith("\n\nall is good\n")


def spoil_digest(run):
    arrays = json.loads(manifest_of(run).read_text())["arrays"]
    arrays[1]["sha256"] = "0" * 64
    reseal(manifest_of(run), arrays=arrays)


CORRUPTIONS = {
    "a flipped bit": (lambda run: flip(largest(run)), "checkpoint 20", "other bytes at "),
    "a short file": (lambda run: os.truncate(largest(run), 9), "checkpoint 20", "of 9 bytes"),
    "a lost file": (lambda run: largest(run).unlink(), "checkpoint 20", "Got no shards-00000.bin"),
    "a new file": (
        lambda run: (manifest_of(run).parent / "new").touch(), "checkpoint 20", "not written with",
    ),
    "no manifest": (lambda run: manifest_of(run).unlink(), "checkpoint 20", "cannot be read"),
    "a flipped manifest": (lambda run: flip(manifest_of(run)), "checkpoint 20", "manifest.json"),
    "no rows in a manifest": (
        lambda run: reseal(manifest_of(run), rows="all"), "checkpoint 20", "without rows",
    ),
    "another array": (spoil_digest, "checkpoint 20", "have another digest"),
    "no JSON": (spoil_text("config.json", "{", "["), "config.json", "cannot be read"),
    "a list": (
        lambda run: (run / "config.json").write_text("[]"), "config.json", "Got a list",
    ),
    "a name twice": (
        spoil_text("config.json", '"note"', '"hidden"'), "config.json", "repeated: 'hidden'",
    ),
    "NaN": (spoil_text("result.json", '"steps": 20', '"steps": NaN'), "result.json", "NaN is no"),
    "a torn row": (
        lambda run: os.truncate(run / "metrics.jsonl", 700), "metrics.jsonl", "has no end",
    ),
    "half a row": (
        lambda run: append(run / "metrics.jsonl", "{"), "metrics.jsonl", "has no end",
    ),
    "a program that is a folder": (
        lambda run: (run / "predict.bin").unlink() or (run / "predict.bin").mkdir(),
        "predict.bin", "is not a file",
    ),
    "a program of layers": (
        lambda run: (run / "recording").mkdir(exist_ok=True)
        or (run / "recording" / "layers.bin").write_bytes(b"0\n{}\n"),
        "recording/layers.bin", "of another digest",
    ),
    "speed that is a list": (
        lambda run: (run / "speed.json").write_text("[]"), "speed.json", "Got a list",
    ),
    "a pipe": (
        lambda run: (run / "config.json").unlink() or os.mkfifo(run / "config.json"),
        "config.json", "is not a file",
    ),
    "rows lost": (
        spoil_text("metrics.jsonl", '{"step": 4', '\n{"step": 4'), "metrics.jsonl", "0 good lines",
    ),
    "rows gone": (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl", "then no more"),
    "rows in disorder": (swap_rows, "metrics.jsonl", "its step 4 comes after 8"),
    "NaN in a row": (
        spoil_text("metrics.jsonl", '"epoch": ', '"epoch": NaN, "e": '), "metrics.jsonl", "line 1",
    ),
    "no step": (
        spoil_text("metrics.jsonl", '"step"', '"stop"'), "metrics.jsonl", "line 1: KeyError",
    ),
    "a row that is none": (
        spoil_text("metrics.jsonl", "{", '"a"\n{'), "metrics.jsonl", "line 1: TypeError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_damage_is_found_and_named(kind, copy, query, call):
    spoil, what, words = CORRUPTIONS[kind]
    path = copy("one")
    spoil(path)
    code, answer = query("verify", path)
    bad = {check["what"]: check for check in answer["checks"] if check["state"] != "good"}
    assert code == 4 and not answer["good"] and [*bad] == [what]
    assert bad[what]["state"] == "corrupt" and words in bad[what]["note"]
    code, output, _ = call("verify", path)
    assert code == 4 and f"corrupt  {what}\n    " in output and words in " ".join(output.split())
    assert output.endswith(f"1 of {len(answer['checks'])} not good\n")


@pytest.mark.parametrize("kind", ["a list", "NaN", "NaN in a row", "no manifest"])
def test_the_other_commands_see_damage_too(kind, copy, trained, query, call):
    spoil, what, words = CORRUPTIONS[kind]
    path = copy("one")
    spoil(path)
    code, answer = query("show", path)
    assert code == 4 and [*answer["errors"]] == [what] and words in answer["errors"][what]
    assert words in " ".join(call("show", path)[1].split())
    code, output, errors = call("diff", path, trained.place / "twin")
    assert code == 4 and output == "" and words in errors


def test_damage_in_a_part_is_that_of_the_sweep(copy, query):
    path = copy("swept")
    flip(largest(path / "hidden=5"))
    code, answer = query("verify", path)
    bad = [check["what"] for check in answer["checks"] if check["state"] != "good"]
    assert code == 4 and bad == ["hidden=5/checkpoint 20", "hidden=5/checkpoints"]


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(copy, query):
    path = copy("one")
    shutil.rmtree(path / "checkpoints")
    code, answer = query("verify", path)
    assert code == 4
    assert [c["what"] for c in answer["checks"] if c["state"] == "missing"] == ["checkpoints"]


def test_a_row_torn_by_a_stop_is_no_damage(copy, query):
    path = copy("deep/cut")
    append(path / "metrics.jsonl", '{"step": 16, "ep')
    code, answer = query("verify", path)
    assert code == 0 and "is cut when the run resumes" in answer["checks"][-1]["note"]
    assert query("show", path)[1]["errors"] == {}
    fit(path)  # indeed
    assert query("verify", path)[0] == 0


def test_a_checkpoint_that_is_deleted_meanwhile_is_no_damage(copy, query, monkeypatch):
    from jaxnn.catalog import verification
    from jaxnn.storage import checkpoints

    path = copy("one")
    first = manifest_of(path).parent
    reading = verification.read_verified

    def deleted(folder):
        if folder == first:
            shutil.rmtree(folder)
        return reading(folder)

    monkeypatch.setattr(verification, "read_verified", deleted)
    before = saved(path)
    code, answer = query("verify", path)
    assert code == 0 and f"checkpoint {before[0]}" not in [c["what"] for c in answer["checks"]]
    assert checkpoints.steps(path / "checkpoints") == before[1:]
