"""A run that was stopped anywhere and resumed ends as one that nothing stopped, bit for bit.

Stops are errors here, in this process and so in little time; those that end a process, by a kill or
a signal, are in `test_kills.py` and its like.
"""

import json
import os
import sys
from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.models.flax import from_flax
from jaxnn.storage import checkpoints
from jaxnn.storage.checkpointing import Checkpointer
from tests import failpoints
from tests.cases import held, real, whole
from tests.experiments.test_experiments import load, shrunk
from tests.flax_models import NnxModel
from tests.gan import gan_data, gan_learner
from tests.harness import bits, counted, ended, keep_pace, timeless
from tests.options import grouped
from tests.registry import BATCH, LEARNERS

ALWAYS, AT_REPORTS = jaxnn.Saving(seconds=0), jaxnn.Saving(seconds=1e9, every=1)
RATES = np.array([0.3, 0.01, 1e30, 0.1, 3.0])  # one of five diverges


def network():
    return jaxnn.serial(
        jaxnn.linear(8), jaxnn.batch_norm(), jaxnn.activation(jax.nn.relu), jaxnn.dropout(0.2),
        jaxnn.linear(3),
    )  # fmt: skip


# Each is compiled once, however many tests run it.
CLASSIFIER = jaxnn.learner(
    network(), jaxnn.classification(), lambda h: optax.sgd(h["learning_rate"], momentum=0.9)
)
POINTS = {"inputs": real(100, 4), "labels": real(100, 4)[:, :3].argmax(-1)}
IMAGES = {"inputs": real(32, 6, 6, 1), "labels": whole(3, 32)}
DATA, TEST = jaxnn.resident(POINTS, batch_size=16), jaxnn.resident(POINTS, batch_size=64)
SELECT = jaxnn.search.population_based_training("test/loss", {"learning_rate": (1e-3, 1.0)})
POPULATION = {"key": jaxnn.keys(range(5)), "hparams": {"learning_rate": RATES}}


def fit(out, learner=CLASSIFIER, data=DATA, **settings):
    defaults = {
        "steps": 16,
        "every": 4,
        "key": jax.random.key(0),
        "hparams": {"learning_rate": 0.01},
        "evaluate": TEST,
        "quiet": True,
        "saving": ALWAYS,
    }
    return jaxnn.fit(learner, data, **grouped(out, **{**defaults, **settings}))


def ending(run):
    return ended(run.out, bits({"state": run.state, "best": run.best}))


@pytest.fixture
def stop(monkeypatch):
    """Returns `stop(call, place, number)`: a call that an error stops, at a failpoint."""

    def stop(call, place, number=1):
        with monkeypatch.context() as patch:
            # An error of the disk would not stop it everywhere: a save is tried again.
            failpoints.arm(place, number, "RuntimeError", patch.setattr)
            with pytest.raises(RuntimeError, match="of the test"):
                call()

    keep_pace(None, monkeypatch.setattr)
    return stop


STOPS = [
    ("dispatched", 1),
    ("copied", 2),
    ("after a row", 1),
    ("half of a row", 1),
    ("arrays written", 1),
    ("restored", 1),
    ("rows cut", 1),
    ("checkpoint named", 3),
    ("evaluated", 1),
    ("result unnamed", 1),
]
FEW = {"steps": 12, "every": 2}
KINDS = {
    "single": {"watch": "test/loss"},
    "stepped": {"form": "stepped"},
    "patience": {"watch": jaxnn.Watch("test/loss", patience=2, margin=1e6)},
    "several evaluations": {
        "evaluate": {"test": TEST, "held_out": jaxnn.resident(POINTS, batch_size=50)},
        "evaluate_every": 8, "watch": "held_out/accuracy",
    },
    "population": POPULATION | {"watch": "test/loss"},
    "population of one": {"key": jaxnn.keys([3])},
    "stopping population": POPULATION | {"watch": jaxnn.Watch("test/loss", patience=1)},
    "side by side": POPULATION | {"width": 2, "watch": "train/loss"},
    "one after another, stepped": POPULATION | {"form": "stepped"},
    "halving": POPULATION | {"select": jaxnn.search.successive_halving("test/loss", 16)},
    "population-based": POPULATION | {"select": SELECT, "watch": "test/loss"},
    "gan": {"learner": gan_learner(), "data": gan_data(), "hparams": None, "evaluate": None},
    "nnx": {
        "learner": jaxnn.learner(
            from_flax(NnxModel, outputs=3), jaxnn.classification(), optax.adam(0.01)
        ),
        "data": jaxnn.resident(IMAGES, batch_size=12), "hparams": None, "evaluate": None,
    },
}  # fmt: skip


