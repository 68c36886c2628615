"""A hundred bad inputs: each is answered at once, before anything compiles, and changes no file.

Those of networks, data and training are the tables of `test_errors.py` and its like; here are those
of runs that are saved and resumed.
"""

import json
import shutil
import time
from functools import partial

import jax
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue, Saving
from tests.driver import test_errors, test_errors_parts, test_errors_population
from tests.harness import counted
from tests.mistakes import DATA, KEY, RATE, judge, learner
from tests.options import grouped

OTHER = jax.random.key(1)
KEYS = jax.random.split(KEY, 3)
LEARNER, WIDE = learner(), learner(jaxnn.mlp([9], 3))
V, T = InvalidValue, InvalidType


def fit(out, learner=LEARNER, **settings):
    options = {"steps": 3, "key": KEY, "config": {"rate": 0.1, "note": "mine"}, **settings}
    return jaxnn.fit(learner, DATA, quiet=True, **grouped(out, **options))


def sweep(out, **settings):
    runs = jaxnn.sweep({"rate": [0.1, 0.2]})
    return jaxnn.fit_sweep(runs, lambda *_: None, quiet=True, **grouped(out, **settings))


def in_file(out, **settings):
    return fit(out / "config.json", **settings)


def elsewhere(out, **settings):
    return fit(out / "checkpoints", **settings)


def unreadable(out, text="{"):
    place = out.with_name("unreadable")
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(text)
    return fit(place)


