"""`python -m jaxnn`: what it says of runs, that it finds every damage, that it writes nothing."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.__main__ import main
from jaxnn.records.catalog import below, parts

pytestmark = pytest.mark.slow

ROOT = Path(jaxnn.__file__).parents[1]
COMMANDS = ("runs", "show", "verify", "diff", "diagnose")
CONFIG = {"learning_rate": 0.05, "hidden": [4], "note": None}


def fit(out, rate=0.05, hidden=(4,), config=CONFIG, **options):
    draws = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    data = jaxnn.resident({"inputs": draws, "labels": draws[:, :1] + 1}, batch_size=8)
    settings = {
        "steps": 20,
        "every": 4,
        "key": jax.random.key(0),
        "hparams": {"learning_rate": rate},
        "evaluate": jaxnn.resident(data.arrays, batch_size=24),
        "watch": "test/loss",
        "name": "small",
    }
    learner = jaxnn.learner(
        jaxnn.mlp(hidden, 1), jaxnn.regression(), lambda h: optax.sgd(h["learning_rate"])
    )
    settings |= {"config": config and {**config, "learning_rate": rate}, **options}
    return jaxnn.fit(learner, data, out=out, quiet=True, **settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of every kind, and what was said of one while it went on."""
    place = tmp_path_factory.mktemp("made") / "runs"
    seen = []

    @contextmanager
    def interrupted(steps, quiet):
        def show(step, row):
            if step == 12 and row:
                seen.append(subprocess_of("runs", str(place), "--json"))
                seen.append(subprocess_of("verify", str(place / "deep" / "cut"), "--json"))
                signal.raise_signal(signal.SIGINT)

        yield show

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sys.modules["jaxnn.run.fit"], "shown", interrupted)
        fit(place / "deep" / "cut", saving=jaxnn.Saving(seconds=0))
    one = fit(place / "one", saving=jaxnn.Saving(seconds=0))
    twin = fit(place / "twin")
    other = fit(place / "other", 0.02)
    with pytest.raises(jaxnn.NotFinite):
        fit(place / "lost", 1e30)
    rates = jaxnn.log_range(1e-2, 1e-1, 2)
    swept = jaxnn.fit_sweep(
        jaxnn.sweep({"learning_rate": rates, "hidden": [(4,), (5,)]}, seeds=2),
        lambda values, runs, out: fit(
            out, runs.hparams["learning_rate"], values["hidden"], None, key=runs.key
        ),
        structural=["hidden"], out=place / "swept", quiet=True,
    )  # fmt: skip
    return SimpleNamespace(place=place, seen=seen, one=one, twin=twin, other=other, swept=swept)


