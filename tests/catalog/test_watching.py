"""`python -m jaxnn watch`: a run is seen by its files while it is running, and until it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jaxnn
from jaxnn.__main__ import main
from jaxnn.catalog import watching
from jaxnn.storage.opening import open_directory

ROOT = Path(jaxnn.__file__).parents[1]
ROWS = [{"step": 4 * n, "seconds": 2.0 * n, "train/loss": 1.0 / n} for n in range(1, 6)]


def about(path, total):
    """Writes what a recording says of a run, as far as it matters here."""
    (path / "recording").mkdir()
    (path / "recording" / "about.json").write_text(json.dumps({"moments": [0, 2, total]}))


@pytest.fixture
def place(tmp_path):
    return tmp_path / "run"


def test_each_look_tells_what_is_new_until_the_result_is_there(place):
    with open_directory(place, {}) as directory:
        looks = watching.follow(place, 0.01)
        first = next(looks)
        assert (first.status, first.rows, first.moment.step) == ("running", [], 0)
        assert first.moment.total is None and not first.moment.report
        about(place, 20)
        directory.append(ROWS[0])
        second = next(looks)
        assert second.rows == ROWS[:1] and second.moment.report
        # The time of one report has that of compiling in it: two of them say the speed.
        assert (second.moment.step, second.moment.total, second.moment.rate) == (4, 20, None)
        for row in ROWS[1:]:
            directory.append({**row, "seconds": row["seconds"] - 1})
        third = next(looks)
        assert [row["step"] for row in third.rows] == [8, 12, 16, 20]
        assert third.moment.rate == pytest.approx(16 / 7)
        memory = third.moment.memory()
        assert memory.of == "process" and (memory.now or 1) > 0
        directory.finish({"steps": 20, "seconds": 9.0, "test/loss": 0.5})
        last = list(looks)[-1]
    assert (last.status, last.rows) == ("done", [])
    assert watching.ending(last) == "done in 9.0 s: test/loss 0.5"


def test_a_line_that_is_being_written_is_not_read_yet(place):
    with open_directory(place, {}):
        file = place / "metrics.jsonl"
        looks = watching.follow(place, 0.01)
        next(looks)
        whole = json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1])
        file.write_text(whole)
        assert next(looks).rows == ROWS[:1]
        file.write_text(whole + "\n")
        assert next(looks).rows == ROWS[1:2]
        file.write_text(json.dumps(ROWS[2]) + "\n")  # it resumed from an older checkpoint
        assert next(looks).rows == ROWS[2:3]


@pytest.mark.parametrize(
    ("last", "status"), [({}, "interrupted"), ({"step": 99, "train/loss": None}, "diverged")]
)
def test_a_run_that_nobody_writes_has_ended(place, call, last, status):
    with open_directory(place, {}) as directory:
        about(place, 1000)
        for row in [*ROWS, last] if last else ROWS:
            directory.append(row)
    code, out, _ = call("watch", place)
    assert code == 4
    step = last.get("step", 20)
    said = f"python -m jaxnn diagnose {place} says why" if last else "train/loss 0.2"
    assert out[-1] == f"{status} at step {step} of 1000: {said}"
    code, out, _ = call("watch", place, "--json")
    assert code == 4 and len(out) == len(ROWS) + bool(last) + 1
    assert json.loads(out[0]) == ROWS[0]
    assert json.loads(out[-1]) == {"status": status, "result": None}


def test_of_a_sweep_its_groups_are_seen_one_after_the_other(place, capsys):
    with open_directory(place, {}) as directory:
        looks = watching.follow(place, 0.01)
        assert next(looks).rows == []
        for name in ("hidden=4", "hidden=5"):
            with open_directory(place / name, {}) as group:
                group.append({"step": 4, "seconds": 1.0, "train/loss": [0.5, None, 0.25]})
                seen = next(looks)
                assert seen.rows[0]["part"] == name and seen.status == "running"
                group.finish({"steps": [4, 4, 4], "members": 3})
        assert seen.moment.name == "hidden=5, after 1 group"
        directory.finish({"runs": 6, "groups": 2, "seconds": 7.25, "best/hidden": [4]})
        assert [each.status for each in looks] == ["done"]
    assert main(["watch", str(place)]) == 0
    *groups, end = capsys.readouterr().out.splitlines()
    form = "{}, after {}: step 4, train/loss 0.375 (best 0.25)"
    assert groups == [form.format("hidden=4", "0 groups"), form.format("hidden=5", "1 group")]
    assert end == "done with 6 runs in 7.2 s"


def test_a_group_that_was_left_and_goes_on_is_waited_for(place):
    with open_directory(place, {}):
        with open_directory(place / "left", {}) as group:
            group.append(ROWS[0])
        looks = watching.follow(place, 0.01)
        assert next(looks).rows[0]["step"] == 4
        with open_directory(place / "left", {}) as group:
            group.append(ROWS[1])
        assert next(looks).rows[0]["step"] == 8
    assert [each.status for each in looks] == ["interrupted"]


def test_whether_another_machine_has_stopped_cannot_be_told(place):
    with open_directory(place, {}) as directory:
        directory.append(ROWS[0])
    (place / ".lock").write_text(json.dumps({"host": "elsewhere", "process": 1, "token": "a"}))
    looks = watching.follow(place, 0.01)
    assert next(looks).status == "running"
    (place / "result.json").write_text("{}")
    assert next(looks).status == "done"


def test_what_a_stranger_wrote_steers_nothing(place, call):
    with open_directory(place, {}):
        rows = [
            {"step": 1, "train/\x1b[2J": 1.0, "test/a": "x" * 9, "running": "\x1b[31m"},
            {"step": 2, "train/loss": {"a": 1}, "seconds": "now", "test/b": [None, "c"]},
            ["step"],
            {"step": True},
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (place / "metrics.jsonl").write_text(text + "{\n")
        (place / "result.json").write_text("[]")
        (place / "recording").mkdir()
        (place / "recording" / "about.json").write_text('{"moments": ["x", 3]}')
    code, out, _ = call("watch", place)
    assert code == 4 and not any("\x1b" in each for each in out)
    assert out[-1].startswith("corrupt at step 2")


def test_mistakes_are_told(place, call):
    code, _, errors = call("watch", place)
    assert code == 2 and "is not there" in errors


@pytest.fixture
def call(capsys):
    def call(*arguments):
        code = main([str(each) for each in arguments])
        out, errors = capsys.readouterr()
        return code, out.splitlines(), errors

    return call


RUN = """
import sys, time, jax, optax, jaxnn
data = jaxnn.resident({"inputs": [[1.0], [2.0]], "labels": [[3.0], [5.0]]}, batch_size=2)
learner = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.01))
jaxnn.fit(learner, data, steps=%d, every=%d, key=jax.random.key(0), quiet=True,
          out=jaxnn.Directory(sys.argv[1], report=False))
