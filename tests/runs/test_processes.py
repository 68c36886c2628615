"""A run of several processes: one directory, the metrics of one process, and one line when it ends.

All of it is on the loopback of this machine.
"""

import json
import os
import signal
import time

import numpy as np
import pytest

from jaxnn.scale import watch
from jaxnn.storage import checkpoints
from tests import together
from tests.together import SOON, ended

pytestmark = pytest.mark.slow

TWO = 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns what the run comes to that two processes do, and nothing stops."""
    out = tmp_path_factory.mktemp("whole") / "run"
    group = together.start(TWO, out)
    assert group.codes() == [0, 0], group.said
    return ended(out)


def close(a, b):
    """Asserts that two runs have the same rows and arrays, but for the rounding of sums."""
    assert len(a.rows) == len(b.rows)
    for one, other in zip(map(json.loads, a.rows), map(json.loads, b.rows)):
        assert one.keys() == other.keys()
        for name in one:
            if name.endswith("loss"):
                assert one[name] == pytest.approx(other[name], rel=1e-6), name
    assert a.arrays.keys() == b.arrays.keys()
    error = sum(float(np.sum((x - b.arrays[n]) ** 2)) for n, x in a.arrays.items() if "params" in n)
    scale = sum(float(np.sum(x**2)) for n, x in a.arrays.items() if "params" in n)
    assert (error / scale) ** 0.5 < 1e-4


def newest(out):
    """Returns the step of the newest checkpoint of a run, 0 if there is none."""
    return max(checkpoints.steps(out / "checkpoints"), default=0)


def stopped(group, out, after):
    """Sends SIGTERM to the last process once there is a checkpoint of a step after this one."""
    until = time.monotonic() + 200
    while newest(out) <= after:
        assert time.monotonic() < until and group.children[0].process.is_alive(), group.said
        time.sleep(0.02)
    os.kill(group.children[-1].process.pid, signal.SIGTERM)
    assert group.codes() == [75] * len(group.children), group.said


@pytest.mark.parametrize("count", (1, 4))
def test_so_many_processes_train_as_two_do(count, whole, tmp_path):
    group = together.start(count, tmp_path / "run", devices=4 // count)
    assert group.codes() == [0] * count, group.said
    close(ended(tmp_path / "run"), whole)


def test_members_train_once_in_all_processes(tmp_path):
    endings = []
    for count in (TWO, 1):
        out = tmp_path / f"run{count}"
        group = together.start(count, out, "--members", "2", "--steps", "12", devices=TWO // count)
        assert group.codes() == [0] * count, group.said
        endings.append(ended(out))
    two, one = endings
    assert two.result["members"] == one.result["members"] == 2
    assert np.allclose(two.result["train/loss"], one.result["train/loss"], rtol=1e-6)
    assert two.arrays["state/step"].tolist() == [12, 12]


LEGS = {
    "2 processes to 1": [(2, 1), (1, 1)],
    "1 process to 2": [(1, 2), (2, 1)],
    "4 processes to 2": [(4, 1), (2, 2)],
    "8 devices to 4 to 1 to 8": [(1, 8), (1, 4), (1, 1), (1, 8)],
}


# A state that each process has whole is tried on two processes, and at night on all.
RESUMED = [
    pytest.param(
        legs,
        split,
        id=f"{legs}-{'fsdp' if split else 'replicated'}",
        marks=() if split or legs == "2 processes to 1" else pytest.mark.nightly,
    )
    for legs in LEGS
    for split in (True, False)
]


@pytest.mark.parametrize(("legs", "split"), RESUMED)
def test_a_run_resumes_in_other_processes_on_other_devices(legs, split, whole, tmp_path):
    out, option = tmp_path / "run", [] if split else ["--no-split"]
    *first, last = LEGS[legs]
    for count, devices in first:
        before = newest(out)
        group = together.start(count, out, *option, devices=devices, pace=0.5)
        stopped(group, out, after=before)
        said = [text for text in group.said if "interrupted" in text]
        assert len(said) == 1 and "the same command resumes" in said[0], group.said
    group = together.start(last[0], out, *option, devices=last[1])
    assert group.codes() == [0] * last[0], group.said
    close(ended(out), whole)


DIFFERENT = {
    "data": "process 1 does not train the same run as process 0. Got data (training data)",
    "network": "process 1 does not train the same run as process 0. Got program (network,",
    "key": "process 1 does not train the same run as process 0. Got key (key or seed)",
    "directory": "does not see the directory of the first process",
}


@pytest.mark.parametrize("odd", DIFFERENT)
def test_what_differs_in_one_process_is_named_once(odd, tmp_path):
    began = time.monotonic()
    group = together.start(TWO, tmp_path / "run", "--odd", f"{odd}:1")
    assert group.codes() == [2, 2], group.said
    assert time.monotonic() - began < 2 * SOON
    (said,) = filter(None, (text.partition("run directory:")[2] or text for text in errors(group)))
    assert DIFFERENT[odd] in said


def errors(group):
    """Returns what each process has said that is no greeting of a command."""
    return [
        "".join(line for line in text.splitlines(True) if "device" not in line)
        for text in group.said
    ]


def test_a_defect_in_one_process_ends_all_with_its_traceback(tmp_path):
    group = together.start(TWO, tmp_path / "run", "--odd", "defect:1")
    assert group.codes() == [1, 1], group.said
    assert "a defect" in group.said[1] and "Traceback" not in group.said[0]


@pytest.mark.parametrize("split", [True, False], ids=["fsdp", "replicated"])
def test_all_processes_search_for_what_is_not_finite(split, tmp_path):
    out, option = tmp_path / "run", [] if split else ["--no-split"]
    group = together.start(TWO, out, "--fails", "5", *option)
    assert group.codes() == [3, 3], group.said
    (said,) = filter(None, errors(group))
    assert "first in step 5: log gave NaN in the update" in said
    report = json.loads((out / "quarantine" / "nan-5" / "report.json").read_text())
    assert report["finding"]["operation"] == "log" and len(report["batch"]) == 64
    assert newest(out) == 5


def _announces_late(place):
    """Delays what the main thread prints, so that jax aborts the process before."""
    announce = watch.announce

    def late(code, words):
        announce(code, words)
        time.sleep(3.0)

    watch.announce = late


@pytest.mark.parametrize("before", [None, _announces_late], ids=["", "aborted"])
def test_the_loss_of_the_first_process_is_said_once_in_one_line(before, tmp_path):
    group = together.start(4, tmp_path / "run", pace=0.5, before=before)
    until = time.monotonic() + 200
    while not newest(tmp_path / "run"):
        assert time.monotonic() < until and group.children[0].process.is_alive(), group.said
        time.sleep(0.02)
    group.children[0].kill()
    began = time.monotonic()
    assert group.codes(SOON)[1:] == [75, 75, 75], group.said
    assert time.monotonic() - began < SOON
    said = [text.count("a process of this run has ended. Got") for text in group.said]
    assert said == [0, 1, 0, 0], group.said
    assert "process 0" in group.said[1] and "resumes from its newest checkpoint" in group.said[1]


def test_of_two_copies_one_wins(whole, tmp_path):
    out = tmp_path / "run"
    groups = [together.start(TWO, out, pace=0.2, name=name) for name in ("one", "other")]
    codes = sorted(group.codes() for group in groups)
    assert codes == [[0, 0], [5, 5]], [group.said for group in groups]
    assert ended(out).bits == whole.bits
    lost = "".join(text for group in groups for text in errors(group))
    assert lost.count("another process") == 1
