"""Processes that do not come together, and rehearsals that are killed: one clear line."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxnn.scale._start import VARIABLES, free_port
from tests.forked import compiled, environment
from tests.together import SOON

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
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
    began = time.monotonic()
    child = started(2, number, free_port())
    _, said = child.communicate(timeout=SOON)
    assert time.monotonic() - began < SOON and child.returncode
    assert said.count("Start all") == 1
    assert ("another process has not come" if number == 0 else "cannot reach process 0") in said


def test_a_port_in_use_is_said():
    with socket.create_server(("", 0)) as server:
        child = started(2, 0, server.getsockname()[1])
        _, said = child.communicate(timeout=SOON)
    assert "the port of process 0 cannot be used" in said and "Pass another one" in said


@pytest.mark.parametrize(
    "given",
    (("127.0.0.1:1", 2, 2), ("127.0.0.1:1", 2, None), ("127.0.0.1", 2, 0), ("host:99999", 2, 0)),
    ids=("no such process", "not said which", "no port", "no such port"),
)
def test_a_place_that_is_not_whole_is_refused(given):
    from jaxnn import InvalidValue, scale

    with pytest.raises(InvalidValue, match="start: the processes are not described whole"):
        scale.start(*given)


def test_a_second_start_does_nothing():
    port = free_port()
    twice = SCRIPT.replace("wait=5", "wait=60").replace("; import", "; jaxnn.scale.start(); import")
    children = [started(2, number, port, twice) for number in range(2)]
    outputs = [child.communicate(timeout=90) for child in children]
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
