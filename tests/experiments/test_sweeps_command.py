"""The command line asked for many networks: `--sweep`, `--seeds` and `--metric`."""

import csv
import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import optax
import pytest

import jaxnn
from experiments.fields import Hparam, filled, hparams, swept
from jaxnn.storage.lock import locked

ROOT = Path(jaxnn.__file__).parents[1]
DRAWS = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
DATA = {"inputs": DRAWS, "labels": DRAWS[:, :1]}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    hidden: tuple[int, ...] = (4,)  # nodes of each hidden layer
    activation: Literal["relu", "none"] = "none"  # of hidden nodes
    rate: Hparam = 0.01  # step size
    momentum: Hparam = 0.5  # share of the last update
    batch_size: int = 8  # examples in a training step
    steps: int = 4  # how long
    seed: int = 0  # decides initialisation


@cache
def learner(hidden):
    return jaxnn.learner(
        jaxnn.mlp(hidden, 1),
        jaxnn.regression(),
        lambda hparams: optax.sgd(hparams["rate"], hparams["momentum"]),
    )


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    return jaxnn.fit(
        learner(config.hidden),
        jaxnn.resident(DATA, batch_size=config.batch_size),
        steps=config.steps,
        key=jaxnn.keys(config.seed),
        hparams=hparams(config),
        every=2,
        evaluate=jaxnn.resident(DATA, batch_size=24),
        out=out,
        quiet=True,
        **options,
    )


@pytest.fixture
def run(command_line):
    """Runs the command as with these options; returns its exit code, output lines and errors."""

    def call(*options, config=Config, main=main):
        return command_line(config, main, "--no-compile-cache", *options)

    return call


def rows(path):
    with open(path / "sweep.csv") as file:
        return list(csv.DictReader(file))


def test_a_sweep_over_inputs_is_one_population(run, compilations):
    code, lines, errors = run("--sweep", "rate=log:0.01:0.1:3", "--seeds", "2", "--out", "mine")
    assert (code, errors) == (0, "")
    out = Path("mine")
    present = sorted(path.name for path in out.iterdir() if path.name != "command.txt")
    assert present == [
        ".lock", "config.json", "population", "result.json", "sweep.csv", "sweep.json", "sweep.png",
    ]  # fmt: skip
    group = json.loads((out / "population" / "config.json").read_text())
    rates = [row["rate"] for row in rows(out)]
    assert len(rates) == 6 and group["rate"] == [float(rate) for rate in rates]
    assert group["seed"] == [0, 1] * 3 and group["momentum"] == 0.5
    asked = json.loads((out / "config.json").read_text())
    assert asked["sweep"] == ["rate=log:0.01:0.1:3"] and asked["seeds"] == 2
    assert asked["rate"] == 0.01 and asked["hidden"] == [4]
    result = json.loads((out / "result.json").read_text())
    assert (result["experiment"], result["runs"], result["groups"]) == (
        "test_sweeps_command", 6, 1,
    )  # fmt: skip
    assert result["steps"] == 24 and result["diverged"] == 0 and result["metric"] == "test/loss"
    what = (
        f"6 runs, best setting rate={result['best/rate']:.4g}: test/loss {result['test/loss']:.4g}"
    )
    where = f"in {result['seconds']:.1f} s; see mine"
    assert lines[-1] == f"test_sweeps_command: {what} {where}"
    assert "test/loss, best first" in " ".join(lines)


def test_a_sweep_has_one_page_for_all_of_its_groups(run, monkeypatch):
    init = inspect.unwrap(jaxnn.Directory.__init__)
    monkeypatch.setattr(init, "__defaults__", (*init.__defaults__[:-1], True))
    assert run("--sweep", "rate=0.02,0.05", "--out", "mine")[0] == 0
    assert [*Path("mine").rglob("report.html")] == [Path("mine/report.html")]