# A mistake, a function of the directory of a run that was stopped; then as in `test_errors.py`.
CASES = {
    # When to save.
    "seconds below 0": (lambda out: Saving(seconds=-1), V, "seconds=-1;", "Pass, say, seconds="),
    "seconds in words": (lambda out: Saving(seconds="60"[:0]), V, "seconds=''", "say, seconds="),
    "seconds that are no number": (
        lambda out: Saving(seconds=float("nan")), V, "seconds=nan;", "Pass, say, seconds=",
    ),
    "none that is last": (lambda out: Saving(last=0), V, "last=0;", "Pass, say, last=1"),
    "half a last": (lambda out: Saving(last=2.5), V, r"last=2\.5;", "Pass, say, last=1"),
    "best below 0": (lambda out: Saving(best=-1), V, "best=-1;", "Pass, say, best=1"),
    "best in part": (lambda out: Saving(best=0.5), V, r"best=0\.5;", "Pass, say, best=1"),
    "every none": (lambda out: Saving(every=0), V, "every=0;", "Pass, say, every=1"),
    "every as a duration": (
        lambda out: Saving(every="1 epoch"), V, "every='1 epoch'", "Pass, say, every=1",
    ),
    "saving in seconds": (
        partial(fit, saving=60), T, "saving has the wrong type. Got a int", r"Saving\(seconds=60\)",
    ),
    # Where.
    "a number for a directory": (lambda out: fit(3), T, "out=3;", "say, out='runs/mine'"),
    "a directory without a name": (lambda out: fit(""), T, "out='';", "say, out='runs/mine'"),
    "a name that no system takes": (lambda out: fit("a\0b"), T, r"out='a\\x00b'", "say, out="),
    "a file for a directory": (in_file, V, "Got a file;", "Choose another directory"),
    "a directory of something else": (
        elsewhere, V, "a directory with other files and no config.json", "Choose another directory",
    ),
    "a configuration that is cut": (unreadable, V, "that is not JSON", "Choose another directory"),
    "a configuration that is a list": (
        partial(unreadable, text="[1]"), V, "Got a config.json that", "Choose another directory",
    ),
    # What it is.
    "a list as configuration": (
        partial(fit, config=[1, 2]), T, "config has the wrong type. Got a list", "Pass config={",
    ),
    "words as configuration": (
        partial(fit, config="mine"), T, "config has the wrong type. Got a str", "Pass config={",
    ),
    "another configuration": (
        partial(fit, config={"rate": 0.2, "note": "mine"}), V, "Got rate=0.2; expected rate=0.1",
        r"allow_change=\['rate'\]",
    ),
    "a field less": (
        partial(fit, config={"rate": 0.1}), V, "Got note=None; expected note='mine'", "'note'",
    ),
    "another change than was allowed": (
        partial(fit, config={"rate": 0.2, "note": "yours"}, allow_change=["note"]),
        V, "Got rate=0.2, note='yours'", r"allow_change=\['note', 'rate'\]",
    ),
    "a change that was misspelt": (
        partial(fit, config={"rate": 0.2, "note": "mine"}, allow_change=["rat"]),
        V, "Got rate=0.2", "'rate'",
    ),
    # What resumes.
    "a change that is a word": (
        partial(fit, allow_change="rate"), T, "Got allow_change='rate'; expected a list", "Pass, s",
    ),
    "changes that are numbers": (
        partial(fit, allow_change=[3]), T, r"allow_change=\[3\]; expected a list of names", "Pass",
    ),
    "resuming without a directory": (
        lambda out: fit(None, resume=True), T, "Got out=None", "Pass, say, out='runs/mine'",
    ),
    "resuming with another key": (
        partial(fit, key=OTHER), V, r"key \(key or seed\)", r"allow_change=\['key'\]",
    ),
    "resuming for longer": (
        partial(fit, steps=4), V, "Got steps 4", r"steps 3\. .*allow_change=\['steps'\]",
    ),
    "resuming with another network": (
        partial(fit, learner=WIDE), T, r"float32\[8\] at state/params/hidden_1/bias", "warm_start",
    ),
    "resuming as a population": (
        partial(fit, key=KEYS), T, r"Got int32\[\] at state/step; expected int32\[3\]", "Train w",
    ),
    "resuming with evaluation": (
        partial(fit, evaluate=DATA), T, "Got nothing at metrics/test/", "Train with the network",
    ),
    "resuming with a rate that nothing reads": (
        partial(fit, hparams=RATE | {"decay": 0.1}), V, "never read", "Leave it out",
    ),
    # Sweeps.
    "a sweep by no metric": (
        partial(sweep, metric="accuracy"), V, "metric='accuracy'", "Pass test/accuracy",
    ),
    "a sweep over an unknown field": (
        partial(sweep, structural=["width"]), V, "'?width'?", "rate",
    ),
    "a sweep in a directory of another": (
        sweep, V, r"rate=\[0\.1, 0\.2\]", "Choose another directory",
    ),
    "a sweep that is to resume by a word": (
        partial(sweep, allow_change="rate"), T, "allow_change='rate'", "Pass, say, allow_change=",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Returns the directory of a run that was stopped before its end."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    fit(out)
    (out / "result.json").unlink()
    return out


def files(out):
    """The bytes of each file but the lock, which says who was there last."""
    return {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_about_a_run_is_answered_and_changes_no_file(name, stopped, compilations):
    mistake, *answer = CASES[name]
    before = files(stopped)
    with counted(
        P4="bad inputs, each an error that states the fix, before anything compiled"
    ) as tried:
        began = time.process_time()
        judge((lambda: mistake(stopped), *answer), compilations)
        assert time.process_time() - began < 1
        assert files(stopped) == before
        tried.append(name)


def test_the_run_itself_goes_on(stopped, tmp_path):
    """So that it is the mistakes that are refused, and not the run."""
    out = shutil.copytree(stopped, tmp_path / "run")
    assert fit(out).out == out and json.loads((out / "result.json").read_text())["steps"] == 3


TABLES = (test_errors, test_errors_parts, test_errors_population)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_answer_takes_less_than_a_second(table, compilations):
    with counted(
        P4="bad inputs, each an error that states the fix, before anything compiled"
    ) as tried:
        for name, case in table.CASES.items():
            began = time.process_time()
            judge(case, compilations)
            assert time.process_time() - began < 1, name
            tried.append(name)


def test_there_are_more_than_a_hundred():
    assert sum(len(table.CASES) for table in TABLES) + len(CASES) > 100
    assert len(CASES) > 30
