"""The command line that every experiment has: options, exit codes, and the lines that it prints."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import jaxnn
from experiments import command as module
from jaxnn.storage.lock import locked

ROOT = Path(jaxnn.__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    hidden: tuple[int, ...] = (4,)  # nodes of each hidden layer
    learning_rate: float = 0.01  # step size
    batch_size: int = 8  # examples in a training step
    steps: int = 20  # how long


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    draws = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    data = jaxnn.resident({"inputs": draws, "labels": draws[:, :1]}, batch_size=config.batch_size)
    learner = jaxnn.learner(
        jaxnn.mlp(config.hidden, 1),
        jaxnn.regression(),
        lambda hparams: optax.sgd(hparams["learning_rate"]),
    )
    return jaxnn.fit(
        learner,
        data,
        steps=config.steps,
        key=jax.random.key(0),
        hparams={"learning_rate": config.learning_rate},
        evaluate=jaxnn.resident(data.arrays, batch_size=24),
        out=out,
        quiet=True,
        **options,
    )


@pytest.fixture
def run(command_line, cache_options):
    """Runs the command as with these options; returns its exit code, output lines and errors."""

    def call(*options, main=main, config=Config):
        return command_line(config, main, *options)

    return call


def stopping(error):
    def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
        raise error

    return main


def test_a_run_says_where_it_runs_and_what_came_out(run, tmp_path):
    code, lines, errors = run("--steps", "6")
    assert code == 0 and errors == ""
    assert re.fullmatch(
        rf"test_command: cpu, \d devices?, float32, jax {re.escape(jax.__version__)}", lines[0]
    )
    (out,) = (tmp_path / "runs" / "test_command").iterdir()
    result = json.loads((out / "result.json").read_text())
    what = f"test/loss {result['test/loss']:.4g}, test/mae {result['test/mae']:.4g}"
    where = f"in {result['seconds']:.1f} s; see runs/test_command/{out.name}"
    assert lines[-1] == f"test_command: {what}, test/r2 {result['test/r2']:.4g} {where}"
    assert json.loads((out / "config.json").read_text()) == {
        "hidden": [4], "learning_rate": 0.01, "batch_size": 8, "steps": 6,
    }  # fmt: skip


@pytest.mark.slow
def test_the_directory_is_that_of_the_configuration(run, tmp_path):
    for options in ((), ("--hidden", "5", "6"), ("--hidden", "5", "6"), ("--out", "mine")):
        assert run("--steps", "2", *options)[0] == 0
    present = sorted(path.name for path in (tmp_path / "runs" / "test_command").iterdir())
    digests = {name.split("-")[0] for name in present}
    assert len(present) == 3 and len(digests) == 2 and all(len(name) == 10 for name in digests)
    assert sum(name.endswith("-2") for name in present) == 1
    assert (tmp_path / "mine" / "result.json").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--learning-rate", "0"), "Pass, say, learning_rate=0.001."),
        (("--hidden", "0"), "Pass, say, features=1."),
        (("--batch-size", "25"), "Pass batch_size=24."),
        (("--steps", "-1"), "Pass, say, steps='10 epochs'."),
        (("--processes", "0"), "Pass, say, processes=1."),
    ],
)
def test_bad_input_is_a_line_and_2(run, tmp_path, options, words):
    code, _, errors = run(*options)
    assert code == 2 and errors.endswith(words + "\n") and errors.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_directory_of_another_configuration_is_2(run):
    assert run("--out", "mine", "--steps", "2")[0] == 0
    Path("mine", "result.json").unlink()
    code, _, errors = run("--out", "mine", "--steps", "3")
    assert code == 2 and "--allow-change steps" in errors


def test_not_finite_is_3(run):
    code, _, errors = run("--learning-rate", "1e30")
    assert code == 3 and errors.count("\n") == 1
    assert re.search(r"train/loss is not finite. .* Lower the learning rate", errors)


@pytest.mark.parametrize("named", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_directory_in_use_is_5(run, named):
    """Also where the holder of the lock never writes its name, which is waited for."""
    Path("mine").mkdir()
    with locked(Path("mine")):
        if not named:
            Path("mine/.lock").write_text("")
        code, _, errors = run("--out", "mine")
    assert code == 5 and errors.count("\n") == 1 and "Wait for that run to end" in errors


def test_storage_is_6(run):
    Path("file").touch()
    code, _, errors = run("--out", "file/run")
    assert code == 6 and errors.startswith("storage: ") and errors.count("\n") == 1
    assert "file/run" in errors


def test_an_interruption_is_75(run):
    code, _, errors = run(main=stopping(KeyboardInterrupt("stopped at step 3 of 20")))
    assert (code, errors) == (75, "interrupted: stopped at step 3 of 20\n")
    code, _, errors = run(main=stopping(KeyboardInterrupt()))
    assert (code, errors) == (75, "interrupted\n")


def test_a_defect_keeps_its_traceback(run):
    with pytest.raises(ZeroDivisionError):
        run(main=stopping(ZeroDivisionError()))


RUNNING = """
import runpy
runpy.run_module("experiments.digits", run_name="__main__", alter_sys=True)
"""
WAITING = (
    """