def subprocess_of(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "jaxnn", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture
def call(capsys):
    """Returns `call(*arguments)`, which gives the exit code, the output and the errors."""

    def call(*arguments):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def told(call):
    """Returns `told(*arguments)`, which gives the exit code and what JSON says."""

    def told(*arguments):
        code, output, _ = call(*arguments, "--json")
        return code, json.loads(output)

    return told


@pytest.fixture
def copy(made, tmp_path):
    """Returns `copy(name)`, a copy of a run that may be spoilt."""

    def copy(name):
        return Path(shutil.copytree(made.place / name, tmp_path / "copy" / name))

    return copy


# --- runs ----------------------------------------------------------------------------------------


def test_runs_lists_every_run_under_its_path(made, told):
    code, answer = told("runs", made.place)
    runs = {run["name"]: run for run in answer["runs"]}
    assert code == 0 and answer["directory"] == str(made.place)
    assert set(runs) == {"deep/cut", "one", "twin", "other", "lost", "swept"}
    assert {name: run["status"] for name, run in runs.items()} == {
        "deep/cut": "stopped", "one": "done", "twin": "done", "other": "done",
        "lost": "diverged", "swept": "done",
    }  # fmt: skip
    one = runs["one"]
    assert (one["step"], one["steps"], one["runs"], one["parts"]) == (20, 20, None, [])
    assert (one["metric"], one["value"]) == ("test/loss", made.one.result["test/loss"])
    assert one["seconds"] == made.one.result["seconds"] and one["experiment"] == "small"
    files = [path for path in (made.place / "one").rglob("*") if path.is_file()]
    assert one["size"] == sum(path.stat().st_size for path in files)
    assert 0 <= one["age"] < 600
    last = json.loads((made.place / "deep/cut/metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert 12 <= last < 20
    assert (runs["deep/cut"]["step"], runs["deep/cut"]["steps"]) == (last, 20)


def test_a_sweep_is_one_run_with_parts(made, told, call):
    _, answer = told("runs", made.place / "swept")
    (sweep,) = answer["runs"]
    assert sweep["runs"] == 8 and sweep["steps"] is None and sweep["step"] == 160
    assert sweep["metric"] == "test/loss" and sweep["value"] == made.swept.result["test/loss"]
    assert [part["name"] for part in sweep["parts"]] == ["hidden=4", "hidden=5"]
    losses = [row["test/loss"] for row in made.swept.rows if row["hidden"] == (5,)]
    assert sweep["parts"][1]["value"] == pytest.approx(min(losses))
    _, output, _ = call("runs", made.place)
    assert "swept (8 runs)" in output and "hidden=4" not in output


def test_of_an_unfinished_sweep_the_parts_are_shown(copy, call):
    (copy("swept") / "result.json").unlink()
    _, output, _ = call("runs", copy("one").parent)
    lines = output.splitlines()
    place = next(number for number, line in enumerate(lines) if line.endswith("  swept"))
    assert lines[place].startswith("stopped")
    assert lines[place + 1].endswith("    hidden=4 (4 runs)")
    assert lines[place + 2].endswith("    hidden=5 (4 runs)")


def test_a_run_that_goes_on_is_seen_and_is_not_disturbed(made):
    runs, verified = made.seen
    (run,) = json.loads(runs.stdout)["runs"]
    assert run["name"] == "deep/cut" and run["status"] == "running" and run["damage"] == {}
    assert run["step"] in (8, 12) and runs.returncode == 0 and runs.stderr == ""
    assert verified.returncode == 0 and json.loads(verified.stdout)["good"]


def test_the_table_is_aligned_and_fits_a_terminal(made, call, told):
    code, output, _ = call("runs", made.place)
    lines = output.splitlines()
    assert code == 0 and len(lines) == 7 and max(map(len, lines)) <= 80
    assert lines[0].split() == "status steps metric value time age size run".split()
    ages = {run["name"]: run["age"] for run in told("runs", made.place)[1]["runs"]}
    shown = [line[lines[0].index("run") :].removesuffix(" (8 runs)") for line in lines[1:]]
    assert shown == sorted(ages, key=ages.__getitem__)
    ends = {line.index(" kB") for line in lines[1:]}
    assert len(ends) == 1
    assert f"{made.one.result['test/loss']:.4g}" in next(n for n in lines if n.endswith("  one"))


def test_a_held_lock_means_running_and_another_machine_that_nobody_knows(copy, told):
    path = copy("deep/cut")
    assert told("show", path)[1]["status"] == "stopped"
    with open(path / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert told("show", path)[1]["status"] == "running"
    owner = {"token": "0", "process": os.getpid(), "host": "elsewhere"}
    (path / ".lock").write_text(json.dumps(owner))
    answer = told("show", path)[1]
    assert answer["status"] == "unfinished" and "elsewhere" in answer["next"]


@pytest.mark.parametrize(("alive", "status"), [(True, "running"), (False, "stopped")])
def test_without_locks_the_owner_decides(copy, told, monkeypatch, alive, status):
    process = os.getpid() if alive else 2**22 + 1

    def no_locks(file, operation):
        raise OSError(95, "not supported")

    path = copy("deep/cut")
    owner = {"token": "0", "process": process, "host": socket.gethostname()}
    (path / ".lock").write_text(json.dumps(owner))
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert told("show", path)[1]["status"] == status


def test_what_other_tools_keep_is_no_run(tmp_path, call, told):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert told("runs", tmp_path) == (0, {"directory": str(tmp_path), "runs": []})
    assert call("runs", tmp_path)[1] == f"no run in {tmp_path}\n"


def test_a_damaged_or_newer_run_does_not_hide_the_others(copy, told, call):
    (copy("one") / "config.json").write_text("{")
    reseal(manifest_of(copy("other")), format=2)
    code, answer = told("runs", copy("twin").parent)
    runs = {run["name"]: run["status"] for run in answer["runs"]}
    assert code == 4 and runs == {"one": "damaged", "other": "newer", "twin": "done"}
    code, output, _ = call("runs", copy("lost").parent)
    assert code == 4 and "one/config.json cannot be read" in output and "newer jaxnn" in output


def test_names_cannot_steer_the_terminal(copy, call):
    path = copy("one")
    path.rename(path.with_name("\x1b[31mred"))
    for command in ("runs", "show", "verify"):
        place = path.parent if command == "runs" else path.with_name("\x1b[31mred")
        code, output, _ = call(command, place)
        assert code == 0 and "\x1b" not in output
    assert "\x1b" not in call("show", path.with_name("\x1b[31mblue"))[2]


# --- show ----------------------------------------------------------------------------------------


def test_show_says_what_was_asked_and_what_came_of_it(made, told):
    code, answer = told("show", made.place / "one")
    assert code == 0 and answer["config"] == CONFIG
    losses = {row["step"]: row["train/loss"] for row in made.one.history}
    lowest = min(losses, key=losses.__getitem__)
    best = {"last": losses[20], "best": losses[lowest], "step": lowest}
    assert answer["metrics"]["train/loss"] == best
    assert answer["metrics"]["test/r2"]["best"] == max(r["test/r2"] for r in made.one.history)
    assert [each["step"] for each in answer["checkpoints"]] == saved(made.place / "one")
    assert answer["checkpoints"][0]["value"] == made.one.result["test/loss"]
    assert answer["environment"]["jax"] == jax.__version__
    assert answer["quarantine"] == [] and answer["damage"] == {}


def test_show_says_how_to_go_on(made, told, copy):
    assert told("show", made.place / "deep/cut")[1]["next"] == (
        f"To go on, give the same command as before: it goes on from step"
        f" {saved(made.place / 'deep/cut')[0]}."
    )
    path = copy("deep/cut")
    shutil.rmtree(path / "checkpoints")
    assert told("show", path)[1]["next"].endswith("it begins anew.")
    assert "is finished" in told("show", made.place / "one")[1]["next"]
    assert "diagnose" in told("show", made.place / "lost")[1]["next"]


def test_show_is_legible(made, call):
    for name in ("one", "deep/cut", "lost", "swept", "swept/hidden=4"):
        code, output, _ = call("show", made.place / name)
        assert code == 0 and "None" not in output and "nan" not in output.split()
        assert all(len(line) <= 80 or str(made.place) in line for line in output.splitlines())
    assert "hidden=5 (4 runs)" in call("show", made.place / "swept")[1]
    assert "not finite" in call("show", made.place / "lost")[1]


def test_what_is_in_quarantine_is_shown_with_why(copy, told, call):
    path = copy("deep/cut")
    manifest_of(path).write_text("{")
    with pytest.warns(jaxnn.Caution):
        fit(path)
    ((name, why),) = [(e["name"], e["why"]) for e in told("show", path)[1]["quarantine"]]
    assert name.endswith("-1") and "manifest.json that cannot be read" in why
    assert name in call("show", path)[1]


# --- verify --------------------------------------------------------------------------------------


def test_what_is_whole_is_good(made, told, call):
    for name in ("one", "deep/cut", "lost", "swept"):
        code, answer = told("verify", made.place / name)
        assert code == 0 and answer["good"] and {c["state"] for c in answer["checks"]} == {"good"}
    what = [check["what"] for check in told("verify", made.place / "swept")[1]["checks"]]
    assert what[:2] == ["config.json", "result.json"] and "hidden=5/metrics.jsonl" in what
    assert "hidden=4/checkpoint 20" in what
    assert call("verify", made.place / "one")[1].endswith("\n\nall is good\n")


def manifest_of(run):
    return run / "checkpoints" / f"{saved(run)[0]:012d}" / "manifest.json"


def saved(run):
    return sorted((int(path.name) for path in (run / "checkpoints").iterdir()), reverse=True)


def reseal(file, **fields):
    """Changes a manifest, and makes its own digest agree, as one who knows it could."""
    content = {**json.loads(file.read_text()), **fields}
    del content["sha256"]
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps({**content, "sha256": own}))


def largest(run):
    files = [path for path in manifest_of(run).parent.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size * ("arrays" in path.parts))


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def append(file, text):
    file.write_text(file.read_text() + text)


def swap_rows(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([lines[1], lines[0], *lines[2:]]))


def spoil_digest(run):
    arrays = json.loads(manifest_of(run).read_text())["arrays"]
    arrays[1]["sha256"] = "0" * 64
    reseal(manifest_of(run), arrays=arrays)


def spoil_text(name, old, new):
    def spoil(run):
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new, 1))

    return spoil


DAMAGE = {
    "a flipped bit": (lambda run: flip(largest(run)), "checkpoint 20", "with other bytes"),
    "a short file": (lambda run: os.truncate(largest(run), 9), "checkpoint 20", "of 9 bytes"),
    "a lost file": (lambda run: largest(run).unlink(), "checkpoint 20", "Got no arrays/"),
    "a new file": (
        lambda run: (manifest_of(run).parent / "new").touch(), "checkpoint 20", "not written with",
    ),
    "no manifest": (lambda run: manifest_of(run).unlink(), "checkpoint 20", "cannot be read"),
    "a flipped manifest": (lambda run: flip(manifest_of(run)), "checkpoint 20", "manifest.json"),
    "no rows in a manifest": (
        lambda run: reseal(manifest_of(run), rows="all"), "checkpoint 20", "without rows",
    ),
    "another array": (spoil_digest, "checkpoint 20", "other bytes at state/"),
    "no JSON": (spoil_text("config.json", "{", "["), "config.json", "cannot be read"),
    "a list": (
        lambda run: (run / "config.json").write_text("[]"), "config.json", "Got a list",
    ),
    "a name twice": (
        spoil_text("config.json", '"note"', '"hidden"'), "config.json", "there twice: 'hidden'",
    ),
    "NaN": (spoil_text("result.json", '"steps": 20', '"steps": NaN'), "result.json", "NaN is no"),
    "a torn row": (
        lambda run: os.truncate(run / "metrics.jsonl", 700), "metrics.jsonl", "has no end",
    ),
    "half a row": (
        lambda run: append(run / "metrics.jsonl", "{"), "metrics.jsonl", "has no end",
    ),
    "a pipe": (
        lambda run: (run / "config.json").unlink() or os.mkfifo(run / "config.json"),
        "config.json", "is no file",
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


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_named(kind, copy, told, call):
    spoil, what, words = DAMAGE[kind]
    path = copy("one")
    spoil(path)
    code, answer = told("verify", path)
    bad = {check["what"]: check for check in answer["checks"] if check["state"] != "good"}
    assert code == 4 and not answer["good"] and [*bad] == [what]
    assert bad[what]["state"] == "damaged" and words in bad[what]["note"]
    code, output, _ = call("verify", path)
    assert code == 4 and f"damaged  {what}\n    " in output and words in " ".join(output.split())
    assert output.endswith(f"1 of {len(answer['checks'])} not good\n")


@pytest.mark.parametrize("kind", ["a list", "NaN", "NaN in a row", "no manifest"])
def test_the_other_commands_see_damage_too(kind, copy, made, told, call):
    spoil, what, words = DAMAGE[kind]
    path = copy("one")
    spoil(path)
    code, answer = told("show", path)
    assert code == 4 and [*answer["damage"]] == [what] and words in answer["damage"][what]
    assert words in " ".join(call("show", path)[1].split())
    code, output, errors = call("diff", path, made.place / "twin")
    assert code == 4 and output == "" and words in errors


def test_damage_in_a_part_is_that_of_the_sweep(copy, told):
    path = copy("swept")
    flip(largest(path / "hidden=5"))
    code, answer = told("verify", path)
    bad = [check["what"] for check in answer["checks"] if check["state"] != "good"]
    assert code == 4 and bad == ["hidden=5/checkpoint 20", "hidden=5/checkpoints"]


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(copy, told):
    path = copy("one")
    shutil.rmtree(path / "checkpoints")
    code, answer = told("verify", path)
    assert code == 4
    assert [c["what"] for c in answer["checks"] if c["state"] == "missing"] == ["checkpoints"]


def test_a_row_torn_by_a_stop_is_no_damage(copy, told):
    path = copy("deep/cut")
    append(path / "metrics.jsonl", '{"step": 16, "ep')
    code, answer = told("verify", path)
    assert code == 0 and "is cut when it goes on" in answer["checks"][-1]["note"]
    assert told("show", path)[1]["damage"] == {}
    fit(path)  # indeed
    assert told("verify", path)[0] == 0


def test_a_checkpoint_that_is_deleted_meanwhile_is_no_damage(copy, told, monkeypatch):
    from jaxnn.records import checkpoints, verification

    path = copy("one")
    first = manifest_of(path).parent
    reading = verification.opened

    def deleted(folder):
        if folder == first:
            shutil.rmtree(folder)
        return reading(folder)

    monkeypatch.setattr(verification, "opened", deleted)
    before = saved(path)
    code, answer = told("verify", path)
    assert code == 0 and f"checkpoint {before[0]}" not in [c["what"] for c in answer["checks"]]
    assert checkpoints.steps(path / "checkpoints") == before[1:]


# --- diff ----------------------------------------------------------------------------------------


def test_twins_are_the_same(made, told, call):
    one, twin = made.place / "one", made.place / "twin"
    assert made.one.result["seconds"] != made.twin.result["seconds"]
    same = {"a": str(one), "b": str(twin), "same": True, "differences": []}
    assert told("diff", one, twin) == (0, same)
    assert call("diff", one, twin) == (0, "the same, but for the time they took\n", "")
    assert told("diff", f"{one}@20", f"{twin}@20")[0] == 0
    assert told("diff", made.place / "swept", made.place / "swept")[0] == 0


def test_what_differs_is_told_to_the_largest_difference(made, told, call):
    one, other = made.place / "one", made.place / "other"
    code, answer = told("diff", one, other)
    found = {(d["section"], d["name"]): d for d in answer["differences"]}
    assert code == 1 and not answer["same"]
    rate = {"a": 0.05, "b": 0.02, "largest": None}
    assert found["config", "learning_rate"].items() >= rate.items()
    assert found["identity", "learning_rate"].items() >= rate.items()
    for name in ("train/loss", "test/loss"):
        each = found["result", name]
        assert (each["a"], each["b"]) == (made.one.result[name], made.other.result[name])
        assert ("metrics", f"step 4, {name}") in found
    assert not [name for section, name in found if name.endswith("seconds")]
    assert not [name for section, name in found if name.startswith("step 8")]
    weights = [run.state.params["hidden_1"]["weight"] for run in (made.one, made.other)]
    array = found["arrays", "state/params/hidden_1/weight"]
    assert array["a"] == array["b"] == "float32[3, 4]"
    assert array["largest"] == pytest.approx(float(np.abs(weights[0] - weights[1]).max()), rel=1e-6)
    assert ("arrays", "state/step") not in found  # is the same
    code, output, _ = call("diff", one, other)
    assert code == 1 and f"by {array['largest']:.3g}" in output and "seconds" not in output
    assert output.endswith(f"\n{len(found)} differences\n")


def test_checkpoints_of_one_run_differ_in_their_step(made, told):
    one = made.place / "one"
    newest, before = saved(one)[:2]
    code, answer = told("diff", f"{one}@{newest}", f"{one}@{before}")
    found = {(d["section"], d["name"]): d for d in answer["differences"]}
    assert code == 1 and {section for section, _ in found} == {"checkpoint", "arrays"}
    assert (found["checkpoint", "step"]["a"], found["checkpoint", "step"]["b"]) == (newest, before)
    assert found["arrays", "state/step"]["largest"] is None


def test_arrays_of_other_shapes_and_missing_ones(made, told, copy):
    swept = made.place / "swept"
    code, answer = told("diff", swept / "hidden=4", swept / "hidden=5")
    found = {(d["section"], d["name"]): d for d in answer["differences"]}
    weight = found["arrays", "state/params/hidden_1/weight"]
    assert code == 1 and weight["largest"] is None
    assert (weight["a"], weight["b"]) == ("float32[4, 3, 4]", "float32[4, 3, 5]")
    path = copy("one")
    shutil.rmtree(path)
    fit(path, hidden=(4, 4))
    found = {d["name"]: d for d in told("diff", made.place / "one", path)[1]["differences"]}
    assert found["state/params/hidden_2/bias"]["a"] is None
    assert found["state/params/hidden_2/bias"]["b"] == "float32[4]"


def test_differences_of_parts_are_told_with_their_name(made, copy, told, call):
    path = copy("swept")
    spoil_text("hidden=4/config.json", "{", '{"seen": true, ')(path)
    shutil.rmtree(path / "hidden=5")
    code, answer = told("diff", made.place / "swept", path)
    assert code == 1 and [(d["section"], d["name"]) for d in answer["differences"]] == [
        ("hidden=4/config", "seen"), ("parts", "hidden=5"),
    ]  # fmt: skip
    assert "hidden=5  a run  nothing" in call("diff", made.place / "swept", path)[1]


def test_of_an_unfinished_run_the_rows_and_the_status_differ(made, told):
    _, answer = told("diff", made.place / "one", made.place / "deep/cut")
    found = {(d["section"], d["name"]): d for d in answer["differences"]}
    assert (found["result", "status"]["a"], found["result", "status"]["b"]) == ("done", "stopped")
    assert found["metrics", "number of rows"]["a"] == 5 > found["metrics", "number of rows"]["b"]
    assert not [name for section, name in found if section == "identity"]


@pytest.mark.parametrize(
    ("a", "b", "largest"),
    [
        ([0.0, np.nan, np.inf, 2.0], [0.0, np.nan, np.inf, 2.5], 0.5),
        ([0.0, 1.0], [-0.0, 1.0], 0.0),
        ([0.0, 1.0], [0.0, np.nan], None),
        ([0.0, np.inf], [0.0, -np.inf], None),
        ([1 + 1j], [1 - 1j], 2.0),
        ([], [], 0.0),
    ],
)
def test_the_largest_difference(a, b, largest):
    from jaxnn.records.comparison import _largest

    assert _largest(np.array(a), np.array(b)) == largest


# --- diagnose ------------------------------------------------------------------------------------


def test_a_run_that_was_not_finite_is_diagnosed(made, told, call):
    lost = made.place / "lost"
    code, answer = told("diagnose", lost)
    (report,) = answer["reports"]
    assert code == 0 and report["run"] == str(lost) and report["learning_rate"] == 1e30
    found = report["found"]
    code, output, errors = call("diagnose", lost)
    text = " ".join(output.split())
    assert code == 0 and errors == ""
    assert f"Step {report['step']}, in epoch" in text
    assert f"operation {found['operation']}, gave {found['gave']}" in text
    assert f"layer {found['layer']}" in text and f"phase {found['phase']}" in text
    assert f"8 examples of the training data, those with the index {report['batch'][0]}, " in text
    # The state that was kept is the one in which it happened, at any rate.
    assert "--learning-rate 1e+29, in a directory of its own (--out)" in text
    assert "clip_by_global_norm" in text and 'not_finite="skip"' in text
    assert max(map(len, output.splitlines())) <= 100


REPORT = {
    "step": 123,
    "found": {
        "operation": "log", "layer": "layers/output", "phase": "backward",
        "where": "loss.py:9 (loss)", "inputs": ["float32[4] from 0 to 1"],
        "outputs": ["float32[4] from -1 to 0, 1 infinite"], "iterations": [2], "sentence": "",
    },
    "metric": "train/loss", "value": "nan", "batch": list(range(64)), "epoch": 4.25,
    "checkpoint": None, "replayed_from": 100, "seconds": 3.2, "environment": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ["jnp.log(x + eps)", "turn 2", "phase backward", "8, 9 and 54 more"]),
        ({"found": {**REPORT["found"], "operation": "exp"}}, ["keep what goes into exp small"]),
        ({"found": None}, ["Its operations, done one by one, were finite"]),
        ({"step": None, "found": None}, ["No step of the training is to blame", "evaluated"]),
        ({"again": True}, ["this is no accident"]),
        ({"value": "None", "metric": "a parameter"}, ["a parameter was not finite at step 123"]),
        ({"checkpoint": 100}, ["--allow-change learning_rate goes on from step 100"]),
    ],
)
def test_a_report_is_told_in_words(copy, call, change, words):
    path = copy("one")
    write_report(path, {**REPORT, **change})
    code, output, _ = call("diagnose", path)
    text = " ".join(output.split()).lower()
    assert code == 0 and all(each.lower() in text for each in words), output
    assert ("goes on from" in text) == ("checkpoint" in change)


def test_reports_of_parts_are_told_too(copy, told):
    path = copy("swept")
    write_report(path / "hidden=5", REPORT)
    code, answer = told("diagnose", path)
    assert code == 0 and [each["run"] for each in answer["reports"]] == [str(path / "hidden=5")]


def test_without_a_report_there_is_nothing_to_diagnose(made, told, call):
    one = made.place / "one"
    assert told("diagnose", one) == (4, {"run": str(one), "reports": []})
    assert call("diagnose", one)[1] == "nothing to diagnose: no number was not finite\n"


@pytest.mark.parametrize("content", [{}, {**REPORT, "found": "log"}, {**REPORT, "batch": 3}, []])
def test_a_report_that_makes_no_sense_is_4(copy, call, content):
    path = copy("one")
    write_report(path, content)
    code, output, errors = call("diagnose", path)
    assert code == 4 and output == "" and "report.json" in errors and errors.count("\n") == 1


def write_report(run, content):
    folder = run / "quarantine" / "nan-123"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(content))