@pytest.mark.slow
def test_a_row_is_what_the_run_alone_comes_to(run, tmp_path):
    assert run("--sweep", "rate=0.02,0.05", "--seeds", "2", "--seed", "3", "--out", "all")[0] == 0
    row = rows(Path("all"))[-1]
    assert (row["rate"], row["seed"], row["status"], row["steps"]) == ("0.05", "4", "done", "4")
    assert run("--rate", "0.05", "--seed", "4", "--out", "one")[0] == 0
    alone = json.loads(Path("one/result.json").read_text())
    assert float(row["test/loss"]) == alone["test/loss"]
    assert float(row["train/loss"]) == alone["train/loss"]


@pytest.mark.slow
def test_what_changes_shapes_makes_groups(run):
    options = ("--sweep", "hidden=4,4x4", "--sweep", "batch_size=8", "--sweep", "rate=0.01,0.05")
    code, lines, _ = run(*options, "--out", "mine")
    assert code == 0
    groups = ["hidden=4,batch_size=8", "hidden=4x4,batch_size=8"]
    assert sorted(path.name for path in Path("mine").iterdir() if path.is_dir()) == groups
    assert [line for line in lines if line.endswith(": 2 runs")] == [f"{g}: 2 runs" for g in groups]
    config = json.loads(Path("mine", groups[1], "config.json").read_text())
    assert config["hidden"] == [4, 4] and config["batch_size"] == 8
    assert config["rate"] == [0.01, 0.05]
    present = [(row["hidden"], row["batch_size"], row["rate"]) for row in rows(Path("mine"))]
    assert len(present) == len(set(present)) == 4 and present[-1] == ("4x4", "8", "0.05")
    result = json.loads(Path("mine/result.json").read_text())
    assert result["groups"] == 2 and result["best/hidden"] in ([4], [4, 4])


@pytest.mark.slow
def test_seeds_alone_are_a_sweep(run):
    code, lines, _ = run("--seeds", "3", "--metric", "test/mae")
    assert code == 0
    assert re.fullmatch(
        r"test_sweeps_command: 3 runs, test/mae [0-9.]+ in [0-9.]+ s;"
        r" see runs/test_sweeps_command/[0-9a-f]{10}", lines[-1],
    )  # fmt: skip


@pytest.mark.slow
def test_diverged_runs_are_counted(run):
    code, lines, _ = run("--sweep", "rate=0.01,1e30", "--seeds", "2", "--out", "mine")
    words = ": 4 runs (2 diverged), best setting rate=0.01: test/loss "
    assert code == 0 and words in lines[-1]
    assert [row["status"] for row in rows(Path("mine"))] == ["done"] * 2 + ["diverged"] * 2
    result = json.loads(Path("mine/population/result.json").read_text())
    assert result["test/loss"][2] is None


def test_all_diverged_is_3(run):
    code, _, errors = run("--sweep", "rate=1e30,2e30", "--out", "mine")
    assert code == 3 and "Sweep lower learning rates." in errors and errors.count("\n") == 1
    assert Path("mine/sweep.csv").exists() and not Path("mine/result.json").exists()


def test_the_directory_is_that_of_the_configuration_the_sweep_and_the_seeds(run):
    for options in (("--seeds", "1"), ("--seeds", "2"), ("--seeds", "2", "--steps", "2"), ()):
        assert run("--sweep", "rate=0.01", *options)[0] == 0
    assert run("--sweep", "rate=0.02")[0] == 0
    present = sorted(path.name for path in Path("runs/test_sweeps_command").iterdir())
    # Without --seeds it is one seed, so that the last of the four is a sibling of the first.
    assert len(present) == 5 and len({name.split("-")[0] for name in present}) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sweep", "rat=1,2"), "Did you mean 'rate'?"),
        (("--sweep", "rate=lg:1:2:3"), "Did you mean 'log'?"),
        (("--sweep", "rate"), "Write, say, learning_rate=log:1e-4:1e-1:16."),
        (("--sweep", "rate=log:0:1:3"), "Pass, say, low=0.001."),
        (("--sweep", "rate=1,2", "--sweep", "rate=3"), "Write all its values together."),
        (("--sweep", "rate=small"), "List such values, separated by commas."),
        (("--sweep", "activation=linear:0:1:3"), "Choose activation from that list."),
        (("--sweep", "activation=rellu"), "Did you mean 'relu'?"),
        (("--sweep", "hidden=linear:0.5:1:2"), "hidden=32,64x64."),
        (("--sweep", "batch_size=8.5"), "separated by commas."),
        (("--sweep", "seed=1,2"), "on the command line --seeds 8."),
        (("--seeds", "0"), "Pass, say, seeds=1."),
        (("--seeds", "2", "--metric", "loss"), "Pass test/loss, or train/loss."),
    ],
)
def test_bad_input_is_a_line_and_2_before_anything_is_written(run, options, words):
    code, _, errors = run(*options)
    assert code == 2 and errors.endswith(words + "\n") and errors.count("\n") == 1, errors
    assert not list(Path().glob("runs/**/result.json"))