from tests import failpoints
failpoints.arm("after a row", 1, {!r})
"""
    + RUNNING
)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["starting", "training"])
def test_a_signal_is_75_in_a_process_of_its_own(tmp_path, when):
    """Also while it starts, before anything trains; and the journal is whole."""
    out, waits = tmp_path / "run", tmp_path / "waits"
    rows = out / "metrics.jsonl"
    options = ["--epochs", "1000", "--out", str(out), "--no-compile-cache"]
    code = WAITING.format(f"wait {waits}") if when == "training" else RUNNING
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline().startswith("digits: ")
        end = time.monotonic() + 120
        while when == "training" and not waits.exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        waits.unlink(missing_ok=True)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    errors = re.sub("^fault: .*\n", "", errors)
    assert process.returncode == 75
    assert errors.startswith("interrupted") and errors.count("\n") == 1
    assert not (out / "result.json").exists()
    if when == "training":
        what = (
            r"interrupted: stopped at step \d+ of (\d+); the same command resumes there;"
            r" python -m jaxnn report \S+ makes a page of it so far\n"
        )
        total = int(re.fullmatch(what, errors)[1])
        steps = [json.loads(line)["step"] for line in rows.read_text().splitlines()]
        every = math.ceil(total / 20)
        assert steps == [every * (number + 1) for number in range(len(steps))]


# --- Options -----------------------------------------------------------------------------------


def test_help_shows_every_field_with_its_comment_and_default(run):
    code, lines, _ = run("--help")
    text = re.sub(r"[│\s]+", " ", " ".join(lines))
    assert code == 0 and "python -m experiments.test_command" in text
    assert "The command line that every experiment has" in text  # the module's docstring
    for option, comment, default in [
        ("--hidden", "nodes of each hidden layer", "4"),
        ("--learning-rate", "step size", "0.01"),
        ("--batch-size", "examples in a training step", "8"),
        ("--steps", "how long", "20"),
        ("--out", "run directory", "None"),
        ("--compile-cache", "keep compiled programs in the user's cache directory", "True"),
    ]:
        assert re.search(rf"{option}\b.*?{comment}.*?\(default: {default}\)", text), text


def test_an_unknown_option_names_the_near_miss(run):
    code, _, errors = run("--learning-rat", "0.1")
    assert code == 2 and "--learning-rat" in errors
    assert re.search(r"--learning-rate\b", errors)


def test_an_option_of_the_wrong_kind_is_2(run):
    code, _, errors = run("--steps", "many")
    assert code == 2 and "many" in errors and "Traceback" not in errors


@pytest.mark.slow
def test_compiled_programs_are_saved_in_the_users_cache_unless_switched_off(run, tmp_path):
    jax.config.update("jax_enable_compilation_cache", True)
    folder = tmp_path / "cache" / "jaxnn" / "compiled"
    assert run("--steps", "1", "--no-compile-cache")[0] == 0 and not folder.exists()
    assert run("--steps", "1")[0] == 0 and any(folder.iterdir())


@pytest.mark.nightly
def test_a_second_process_compiles_little(tmp_path):
    """The cache works: what the first process compiled, the second reads."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("JAX_ENABLE_COMPILATION_CACHE", None)
    for number in (1, 2):
        subprocess.run(
            [sys.executable, "-m", "experiments.digits", "--epochs", "0.1", "--out",
             str(tmp_path / f"run{number}")],
            cwd=ROOT, env=environment, capture_output=True, check=True,
        )  # fmt: skip
        files = {path.name for path in (tmp_path / "cache" / "jaxnn" / "compiled").iterdir()}
        programs = {name for name in files if name.endswith("-cache")}
        if number == 1:
            first = programs
    assert len(first) > 5 and programs == first


def test_an_idle_accelerator_is_warned_of(run, monkeypatch):
    monkeypatch.setattr(module.devices, "idle_accelerator", lambda: "WARNING: a GPU")
    code, _, errors = run("--steps", "1")
    assert code == 0 and errors == "WARNING: a GPU\n"