# Those that are like others in what stops and resumes.
SELDOM = {"nnx", "one after another, stepped", "population of one", "side by side"}


def quick(name, kinds):
    """Parametrizes a test over kinds of runs, all but one of which are slow."""

    def mark(kind):
        return pytest.mark.nightly if kind in SELDOM else pytest.mark.slow

    marked = [k if k == kinds[0] else pytest.param(k, marks=mark(k)) for k in kinds]
    return pytest.mark.parametrize(name, marked)


@quick("kind", [*KINDS])
def test_a_run_that_is_stopped_five_times_ends_as_if_nothing_had_been(kind, tmp_path, stop):
    unbroken = ending(fit(tmp_path / "unbroken", saving=None, **KINDS[kind]))
    with counted(P1="errors injected at named places of one process") as tried:
        for place in STOPS[list(KINDS).index(kind) % 2 :: 2]:
            stop(lambda: fit(tmp_path / "run", **KINDS[kind]), *place)
            tried.append(place)
        assert ending(fit(tmp_path / "run", **KINDS[kind])) == unbroken


@pytest.mark.slow
@held(LEARNERS, "resume", seldom={"convnet", "embedding", "nnx", "regression"})
def test_resume(case, tmp_path, stop):
    """Training, saving, loading and training is training, for every learner there is."""

    def run(name):
        data = jaxnn.resident(case.data, batch_size=BATCH)
        settings = {"steps": 11, "every": 11, "hparams": case.facts.get("hparams")}
        return fit(tmp_path / name, case.thing, data, evaluate=None, **settings)

    stop(lambda: run("run"), "before a row")
    assert checkpoints.steps(tmp_path / "run" / "checkpoints")[0] in range(1, 11)
    assert ending(run("run")) == ending(run("unbroken"))


# --- Which are retained ------------------------------------------------------------------------


def retained(run):
    return checkpoints.steps(run.out / "checkpoints")[::-1]


@pytest.mark.slow
def test_those_after_so_many_steps_are_kept_for_good(tmp_path, stop):
    saving = jaxnn.Saving(seconds=0, every=6, best=0)
    stop(lambda: fit(tmp_path, saving=saving), "after a row", 3)
    run = fit(tmp_path, saving=saving)
    # The reports after steps 6 and 12, and the last two.
    assert retained(run)[:2] == [8, 12] and retained(run)[-1] == 16 and len(retained(run)) <= 4


def test_the_best_is_kept_by_its_value_also_over_a_stop(tmp_path, stop):
    """A rate that is far too high makes it worse and worse: the best comes first."""
    settings = {"hparams": {"learning_rate": 3.0}, "watch": "test/loss"}
    stop(lambda: fit(tmp_path, **settings), "after a row", 3)
    run = fit(tmp_path, **settings)
    losses = {row["step"]: row["test/loss"] for row in run.history}
    best = min(losses, key=losses.get)
    assert best < 12 and retained(run)[0] == best and retained(run)[-1] == 16
    assert run.result["best/test/loss"] == losses[best] == min(losses.values())


# --- resume=True -------------------------------------------------------------------------------


