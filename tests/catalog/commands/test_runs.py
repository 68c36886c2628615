"""`python -m jaxnn runs`: every run below a folder, whatever else is there."""

import fcntl
import json
import os
import socket

import pytest

from jaxnn.storage.manifest import FORMAT
from tests.catalog.commands.runs import manifest_of, reseal

pytestmark = pytest.mark.slow


def test_runs_lists_every_run_under_its_path(trained, query):
    code, answer = query("runs", trained.place)
    runs = {run["name"]: run for run in answer["runs"]}
    assert code == 0 and answer["directory"] == str(trained.place)
    assert set(runs) == {"deep/cut", "one", "twin", "other", "lost", "swept"}
    assert {name: run["status"] for name, run in runs.items()} == {
        "deep/cut": "interrupted", "one": "done", "twin": "done", "other": "done",
        "lost": "diverged", "swept": "done",
    }  # fmt: skip
    one = runs["one"]
    assert (one["step"], one["steps"], one["runs"], one["parts"]) == (20, 20, None, [])
    assert (one["metric"], one["value"]) == ("test/loss", trained.one.result["test/loss"])
    assert one["seconds"] == trained.one.result["seconds"] and one["experiment"] == "small"
    files = [path for path in (trained.place / "one").rglob("*") if path.is_file()]
    assert one["size"] == sum(path.stat().st_size for path in files)
    assert 0 <= one["age"] < 600
    last = json.loads((trained.place / "deep/cut/metrics.jsonl").read_text().splitlines()[-1])[
        "step"
    ]
    assert 12 <= last < 20
    assert (runs["deep/cut"]["step"], runs["deep/cut"]["steps"]) == (last, 20)


def test_a_sweep_is_one_run_with_parts(trained, query, call):
    _, answer = query("runs", trained.place / "swept")
    (sweep,) = answer["runs"]
    assert sweep["runs"] == 8 and sweep["steps"] is None and sweep["step"] == 160
    assert sweep["metric"] == "test/loss" and sweep["value"] == trained.swept.result["test/loss"]
    assert [part["name"] for part in sweep["parts"]] == ["hidden=4", "hidden=5"]
    losses = [row["test/loss"] for row in trained.swept.rows if row["hidden"] == (5,)]
    assert sweep["parts"][1]["value"] == pytest.approx(min(losses))
    _, output, _ = call("runs", trained.place)
    assert "swept (8 runs)" in output and "hidden=4" not in output


def test_of_an_unfinished_sweep_the_parts_are_shown(copy, call):
    (copy("swept") / "result.json").unlink()
    _, output, _ = call("runs", copy("one").parent)
    lines = output.splitlines()
    place = next(number for number, line in enumerate(lines) if line.endswith("  swept"))
    assert lines[place].startswith("interrupted")
    assert lines[place + 1].endswith("    hidden=4 (4 runs)")
    assert lines[place + 2].endswith("    hidden=5 (4 runs)")


def test_a_run_that_is_running_is_seen_and_is_not_disturbed(trained):
    runs, verified = trained.seen
    (run,) = json.loads(runs.stdout)["runs"]
    assert run["name"] == "deep/cut" and run["status"] == "running" and run["errors"] == {}
    assert run["step"] in (8, 12) and runs.returncode == 0 and runs.stderr == ""
    assert verified.returncode == 0 and json.loads(verified.stdout)["good"]


def test_the_table_is_aligned_and_fits_a_terminal(trained, call, query):
    code, output, _ = call("runs", trained.place)
    lines = output.splitlines()
    assert code == 0 and len(lines) == 7 and max(map(len, lines)) <= 80
    assert lines[0].split() == "status steps metric value time age size run".split()
    ages = {run["name"]: run["age"] for run in query("runs", trained.place)[1]["runs"]}
    shown = [line[lines[0].index("run") :].removesuffix(" (8 runs)") for line in lines[1:]]
    assert shown == sorted(ages, key=ages.__getitem__)
    ends = {line.index(" kB") for line in lines[1:]}
    assert len(ends) == 1
    assert f"{trained.one.result['test/loss']:.4g}" in next(n for n in lines if n.endswith("  one"))


def test_a_held_lock_means_running_and_another_machine_that_nobody_knows(copy, query):
    path = copy("deep/cut")
    assert query("show", path)[1]["status"] == "interrupted"
    with open(path / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert query("show", path)[1]["status"] == "running"
    owner = {"token": "0", "process": os.getpid(), "host": "elsewhere"}
    (path / ".lock").write_text(json.dumps(owner))
    answer = query("show", path)[1]
    assert answer["status"] == "unfinished" and "elsewhere" in answer["next"]


@pytest.mark.parametrize(("alive", "status"), [(True, "running"), (False, "interrupted")])
def test_without_locks_the_owner_decides(copy, query, monkeypatch, alive, status):
    process = os.getpid() if alive else 2**22 + 1

    def no_locks(file, operation):
        raise OSError(95, "not supported")

    path = copy("deep/cut")
    owner = {"token": "0", "process": process, "host": socket.gethostname()}
    (path / ".lock").write_text(json.dumps(owner))
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert query("show", path)[1]["status"] == status


def test_what_other_tools_keep_is_no_run(tmp_path, call, query):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert query("runs", tmp_path) == (0, {"directory": str(tmp_path), "runs": []})
    assert call("runs", tmp_path)[1] == f"no run in {tmp_path}\n"


def test_a_damaged_or_newer_run_does_not_hide_the_others(copy, query, call):
    (copy("one") / "config.json").write_text("{")
    reseal(manifest_of(copy("other")), format=FORMAT + 1)
    code, answer = query("runs", copy("twin").parent)
    runs = {run["name"]: run["status"] for run in answer["runs"]}
    assert code == 4 and runs == {"one": "corrupt", "other": "newer", "twin": "done"}
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