def test_without_a_seed_there_are_no_seeds(run):
    @dataclass(frozen=True, kw_only=True)
    class Seedless:
        """The hyper-parameters."""

        rate: float = 0.1  # step size

    code, _, errors = run("--seeds", "2", config=Seedless)
    assert code == 2 and "field='seed'; expected one of rate" in errors


def test_a_metric_that_is_not_reported_is_2_and_costs_no_second_training(run):
    code, _, errors = run("--seeds", "2", "--metric", "test/maee", "--out", "mine")
    assert code == 2 and errors.endswith("Did you mean 'test/mae'?\n")
    result = Path("mine/population/result.json")
    trained = result.read_text()
    assert run("--seeds", "2", "--metric", "test/mae", "--out", "mine")[0] == 0
    assert result.read_text() == trained and Path("mine/result.json").exists()


def test_a_directory_in_use_is_5(run):
    Path("mine").mkdir()
    with locked(Path("mine")):
        code, _, errors = run("--seeds", "2", "--out", "mine")
    assert code == 5 and "Wait for that run to end" in errors


def test_a_run_that_is_not_a_sweep_is_what_it_was(run):
    code, lines, _ = run("--out", "mine")
    assert code == 0 and not Path("mine/sweep.csv").exists() and "runs" not in lines[-1]
    result = json.loads(Path("mine/result.json").read_text())
    assert "members" not in result and isinstance(result["test/loss"], float)


def test_help_shows_the_options(run):
    text = re.sub(r"[│\s]+", " ", " ".join(run("--help")[1]))
    for option in ("--sweep", "--seeds", "--metric"):
        assert option in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "environment", "devices"),
    [
        (("--seeds", "2"), {}, os.cpu_count()),
        (("--seeds", "2"), {"JAX_NUM_CPU_DEVICES": "3"}, 3),
        (("--seeds", "2"), {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
        ((), {}, 1),
    ],
)
def test_every_core_is_a_device_of_a_sweep_unless_the_user_says_how_many(
    tmp_path, options, environment, devices
):
    left = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    done = subprocess.run(
        [sys.executable, "-m", "experiments.digits", *options, "--no-compile-cache",
         "--learning-rate", "-1", "--out", str(tmp_path / "out")],
        cwd=ROOT, env=left | environment | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout.startswith(f"digits: cpu, {devices} device{'s' if devices > 1 else ''}, ")


# --- Fields ------------------------------------------------------------------------------------


def test_marked_fields_are_the_inputs():
    assert hparams(Config(rate=0.3)) == {"rate": 0.3, "momentum": 0.5}


def test_values_come_in_the_type_of_their_field():
    sweep = swept(Config(), ["rate=1,2", "batch_size=log:2:8:3", "hidden=4,4x4"], None)
    assert sweep.columns["rate"][0] == 1.0 and type(sweep.columns["rate"][0]) is float
    assert set(sweep.columns["batch_size"]) == {2, 4, 8}
    assert {type(size) for size in sweep.columns["batch_size"]} == {int}
    assert set(sweep.columns["hidden"]) == {(4,), (4, 4)}


def test_a_configuration_of_many_has_arrays_where_they_differ():
    sweep = swept(Config(seed=5), ["rate=0.1,0.2", "batch_size=8,12"], 2)
    (_, _), (values, group) = sweep.groups(["batch_size"])
    config = filled(Config(seed=5), values, group)
    assert config.batch_size == 12 and config.momentum == 0.5
    assert config.rate.tolist() == [0.1, 0.1, 0.2, 0.2] and config.seed.tolist() == [5, 6, 5, 6]