# --- Bad input, and what holds of every command --------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "{}/oen"], "Got no oen in {}; expected a directory. Did you mean {}/one?"),
        (["show", "{}/deeb/cut"], "Did you mean {}/deep?"),
        (["runs", "{}/xyzzy"], "Name the directory of your runs, as in python -m jaxnn runs"),
        (["verify", "{}"], "See the runs in it with python -m jaxnn runs {}."),
        (["show", "{}/one/checkpoints"], "Did you mean {}/one?"),
        (["diagnose", "{}/one/config.json"], "Got a file; expected the directory of a run."),
        (["diff", "{}/one@7", "{}/one"], "expected the step of one: 20, "),
        (["diff", "{}/one", "{}/oen@20"], "Did you mean {}/one?"),
    ],
)
def test_bad_input_is_a_line_and_2(made, call, arguments, words):
    code, output, errors = call(*[each.format(made.place) for each in arguments])
    assert code == 2 and output == "" and errors.count("\n") == 1
    assert words.format(made.place, made.place) in errors


@pytest.mark.parametrize("command", ["show", "verify", "diff", "diagnose"])
def test_a_newer_format_is_2(copy, call, command):
    path = copy("one")
    reseal(manifest_of(path), format=2)
    code, output, errors = call(command, *[path] * (2 if command == "diff" else 1))
    assert code == 2 and output == "" and "Upgrade jaxnn" in errors