"""


def started(place, steps, every):
    begun = subprocess.Popen([sys.executable, "-c", RUN % (steps, every), str(place)], cwd=ROOT)
    end = time.monotonic() + 120
    while not (place / "metrics.jsonl").exists():
        assert begun.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    return begun


@pytest.mark.slow
def test_a_run_in_another_process_is_seen_to_its_end(place):
    run = started(place, 400_000, 20_000)
    lines = [json.loads(each) for each in watching.lines(place, 0.05)]
    assert run.wait() == 0
    *rows, end = lines
    assert rows == [json.loads(each) for each in (place / "metrics.jsonl").read_text().splitlines()]
    assert end == {"status": "done", "result": json.loads((place / "result.json").read_text())}


@pytest.mark.slow
def test_ctrl_c_ends_watching_quietly_and_a_kill_of_the_run_is_seen(place):
    run = started(place, 1_000_000_000, 10_000)
    try:
        command = [sys.executable, "-m", "jaxnn", "watch", str(place)]
        settings = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        first = subprocess.Popen(command, **settings)
        assert first.stdout.readline().startswith("step ")
        first.send_signal(signal.SIGINT)
        out, errors = first.communicate(timeout=120)
        assert (first.returncode, errors) == (0, "")
        second = subprocess.Popen(command, **settings)
        assert second.stdout.readline().startswith("step ")
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    out, errors = second.communicate(timeout=120)
    assert (second.returncode, errors) == (4, "")
    assert out.splitlines()[-1].startswith("interrupted at step ")
