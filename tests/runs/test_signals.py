"""A signal saves and ends a run; what ends a process waits for what is being saved."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import harness
from tests.forked import environment
from tests.harness import KILLED, KINDS, again, counted, ending, sound, start

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LAST = r"checkpoints/\.draft-000000000020-\w+"  # that of the last step

# Where, at which time, and whether the run had begun.
PLACES = {
    "traced": 1,
    "owner written": 1,
    "compiling": 5,
    "dispatched": 3,
    "evaluating": 2,
    "after a row": 1,
    "copied": 2,
    "arrays begun": 2,
    "half of the trash": 3,  # of a kind that does not end before there is some
    "checkpoint unnamed": 2,
    "reading back": 1,
}
RARELY = ("dispatched", "evaluating", "after a row")  # where nothing else saves
RESTARTS = ("restoring", "rows cut")


# Every third place is for the night.
TRIED = [
    pytest.param(place, marks=pytest.mark.nightly if number % 3 == 2 else ())
    for number, place in enumerate([*PLACES, *RESTARTS])
]


def save_rarely():
    harness.SECONDS = 3600.0


@pytest.mark.parametrize("place", TRIED)
def test_a_signal_saves_and_ends_the_run_which_then_goes_on(place, tmp_path, reference):
    """SIGTERM ends the run, and SIGINT the run that resumes there, each at the same place."""
    kind = KINDS[[*PLACES, *RESTARTS].index(place) % len(KINDS)]
    whole, out, begun = reference(kind), tmp_path / "run", -1
    first = PLACES.get(place, 1)
    with counted(P8="signals, each followed by a save within a chunk and exit code 75") as tried:
        if place in RESTARTS:
            fault = "after a row", 2, "kill"  # there is a checkpoint then that has a row
            child = start(out, "--kind", kind, fault=fault, cache=reference.cache)
            assert child.wait() == KILLED
            begun = sound(out, whole)
        for number, time in ("SIGTERM", first), ("SIGINT", first if place == "compiling" else 1):
            fault, before = (place, time, number), save_rarely if place in RARELY else None
            child = start(out, "--kind", kind, fault=fault, cache=reference.cache, before=before)
            code, said = child.wait(), child.said
            assert f"fault: {number}" in said, said
            if code == 0 and begun > 0 and place == "half of the trash":
                break  # what is deleted last makes way for the last save: all steps were done
            assert code == 75, (code, said)
            tried.append(place)
            assert "interrupted" in said and "Traceback" not in said
            step = sound(out, whole) if out.exists() else -1
            assert step >= begun
            stopped = re.search(r"stopped at step (\d+) of 20; the same command resumes", said)
            assert (step == int(stopped[1])) if stopped else step == begun
            assert stopped or place not in RARELY
            begun = step
        child = start(out, "--kind", kind, *again(out), cache=reference.cache)
        assert ending(child, out) == whole


@pytest.mark.nightly
@pytest.mark.parametrize("place", ["dispatched", "after a row", "half of the arrays"])
@pytest.mark.parametrize("numbers", ["SIGTERM SIGTERM", "SIGINT SIGTERM"])
def test_a_second_signal_ends_the_process_at_once(place, numbers, tmp_path, reference):
    whole, out = reference("single"), tmp_path / "run"
    with counted(
        P8="second signals, each of which stopped the process at once, without harm"
    ) as tried:
        child = start(out, fault=(place, 3, numbers), cache=reference.cache)
        assert child.wait() == -signal.SIGTERM, child.said
        tried.append(place)
        sound(out, whole)
        child = start(out, cache=reference.cache)
        assert ending(child, out) == whole


# --- How a process ends ------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
import jaxnn
from tests import compiling, failpoints, harness
compiling.fast()
harness.keep_pace(0.0)  # so that nothing waits for a save but what has to
for fault in {faults}:
    failpoints.arm(*fault)
config = harness.Config()
run = harness.main(config, jaxnn.Directory(sys.argv[1], "small", config))
{after}
"""


def script(out, reference, *faults, after=""):
    """Runs a script of its own, as a user does; returns its exit code and its errors."""
    code = SCRIPT.format(faults=faults, after=after)
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        cwd=ROOT, env=environment(reference.cache), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stderr


FIRST = ("os:fsync", "before", r"checkpoints/\.draft-\d+-\w+")
# A failure of the last save: while it is written, when it is named.
FULL = [("os:fsync", "before", LAST), ("file:write", "half", LAST), ("os:replace", "before", LAST)]


@pytest.mark.parametrize(
    "after, code", [("", 0), ("sys.exit(3)", 3), ("raise ValueError('mine')", 1)]
)
def test_what_follows_a_run_cannot_take_its_last_checkpoint(after, code, tmp_path, reference):
    whole, out = reference("single"), tmp_path / "run"
    with counted(P11="scripts that ended, each after its pending save") as tried:
        got, errors = script(out, reference, (FULL[0], 1, "sleep"), after=after)
        assert got == code, errors
        tried.append(after)
        assert sound(out, whole) == 20 and (out / "result.json").exists()


def test_an_error_in_the_middle_waits_for_what_is_being_saved(tmp_path, reference):
    whole, out = reference("single"), tmp_path / "run"
    with counted(P11="scripts that failed, each after its pending save") as tried:
        # The first save, of an early chunk, is under way when the fifth has been dispatched.
        fault, slow = ("dispatched", 5, "RuntimeError"), (FIRST, 1, "sleep")
        code, errors = script(out, reference, slow, fault)
        assert code == 1 and "RuntimeError" in errors, errors
        tried.append(fault)
        assert sound(out, whole) >= 1
        assert not list((out / "checkpoints").glob(".draft*"))


@pytest.mark.nightly
@pytest.mark.parametrize("where", FULL)
def test_a_last_save_that_fails_is_an_error_and_nothing_is_lost(where, tmp_path, reference):
    whole, out = reference("single"), tmp_path / "run"
    with counted(P11="failed last saves, each reported with exit code 6") as tried:
        child = start(out, fault=(where, 1, "ENOSPC"), cache=reference.cache)
        assert child.wait() == 6, child.said
        tried.append(where)
        assert "storage: checkpoint: the disk is full" in child.said
        assert 0 < sound(out, whole) < 20 and not (out / "result.json").exists()
        assert ending(start(out, cache=reference.cache), out) == whole


def test_without_the_command_a_last_save_that_fails_raises(tmp_path, reference):
    whole, out = reference("single"), tmp_path / "run"
    with counted(P11="failed last saves in a script, each raised as an error") as tried:
        code, errors = script(out, reference, (FULL[0], 1, "ENOSPC"))
        assert code == 1 and "OSError: [Errno 28] No space left on device" in errors, errors
        tried.append(code)
        assert 0 < sound(out, whole) < 20