def test_no_command_and_a_wrong_one_are_2(call):
    for arguments in ([], ["shoe"], ["show"], ["diff", "a"]):
        code, _, errors = call(*arguments)
        assert code == 2 and errors.startswith("usage: python -m jaxnn")


def test_what_cannot_be_read_is_6(call, tmp_path, monkeypatch):
    def failing(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", failing)
    code, output, errors = call("runs", tmp_path)
    assert code == 6 and output == "" and errors.startswith("storage: ")


def test_help_shows_every_command(call):
    code, output, _ = call("--help")
    assert code == 0 and all(f"python -m jaxnn {command}" in output for command in COMMANDS)
    assert max(map(len, output.splitlines())) <= 80


def every(place):
    """The arguments of each command, for a run of each kind."""
    runs = [run for each in below(place) for run in (each, *parts(each))]
    single = [[command, run] for command in ("show", "verify", "diagnose") for run in runs]
    return [["runs", place], *single, *(["diff", place / "one", run] for run in runs)]


def test_nothing_is_written(made, call, copy):
    for name in ("one", "deep/cut", "lost", "swept", "other"):
        copy(name)
    place = copy("twin").parent
    flip(largest(place / "other"))
    (place / "twin" / "config.json").write_text("{")

    def tree():
        paths = [place, *place.rglob("*")]
        return {path: (s.st_mtime_ns, s.st_size, s.st_ino, s.st_mode)
                for path in paths for s in [path.lstat()]}  # fmt: skip

    before = tree()
    codes = [call(*arguments)[0] for arguments in every(place)]
    assert {0, 1, 4} == set(codes) and tree() == before


def test_every_command_prints_one_json_document_and_nothing_else(made, call):
    keys = {
        "runs": {"directory", "runs"},
        "show": {"name", "status", "experiment", "step", "steps", "runs", "metric", "value",
                 "seconds", "age", "size", "damage", "parts", "config", "metrics", "checkpoints",
                 "quarantine", "environment", "next"},
        "verify": {"run", "good", "checks"},
        "diff": {"a", "b", "same", "differences"},
        "diagnose": {"run", "reports"},
    }  # fmt: skip

    def no_number(name):
        raise ValueError(name)

    for arguments in every(made.place):
        _, output, errors = call(*arguments, "--json")
        document = json.loads(output, parse_constant=no_number)
        assert set(document) == keys[arguments[0]] and errors == ""


def test_looking_starts_no_device_and_imports_nothing_heavy(made):
    code = """
import sys
from jax._src import xla_bridge
from jaxnn.__main__ import main

for arguments in (["runs", sys.argv[1]], ["show", sys.argv[1] + "/one"],
                  ["diagnose", sys.argv[1] + "/lost"]):
    assert main(arguments) == 0
assert not xla_bridge.backends_are_initialized()
heavy = {"orbax", "tyro", "rich", "flax", "matplotlib", "experiments"} & set(sys.modules)
assert not heavy, heavy
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(made.place)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_a_pipe_that_closes_ends_it_quietly(made):
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxnn", "runs", str(made.place)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(60) != 0