def test_nothing_to_go_on_with_is_an_error_where_there_must_be(tmp_path, stop):
    with pytest.raises(jaxnn.NoCheckpoint, match="there is no run to resume. Got no run in"):
        fit(tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()
    stop(lambda: fit(tmp_path / "run"), "dispatched")
    with pytest.raises(jaxnn.NoCheckpoint, match="Leave out resume .--resume., to start over"):
        fit(tmp_path / "run", resume=True)
    assert fit(tmp_path / "run").result["steps"] == 16


@quick("kind", ["single", "population-based"])
def test_a_finished_run_is_returned_as_it_is(kind, tmp_path, monkeypatch):
    run = fit(tmp_path, **KINDS[kind])
    before = files(tmp_path)
    steps = failpoints.arm("dispatched", 0, "count", monkeypatch.setattr)
    again = fit(tmp_path, resume=True, **KINDS[kind])
    assert not steps and files(tmp_path) == before
    assert ending(again) == ending(run) and again.out == run.out
    np.testing.assert_equal(again.result, run.result)
    np.testing.assert_equal(again.history, run.history)


def files(out):
    """The bytes of each file but the lock, which says who was there last."""
    return {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_finished_run_goes_on_to_more_steps_as_if_they_had_been_asked_for(tmp_path):
    fit(tmp_path / "run", steps=8)
    with pytest.raises(jaxnn.InvalidValue, match="Got steps 16; expected steps 8"):
        fit(tmp_path / "run", resume=True)
    longer = fit(tmp_path / "run", resume=True, allow_change=["steps"])
    assert ending(longer) == ending(fit(tmp_path / "unbroken"))


# --- Runs of several parts ---------------------------------------------------------------------

PARTS = {
    "halving_mnist": ["settings"],
    "ensemble_mnist": ["members"],
    "pbt_digits": ["fixed", "evolved"],
    "sweep": ["width=4", "width=8"],
}


@pytest.mark.nightly
@pytest.mark.parametrize("name", PARTS)
def test_a_run_of_parts_goes_on_in_the_one_in_which_it_was_stopped(
    name, tmp_path, monkeypatch, stop, capsys
):
    """And those that are finished are not done again: their rows keep the times that they have."""
    monkeypatch.setattr(sys.modules["jaxnn.runs.output"], "Checkpointer", at_reports)
    main = sweep if name == "sweep" else experiment(name, monkeypatch)
    unbroken = outcome(main(tmp_path / "unbroken"), PARTS[name])
    out, done = tmp_path / "run", {}
    for part in PARTS[name]:
        stop(lambda: main(out), ("os:write", "half", f"/{part}/metrics"), 2)
        assert checkpoints.steps(out / part / "checkpoints")
        assert not (out / part / "result.json").exists()
        assert all(path.read_bytes() == rows for path, rows in done.items())
        finished = [path.parent / "metrics.jsonl" for path in out.glob("*/result.json")]
        done |= {path: path.read_bytes() for path in finished}
    stop(lambda: main(out), ("os:replace", "before", "-> .*/run/result"))
    assert outcome(main(out), PARTS[name]) == unbroken
    assert all(path.read_bytes() == rows for path, rows in done.items())


def at_reports(directory, training, saving, config):
    return Checkpointer(directory, training, AT_REPORTS, config)


def sweep(out):
    def train(values, runs, out):
        learner = jaxnn.learner(
            jaxnn.mlp([values["width"]], 3), jaxnn.classification(), lambda h: optax.sgd(h["rate"])
        )
        return fit(out.path, learner, key=runs.key, hparams=runs.hparams)

    runs = jaxnn.sweep({"rate": [0.1, 1e30], "width": [4, 8]}, seeds=2)
    return jaxnn.fit_sweep(runs, train, structural=["width"], out=out, quiet=True)


def experiment(name, monkeypatch):
    """Returns the experiment, a function of its directory, over in a few reports."""
    module = load(name)
    if "mnist" in name:
        if not os.environ.get("JAXNN_DATA"):
            pytest.skip("MNIST is not here: set JAXNN_DATA to a folder that holds it")
        few = tuple({k: v[:320] for k, v in part.items()} for part in jaxnn.datasets.mnist())
        monkeypatch.setattr(jaxnn.datasets, "mnist", lambda: few)
    config = shrunk(module.Config())
    config = replace(config, epochs=0.08 if name == "pbt_digits" else 2.0)
    return lambda out: module.main(config, jaxnn.Directory(out, name, config))


def outcome(run, parts):
    """What a run of parts came to, but for the times."""
    states = (
        {} if isinstance(run, jaxnn.search.Swept) else bits({"state": run.state, "best": run.best})
    )
    result = json.loads((run.out / "result.json").read_text()) | {"seconds": 0}
    ends = [json.loads((run.out / part / "result.json").read_text()) for part in parts]
    rows = [timeless((run.out / part / "metrics.jsonl").read_bytes()) for part in parts]
    return states, result, [end | {"seconds": 0} for end in ends], rows
