"""How scripts in several processes end: one reason, once, and the same exit code in all.

Unlike forked processes, a script runs what is registered for its end.
"""

import os
import signal
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
START = """
import sys, time, jax, jax.numpy as jnp, jaxnn
from jaxnn.runs.exit_codes import exit_code
from jaxnn.scale import processes, watch
jaxnn.scale.start(wait=120)
me, _ = processes.index(), jax.devices()
print("started", flush=True)

def fail():
    raise jaxnn.InvalidValue("fit", "the reason", got="this", expected="that", fix="Change it")

def fetch():
    processes.agree("never", lambda: time.sleep(300))

"""


class Scripts:
    """Scripts that run in connected processes."""

    def __init__(self, folder, script, count=2):
        self.outputs = [folder / f"{number}" for number in range(count)]
        places = [(f"127.0.0.1:{port}", str(count)) for port in [free_port()]]
        self.children = []
        for number, output in enumerate(self.outputs):
            place = dict(zip(VARIABLES, (*places[0], str(number))))
            with output.open("w") as file:
                self.children.append(
                    subprocess.Popen(
                        [sys.executable, "-c", START + script],
                        env=os.environ | place,
                        cwd=ROOT,
                        stdout=file,
                        stderr=file,
                    )  # fmt: skip
                )
        until = time.monotonic() + 4 * SOON
        while not all("started" in text for text in self.said):
            assert time.monotonic() < until, self.said
            time.sleep(0.05)

    @property
    def said(self):
        return [output.read_text() for output in self.outputs]

    def codes(self, seconds=SOON):
        """Waits for all processes; returns their exit codes."""
        until = time.monotonic() + seconds
        try:
            return [child.wait(max(0.1, until - time.monotonic())) for child in self.children]
        finally:
            for child in self.children:
                child.kill()

    def send(self, number, to):
        self.children[to].send_signal(number)


LOST = "a process of this run has ended"
# The script, the exit codes, the process that says why, and what it says once.
ENDS = {
    "the first raises after the other is done": (
        "if me == 0:\n    time.sleep(3)\n    raise ValueError('a plot')", [1, 1], 0, "a plot",
    ),
    "another raises after the first is done": (
        "if me == 1:\n    time.sleep(3)\n    raise ValueError('a plot')", [1, 1], 1, "a plot",
    ),
    "one leaves early": (
        "if me == 1:\n    sys.exit(3)\n"
        "with watch.together(exit_code):\n    processes.collect('value', 1)",
        [75, 75], 0, f"{LOST}. Got process 1 on",
    ),
    "a script catches the error": (
        "try:\n    with watch.together(exit_code):\n        fail() if me == 1 else fetch()\n"
        "except jaxnn.InvalidValue:\n    time.sleep(60)",
        [2, 2], 1, "the reason",
    ),
    "a callback fails": (
        "def bad(x):\n    raise ValueError('in the callback')\n"
        "with watch.together(exit_code):\n"
        "    call = lambda x: jax.pure_callback(bad, jax.ShapeDtypeStruct((), 'float32'), x)\n"
        "    jax.jit(call)(jnp.float32(0)).item() if me == 1 else fetch()",
        [1, 1], 1, "in the callback",
    ),
    "the watch sees it first": (
        "set_value = processes.client().key_value_set\n"
        "class Slow:\n"
        "    def __getattr__(self, name):\n        return getattr(real, name)\n"
        "    def key_value_set(self, key, value, **options):\n"
        "        real.key_value_set(key, value, **options)\n"
        "        time.sleep(2.5 * ('ended' in key))\n"
        "real = processes.client()\n"
        "watch.client = lambda: Slow()\n"
        "watch.end(2, 'the reason') if me == 1 else time.sleep(60)",
        [2, 2], 1, "the reason",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_the_reason_is_said_once_and_all_end_with_its_code(case, tmp_path):
    script, codes, speaker, reason = ENDS[case]
    scripts = Scripts(tmp_path, script)
    assert scripts.codes() == codes, scripts.said
    speaks, silent = scripts.said[speaker], scripts.said[1 - speaker]
    assert reason in speaks and reason not in silent, scripts.said
    assert LOST not in silent + speaks.replace(reason, "", 1), scripts.said


def test_processes_wait_for_the_last_and_may_disconnect(tmp_path):
    scripts = Scripts(tmp_path, "time.sleep(3 * me)\nif me == 1:\n    print('done')")
    assert scripts.codes() == [0, 0], scripts.said
    scripts = Scripts(tmp_path, "jax.distributed.shutdown()\ntime.sleep(3)\nprint('done')")
    assert scripts.codes() == [0, 0], scripts.said
    assert all(text == "started\ndone\n" for text in scripts.said), scripts.said


WAITS = "with watch.together(exit_code):\n    fetch()"


def test_a_process_killed_at_the_end_is_named(tmp_path):
    scripts = Scripts(tmp_path, "if me == 1:\n    time.sleep(300)")
    scripts.send(signal.SIGKILL, to=1)
    assert scripts.codes() == [75, -9], scripts.said
    assert scripts.said[0].count("Got process 1 on") == 1


def test_a_first_process_that_is_stopped_is_lost(tmp_path):
    """Its system still accepts connections."""
    scripts = Scripts(tmp_path, WAITS)
    scripts.send(signal.SIGSTOP, to=0)
    assert scripts.children[1].wait(SOON) == 75, scripts.said
    scripts.send(signal.SIGKILL, to=0)
    assert scripts.codes() == [-9, 75]
    assert scripts.said[1].count("Got process 0") == 1


def test_all_processes_may_be_stopped_and_go_on(tmp_path):
    """As on a machine that was suspended, for longer than a process may be silent."""
    scripts = Scripts(tmp_path, "time.sleep(20)\nprint('done')")
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for to in (1, 0):
            scripts.send(number, to)
        time.sleep(14)
    assert scripts.codes() == [0, 0], scripts.said


def test_the_first_process_waits_for_one_that_is_slow_to_leave(tmp_path):
    scripts = Scripts(tmp_path, "watch.end(2, 'the reason') if me == 0 else time.sleep(60)")
    scripts.send(signal.SIGSTOP, to=1)
    time.sleep(10)
    scripts.send(signal.SIGCONT, to=1)
    assert scripts.codes() == [2, 2], scripts.said
    assert "".join(scripts.said).count("the reason") == 1
    assert LOST not in "".join(scripts.said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["terminate", "hang up"])
def test_a_rehearsal_that_is_interrupted_at_its_start_leaves_nothing(number, tmp_path):
    command = [sys.executable, "-m", "experiments.digits", "--processes", "2"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], env=environment(compiled().name), cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    place = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until = time.monotonic() + SOON
    while len(children := place.read_text().split()) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=SOON)
    assert process.returncode == 75 and "interrupted" in said, said
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
