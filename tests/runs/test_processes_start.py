"""Processes that do not come together, and rehearsals that are killed: one clear line."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxnn.scale._start import VARIABLES, free_port
from tests.forked import compiled, environment
from tests.together import SOON

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# Seconds for a process to import everything and to end, on a machine that does much else. That it
# waits no longer for its peers than it is told is in what it says, not in the time of the test.
LONG = 4 * SOON
SCRIPT = "import jaxnn; jaxnn.scale.start(wait=5); import jax; print(jax.device_count())"


def started(count, number, port, script=SCRIPT):
    """Starts a script as one of so many processes."""
    place = dict(zip(VARIABLES, (f"127.0.0.1:{port}", str(count), str(number))))
    return subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | place, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("number", (0, 1))
def test_a_peer_that_does_not_come_is_missed_in_one_line(number):
    child = started(2, number, free_port())
    _, said = child.communicate(timeout=LONG)
    assert child.returncode, said
    assert said.count("Start all") == 1, said
    assert ("another process has not come" if number == 0 else "cannot reach process 0") in said


def test_a_port_in_use_is_said_once_and_both_processes_end():
    with socket.create_server(("", 0)) as server:
        children = [started(2, number, server.getsockname()[1]) for number in range(2)]
        first, other = [child.communicate(timeout=LONG)[1] for child in children]
    assert all(child.returncode for child in children), (first, other)
    assert "the port of process 0 cannot be used" in first and "Pass another one" in first
    assert "start:" not in other


@pytest.mark.parametrize(
    "given",
    (("127.0.0.1:1", 2, 2), ("127.0.0.1:1", 2, None), ("127.0.0.1", 2, 0), ("host:99999", 2, 0)),
    ids=("no such process", "not said which", "no port", "no such port"),
)
def test_a_place_that_is_not_whole_is_refused(given):
    from jaxnn import InvalidValue, scale

    with pytest.raises(InvalidValue, match="start: the processes are not described whole"):
        scale.start(*given)


@pytest.mark.parametrize(
    "variables", [{1: "4"}, {0: "127.0.0.1:1", 1: "4"}, {2: "0"}, {0: "host", 1: "2", 2: "0"}],
    ids=["count", "no index", "index", "no port"],
)  # fmt: skip
def test_variables_that_are_not_whole_are_refused(variables, monkeypatch):
    """A process would otherwise train alone, in the directory of the others."""
    from jaxnn import InvalidValue, scale

    for number, value in variables.items():
        monkeypatch.setenv(VARIABLES[number], value)
    with pytest.raises(InvalidValue, match="not described whole.*set JAX_COORDINATOR_ADDRESS, "):
        scale.start()


def test_a_second_start_does_nothing():
    port = free_port()
    twice = SCRIPT.replace("wait=5", "wait=60").replace("; import", "; jaxnn.scale.start(); import")
    children = [started(2, number, port, twice) for number in range(2)]
    outputs = [child.communicate(timeout=LONG) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert all("2" in out.split() for out, _ in outputs)


def rehearsed(out, count):
    """Starts a rehearsal of so many processes."""
    command = ["-m", "experiments.digits", "--processes", str(count), "--out", str(out)]
    variables = environment(compiled().name) | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.Popen(
        [sys.executable, *command, "--epochs", "20", "--no-compile-cache"], env=variables, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def children_of(process, count):
    """Returns the numbers of the processes that a process has started, once all are there."""
    place = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until = time.monotonic() + SOON
    while len(found := place.read_text().split()) < count:
        assert time.monotonic() < until
        time.sleep(0.05)
    return [int(number) for number in found]


def test_a_stream_of_files_rehearses_in_two_processes(tmp_path):
    image = pytest.importorskip("PIL.Image")
    draws = np.random.default_rng(0)
    for number in range(60):
        part = "train" if number < 48 else "val"
        file = tmp_path / part / str(number % 2) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(draws.integers(0, 255, (9, 8, 3), np.uint8)).save(file)
    options = ["--data", str(tmp_path), "--size", "8", "--batch-size", "16", "--epochs", "2"]
    options += ["--blocks", "1", "--width", "4", "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "experiments.images", "--processes", "2", "--no-compile-cache"]
    variables = environment(compiled().name) | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        [*command, *options],
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * LONG,
    )
    assert done.returncode == 0, done.stderr
    assert "uses 2 of 2 cpu devices: data=2" in done.stdout
    assert (tmp_path / "run" / "report.html").exists()


def trains(out):
    """Waits until the run has written a row."""
    until = time.monotonic() + 200
    while not (out / "metrics.jsonl").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    "victim, count", [(0, 2), (2, 4)], ids=("the first of two", "another of four")
)
def test_a_rehearsal_says_in_one_line_which_process_was_killed(victim, count, tmp_path):
    out = tmp_path / "run"
    process = rehearsed(out, count)
    numbers = children_of(process, count)
    trains(out)
    os.kill(numbers[victim], signal.SIGKILL)
    began = time.monotonic()
    _, said = process.communicate(timeout=2 * SOON)
    assert time.monotonic() - began < SOON
    assert process.returncode == 75
    assert f"process {victim} of {count} was killed" in said and "the same command resumes" in said
    assert not [number for number in numbers if Path(f"/proc/{number}").exists()]


def test_a_signal_to_a_rehearsal_saves_and_the_same_command_resumes(tmp_path):
    out = tmp_path / "run"
    process = rehearsed(out, 2)
    trains(out)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=2 * SOON)
    assert process.returncode == 75, said
    assert said.count("the same command resumes") == 1
    process = rehearsed(out, 2)
    output, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert "resumes at step" in output and (out / "network.png").exists()
