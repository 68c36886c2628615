"""What holds of every command: bad input, one JSON document, nothing written, nothing heavy."""

import json
import os
import subprocess
import sys

import pytest

from jaxnn.catalog.entries import below, parts
from jaxnn.storage.manifest import FORMAT
from tests.catalog.commands.runs import COMMANDS, ROOT, flip, largest, manifest_of, reseal

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "{}/oen"], "Got no oen in {}; expected a directory. Did you mean {}/one?"),
        (["show", "{}/deeb/cut"], "Did you mean {}/deep?"),
        (["runs", "{}/xyzzy"], "Name the directory of your runs, as in python -m jaxnn runs"),
        (["verify", "{}"], "Name one of them, such as the newest: {}/"),
        (["show", "{}/one/checkpoints"], "Did you mean {}/one?"),
        (["diagnose", "{}/one/config.json"], "Got a file; expected the directory of a run."),
        (["diff", "{}/one@7", "{}/one"], "expected the step of one: 20, "),
        (["diff", "{}/one", "{}/oen@20"], "Did you mean {}/one?"),
    ],
)
def test_bad_input_is_a_line_and_2(trained, call, arguments, words):
    code, output, errors = call(*[each.format(trained.place) for each in arguments])
    assert code == 2 and output == "" and errors.count("\n") == 1
    assert words.format(trained.place, trained.place) in errors


def test_a_directory_of_a_single_run_stands_for_it(copy, call, query):
    """Experiments write to runs/NAME/DIGEST, so that runs/digits usually contains one run."""
    path = copy("one")
    code, document = query("show", path.parent)
    assert code == 0 and document["name"] == str(path)
    assert call("verify", path.parent)[0] == call("diff", path.parent, path)[0] == 0
    code, output, _ = call("report", path.parent)
    assert code == 0 and output.strip() == str(path / "report.html")


@pytest.mark.parametrize("command", ["show", "verify", "diff", "diagnose"])
def test_a_newer_format_is_2(copy, call, command):
    path = copy("one")
    reseal(manifest_of(path), format=FORMAT + 1)
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
    assert code == 0 and all(f"\n    {command}" in output for command in COMMANDS)
    assert max(map(len, output.splitlines())) <= 80


def every(place):
    """The arguments of each command, for a run of each kind."""
    runs = [run for each in below(place) for run in (each, *parts(each))]
    single = [[command, run] for command in ("show", "verify", "diagnose") for run in runs]
    return [["runs", place], *single, *(["diff", place / "one", run] for run in runs)]


def test_nothing_is_written(trained, call, copy):
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


def test_every_command_prints_one_json_document_and_nothing_else(trained, call):
    keys = {
        "runs": {"directory", "runs"},
        "show": {"name", "status", "experiment", "step", "steps", "runs", "metric", "value",
                 "seconds", "age", "size", "errors", "parts", "config", "metrics", "checkpoints",
                 "quarantine", "environment", "next", "speed", "command", "best_is"},
        "verify": {"run", "good", "checks"},
        "diff": {"a", "b", "same", "differences"},
        "diagnose": {"run", "reports"},
    }  # fmt: skip

    def no_number(name):
        raise ValueError(name)

    for arguments in every(trained.place):
        _, output, errors = call(*arguments, "--json")
        document = json.loads(output, parse_constant=no_number)
        assert set(document) == keys[arguments[0]] and errors == ""


def test_looking_starts_no_device_and_imports_nothing_heavy(trained):
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
        [sys.executable, "-c", code, str(trained.place)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_a_pipe_that_closes_ends_it_quietly(trained):
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxnn", "runs", str(trained.place)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(120) != 0
