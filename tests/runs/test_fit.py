"""`fit`: what it writes, what it shows, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.storage.lock import locked
from tests.gan import gan_data, gan_learner
from tests.options import grouped

ROOT = Path(jaxnn.__file__).parents[1]


@dataclass(frozen=True)
class Config:
    hidden: tuple[int, ...] = (8,)
    learning_rate: float = 0.01
    bound: float = float("inf")


@cache  # one learner compiles once, however many tests run it
def classifier(scale=1.0):
    network = jaxnn.serial(jaxnn.dropout(0.1), jaxnn.linear(3, scale=scale))
    return jaxnn.learner(network, jaxnn.classification(), lambda h: optax.adam(h["learning_rate"]))


@cache
def points(batch_size=16):
    draws = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    return jaxnn.resident(
        {"inputs": draws, "labels": draws[:, :3].argmax(-1)}, batch_size=batch_size
    )


def fit(out=None, learner=None, data=None, **settings):
    defaults = {
        "steps": 20,
        "every": 6,
        "key": jax.random.key(0),
        "hparams": {"learning_rate": 0.01},
        "quiet": True,
    }
    options = grouped(out, **{**defaults, **settings})
    return jaxnn.fit(learner or classifier(), data or points(), **options)


def strict(text):
    """Reads JSON as the standard has it: Python's NaN and Infinity are errors."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def journal(out):
    text = (out / "metrics.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    return [strict(line) for line in text.splitlines()]


def names(out):
    return sorted(path.name for path in out.iterdir())


# --- The run directory -------------------------------------------------------------------------


def test_a_run_directory_holds_what_was_asked_what_happened_and_what_came_out(tmp_path):
    out = tmp_path / "deep" / "run"
    run = fit(out, evaluate=points(64), name="points", config=Config(), report=True)
    data = ["config.json", "metrics.jsonl", "predict.bin", "predict.json"]
    data += ["recording", "report.html", "result.json", "speed.json"]
    # That there is a command depends on how the tests were started.
    assert [each for each in names(out) if each != "command.txt"] == [".lock", "checkpoints", *data]
    # An infinite number, which JSON has not, is a word.
    config = {"hidden": [8], "learning_rate": 0.01, "bound": "Infinity"}
    assert strict((out / "config.json").read_text()) == config
    rows = journal(out)
    assert rows == run.history and [row["step"] for row in rows] == [6, 12, 18, 20]
    assert [row["epoch"] for row in rows] == [0.96, 1.92, 2.88, 3.2]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[-1] > 0
    result = strict((out / "result.json").read_text())
    assert result == run.result and run.out == out
    assert not [value for value in result.values() if isinstance(value, dict | list)]
    assert result["experiment"] == "points" and result["steps"] == 20
    for name in ("train/loss", "train/accuracy", "test/loss", "test/accuracy"):
        assert result[name] == rows[-1][name]
    assert result["form"] == "looped" and result["jax"] == jax.__version__


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fit()
    assert run.out is None and len(run.history) == 4 and not list(tmp_path.iterdir())


def test_the_configuration_is_the_hparams_unless_given(tmp_path):
    fit(tmp_path / "run")
    assert strict((tmp_path / "run" / "config.json").read_text()) == {"learning_rate": 0.01}


def test_a_finished_run_is_left_alone_and_gets_numbered_siblings(tmp_path):
    first = fit(tmp_path / "run")
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    others = [fit(tmp_path / "run", key=jax.random.key(n)).out.name for n in (1, 2)]
    assert first.out == tmp_path / "run" and others == ["run-2", "run-3"]
    assert {path: path.read_bytes() for path in files} == before


def test_an_unfinished_run_goes_on_in_its_place_and_rows_stand_once(tmp_path):
    run = fit(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    again = fit(tmp_path / "run")
    assert again.out == run.out and again.history == run.history
    assert [row["step"] for row in journal(run.out)] == [6, 12, 18, 20]


def untouched(call, directory):
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(jaxnn.Invalid) as caught:
        call()
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before
    return str(caught.value)


def test_a_directory_of_something_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("life's work")
    text = untouched(lambda: fit(tmp_path), tmp_path)
    assert f"{tmp_path} is not a run directory" in text
    assert "Choose another directory (--out)" in text


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "notes").write_text("mine")
    assert "Got a file;" in untouched(lambda: fit(tmp_path / "notes"), tmp_path)


def test_a_configuration_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{cut")
    assert "not JSON" in untouched(lambda: fit(tmp_path), tmp_path)


def test_an_unfinished_run_of_another_configuration_is_refused(tmp_path):
    fit(tmp_path / "run", config=Config())
    (tmp_path / "run" / "result.json").unlink()
    other = Config(learning_rate=0.5)
    text = untouched(lambda: fit(tmp_path / "run", config=other), tmp_path / "run")
    assert "Got learning_rate=0.5; expected learning_rate=0.01." in text
    assert fit(tmp_path / "run", config=Config()).out == tmp_path / "run"


def test_an_empty_directory_is_as_good_as_none(tmp_path):
    assert fit(tmp_path).out == tmp_path


def test_one_run_at_a_time_writes_to_a_directory(tmp_path):
    fit(tmp_path)
    (tmp_path / "result.json").unlink()
    with locked(tmp_path):
        rows = (tmp_path / "metrics.jsonl").read_bytes()
        with pytest.raises(jaxnn.DirectoryInUse, match=r"Wait for that run to end"):
            fit(tmp_path)
        assert (tmp_path / "metrics.jsonl").read_bytes() == rows
    assert fit(tmp_path).out == tmp_path


def test_a_place_that_cannot_be_written_is_an_oserror(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        fit(tmp_path / "file" / "run")


def test_a_disk_that_fills_up_is_an_oserror(tmp_path, monkeypatch):
    def full(self, row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxnn.storage.directory.RunDirectory.append", full)
    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path)
    assert "result.json" not in names(tmp_path)


# --- How it ends -------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_run_with_its_row_written(tmp_path):
    def loss(outputs, batch):
        return jax.numpy.log(outputs[:, 0] * 0 - 1)

    learner = jaxnn.learner(jaxnn.linear(3), loss, lambda h: optax.sgd(h["learning_rate"]))
    with pytest.raises(
        jaxnn.NotFinite, match=r"train/loss is not finite. Got nan at step 6, "
    ) as e:
        fit(tmp_path, learner, steps=600)
    line = f"test_fit.py:{loss.__code__.co_firstlineno + 1}"
    assert f"first in step 0: log gave NaN in the forward pass ({line}" in str(e.value)
    assert "Lower the learning rate, or clip the gradients" in str(e.value)
    (row,) = journal(tmp_path)
    assert row["step"] == 6 and row["train/loss"] is None
    assert "result.json" not in names(tmp_path)


SCRIPT = """
    import sys, jax, jaxnn, numpy as np, optax
    from tests import compiling
    jax.config.update("jax_enable_compilation_cache", False)
    compiling.fast()
    draws = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    data = jaxnn.resident({"inputs": draws, "labels": draws[:, :1]}, batch_size=8)
    learner = jaxnn.learner(jaxnn.mlp([8], 1, dropout=0.1), jaxnn.regression(), optax.adam(1e-3))
    out, steps, every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    run = jaxnn.fit(learner, data, steps=steps, every=every, key=jax.random.key(4), out=out)
    leaves = jax.tree.leaves(run.state.params)
    print("bits", b"".join(np.asarray(x).tobytes() for x in leaves).hex())
"""


def start(tmp_path, steps, every, before=""):
    code = textwrap.dedent(before) + textwrap.dedent(SCRIPT)
    arguments = [sys.executable, "-c", code, str(tmp_path / "run"), str(steps), str(every)]
    return subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_rows(process, out):
    end = time.monotonic() + 120
    while not (out.exists() and (out / "metrics.jsonl").exists() and journal_lines(out) > 2):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


def wait_for_line(process, line):
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    while (said := process.stdout.readline()) != line + "\n":
        assert said, process.communicate()
    watchdog.cancel()


def journal_lines(out):
    return (out / "metrics.jsonl").read_text().count("\n")


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_run_with_everything_written(tmp_path, number):
    process = start(tmp_path, 10**9, 1000)
    try:
        wait_for_rows(process, tmp_path / "run")
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)  # all of its steps would take hours
    finally:
        process.kill()
    assert errors.rstrip().splitlines()[-1].startswith("KeyboardInterrupt: stopped at step ")
    rows = journal(tmp_path / "run")
    assert [row["step"] for row in rows] == [1000 * (n + 1) for n in range(len(rows))]
    data = [
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "predict.bin",
        "predict.json",
        "recording",
    ]
    assert names(tmp_path / "run") == [".lock", *data]


def test_a_second_signal_ends_at_once(tmp_path):
    """Also while the device is at work for long, and when it is the other signal."""
    slow = """
        import signal, time, jaxnn.storage.directory as directory
        append = directory.RunDirectory.append
        def slowly(self, row):
            append(self, row)
            if row["step"] > 30:
                print("stuck", flush=True)
                while signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
                    time.sleep(0.01)
                print("stopping", flush=True)
                time.sleep(3600)
        directory.RunDirectory.append = slowly
    """
    process = start(tmp_path, 10**9, 10, before=slow)
    try:
        wait_for_line(process, "stuck")
        process.send_signal(signal.SIGINT)
        wait_for_line(process, "stopping")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def test_handlers_are_put_back():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    fit()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_stop_that_comes_after_the_last_step_loses_nothing(tmp_path, monkeypatch):
    """The run is done then: it has its result, and no interruption."""

    def append(self, row, append=jaxnn.storage.directory.RunDirectory.append):
        append(self, row)
        if row["step"] == 20:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("jaxnn.storage.directory.RunDirectory.append", append)
    try:
        run = fit(tmp_path)
    except KeyboardInterrupt:  # which would end all tests
        pytest.fail("a finished run was called interrupted")
    assert run.result["steps"] == 20 and "result.json" in names(tmp_path)


# --- The same again ----------------------------------------------------------------------------


def bits(run):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(run.state.params)]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    first, again, other = fit(), fit(), fit(key=jax.random.key(1))
    assert bits(first) == bits(again) != bits(other)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_in_another_process(tmp_path):
    both = [start(tmp_path / name, 50, 20) for name in ("one", "two")]
    lines = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert lines[0][-1].startswith("bits ") and len(lines[0][-1]) > 100
    assert lines[0][-1] == lines[1][-1]


def test_a_run_predicts():
    run = fit(steps=200, hparams={"learning_rate": 0.05})
    outputs = run.predict(np.asarray(points().arrays["inputs"]), batch_size=30)
    assert (outputs.argmax(-1) == np.asarray(points().arrays["labels"])).mean() > 0.95


@pytest.mark.slow
def test_a_gan_fits_like_any_other_learner(tmp_path):
    held_out = gan_data(batch_size=1000)
    run = fit(tmp_path, gan_learner(), gan_data(), steps=20, evaluate=held_out, hparams=None)
    result = strict((tmp_path / "result.json").read_text())
    for part in ("train", "test"):
        for name in ("generator_loss", "discriminator_loss", "modes"):
            assert result[f"{part}/{name}"] == run.history[-1][f"{part}/{name}"]
    assert run.predict(np.zeros((3, 2), np.float32)).shape == (3, 2)


def test_progress_is_shown_unless_quiet(capsys):
    fit(quiet=False)
    first, *lines = capsys.readouterr().out.splitlines()
    assert (
        first == "compiling" and lines[0].startswith("step 6/20, train/loss ") and len(lines) == 4
    )
    assert "train/accuracy" in lines[0] and "learning_rate" not in lines[0]
    fit(quiet=True)
    assert capsys.readouterr() == ("", "")
