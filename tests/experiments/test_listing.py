"""`python -m experiments`: what it lists and records, and that the README is what it writes."""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from experiments import __main__ as listing

LISTED = listing.experiments()


def test_the_readme_is_generated():
    assert (listing.HERE / "README.md").read_text() == listing.readme(LISTED), (
        "run: python -m experiments --record"
    )


def test_every_experiment_is_listed_and_says_what_it_shows():
    names = [experiment.name for experiment in LISTED]
    assert {"digits", "mnist", "neuron", "flax_mnist"} <= set(names)
    assert not {"command", "__main__", "__init__"} & set(names)
    assert all(experiment.shows.endswith(".") for experiment in LISTED)


def test_every_result_is_that_of_an_experiment_and_its_command_can_be_read():
    tyro = pytest.importorskip("tyro")
    recorded = {path.stem for path in listing.HERE.glob("results/*.json")}
    assert recorded == {name for experiment in LISTED for name in experiment.results}
    for experiment in LISTED:
        config_type = import_module(f"experiments.{experiment.name}").Config
        for name, result in experiment.results.items():
            words = shlex.split(result["command"])
            assert words[:3] == ["python", "-m", f"experiments.{experiment.name}"]
            config = tyro.cli(config_type, args=words[3:])
            assert (config == config_type()) is (name == experiment.name)


def test_listing_imports_no_jax():
    code = (
        "import sys; from experiments.__main__ import *; show(lines(experiments()));"
        "assert not {'jax', 'numpy', 'rich', 'jaxnn'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(listing.HERE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(listing.lines(LISTED))


@pytest.fixture
def folder(tmp_path):
    """A folder with one experiment in it, the digits."""
    (tmp_path / "digits.py").write_text((listing.HERE / "digits.py").read_text())
    return tmp_path


def finished(path: Path, **changes) -> Path:
    config = dataclasses.asdict(import_module("experiments.digits").Config()) | changes
    result = {
        "experiment": "digits", "steps": 1200, "seconds": 3.5, "train/loss": 0.5,
        "test/accuracy": 0.975, "test/loss": 0.1, "device": "cpu", "jax": "0.10.2",
    }  # fmt: skip
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    (path / "result.json").write_text(json.dumps(result))
    os.utime(path / "result.json", (1.79e9, 1.79e9))
    return path


def test_recording(folder):
    digits = listing.save_result(finished(folder / "a"), folder)
    changed = listing.save_result(finished(folder / "b", hidden=[32, 16], dropout=0.0), folder)
    assert [digits.name, changed.name] == ["digits.json", "digits-hidden-32-16-dropout-0.json"]
    saved = json.loads(changed.read_text())
    assert saved["command"] == "python -m experiments.digits --hidden 32 16 --dropout 0"
    assert saved["date"].startswith("2026-09") and saved["cores"] == os.cpu_count()
    assert saved["test/accuracy"] == 0.975

    listed = listing.experiments(folder)
    first, second = listing.lines(listed)
    assert first[0] == "digits" and first[2] == "test accuracy 0.975, test loss 0.1 in 3.5 s"
    assert second[1].strip() == "--hidden 32 16 --dropout 0"
    rows = [line for line in listing.readme(listed).splitlines() if line.startswith("| ")]
    assert len(rows) == 4 and all(row.count("|") == rows[0].count("|") for row in rows)
    assert "test accuracy 0.975, test loss 0.1 | 3.5 | 1,200 | cpu" in rows[2]


def test_what_cannot_be_recorded(folder):
    with pytest.raises(SystemExit, match="not the directory of a finished run"):
        listing.save_result(folder, folder)
    with pytest.raises(SystemExit, match="another version"):
        listing.save_result(finished(folder / "old", colour="red"), folder)
    (folder / "digits.py").unlink()
    with pytest.raises(SystemExit, match="no experiment 'digits'"):
        listing.save_result(finished(folder / "gone"), folder)
