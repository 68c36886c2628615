"""What is not finite ends a run, is located and reported, and is never saved."""

import json
import math
import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.learning._learner import ORDER
from jaxnn.storage import checkpoints
from tests import failpoints
from tests.harness import bits, counted, keep_pace
from tests.options import grouped
from tests.registry import real

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
STEPS, EVERY, BATCH = 12, 4, 8
INPUTS = real(48, 3)  # six steps are an epoch
LABELS = INPUTS.sum(1, keepdims=True)


def data(inputs=INPUTS, labels=LABELS):
    return jaxnn.resident({"inputs": inputs, "labels": labels}, batch_size=BATCH)


def touched(array, example, value):
    array = array.copy()
    array[example] = value
    return array


DATA = data()
ORDERED = DATA.shuffled(jax.random.fold_in(KEY, ORDER))
BATCHES = [np.asarray(ORDERED.batch(jnp.int32(step))["index"]).tolist() for step in range(STEPS)]
WHICH = BATCHES[5][0]  # an example that comes at step 5, and no earlier


def rate(h):
    return optax.sgd(h["learning_rate"])


def linear(optimizer=rate, layer=None):
    layers = [("first", jaxnn.linear(4, bias=False)), *([("odd", layer)] if layer else [])]
    network = jaxnn.serial(*layers, ("last", jaxnn.linear(1)))
    return jaxnn.learner(network, jaxnn.regression(), optimizer)


def spoilt(step, nan=True):
    """A learner whose parameters are spoilt at a step; they become infinite unless `nan`."""
    base = linear()

    def spoil(state, batch, gradients):
        after, metrics = base.update(state, batch, gradients)
        zero = jnp.where(state.step == step, 0.0, 1.0)
        bad = 1.0 / zero if not nan else zero / zero
        return after._replace(params=jax.tree.map(lambda x: x * bad, after.params)), metrics

    return base._replace(update=spoil)


def root(x):
    return jnp.sqrt(jnp.abs(x))


def log(x):
    return jnp.log(jnp.abs(x))


def burst(h):
    return optax.sgd(lambda step: h["learning_rate"] + jnp.log(jnp.where(step == 5, -1.0, 1.0)))


STRANGE = data(labels=touched(LABELS, WHICH, 1e30))
ZERO = data(inputs=touched(INPUTS, WHICH, 0.0))
SPOILT = "div", "", "forward"
# What is injected: the learner, the data and more; the first bad step, and of the finding the
# operation, its layer and its phase.
INJECTIONS = {
    "a label": ((linear(), STRANGE), 5, "integer_pow|square", "", "forward"),
    "forward": ((linear(layer=jaxnn.activation(log)), ZERO), 5, "log", "odd", "forward"),
    "gradient": ((linear(layer=jaxnn.activation(root)), ZERO), 5, "div", "odd", "backward"),
    "optimizer": ((linear(burst),), 5, "log", "", "update"),
    "parameters": ((spoilt(6),), 6, *SPOILT),
    "infinite parameters": ((spoilt(6, nan=False),), 6, *SPOILT),
    "the first step": ((spoilt(0),), 0, *SPOILT),
    "the last step": ((spoilt(11),), 11, *SPOILT),
    "the first step after a report": ((spoilt(4),), 4, *SPOILT),
    "step by step": ((spoilt(6), DATA, {"form": "stepped"}), 6, *SPOILT),
    "watched": ((spoilt(7), DATA, {"watch": "test/loss"}), 7, *SPOILT),
}


def settings(learner, on=DATA, more={}):
    return {
        "learner": learner, "data": on, "steps": STEPS, "every": EVERY, "key": KEY,
        "hparams": {"learning_rate": 0.01}, "evaluate": DATA, **more,
    }  # fmt: skip


def fit(out, *given, saving=jaxnn.Saving(seconds=0), **more):
    options = {**settings(*given), **more, "saving": saving}
    return jaxnn.fit(quiet=True, **grouped(out, **options))


def ends(out, *given, **more):
    with pytest.raises(jaxnn.NotFinite) as caught:
        fit(out, *given, **more)
    return str(caught.value)


def saved(out):
    """Returns the arrays of each checkpoint, by its step; all of them are whole."""

    def on_corrupt(path, error):
        pytest.fail(f"{path}: {error}")

    good = checkpoints.verified(out / "checkpoints", on_corrupt)
    return {content["step"]: checkpoints.read_checkpoint(path, content) for path, content in good}


def is_clean(arrays):
    names = [name for name in arrays if name.startswith(("state/", "best/"))]
    assert "state/step" in names
    return not [name for name in names if np.isnan(arrays[name].astype(np.float64)).any()]


def report(out):
    (path,) = (out / "quarantine").glob("nan-*/report.json")
    return json.loads(path.read_text())


QUICK = "the first step after a report"


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == QUICK else pytest.mark.slow) for n in INJECTIONS]
)
def test_the_first_bad_step_is_found_and_the_state_before_it_kept(name, tmp_path, monkeypatch):
    given, first, operation, layer, phase = INJECTIONS[name]
    keep_pace(None, monkeypatch.setattr)
    with counted(P10="faults injected into a run, each reported and never saved") as tried:
        text = ends(tmp_path, *given)
        assert f"first in step {first}: " in text
        written = report(tmp_path)
        assert (written["step"], written["checkpoint"], written["again"]) == (first, first, False)
        assert written["batch"] == BATCHES[first] and written["epoch"] == pytest.approx(first / 6)
        finding = written["finding"]
        assert re.fullmatch(operation, finding["operation"]) and finding["sentence"] in text
        assert (finding["layer"], finding["phase"]) == (layer, phase)
        # The newest is the state before that step, as training that ends there comes to it.
        arrays = saved(tmp_path)
        assert all(map(is_clean, arrays.values())) and max(arrays) == first
        training = jaxnn.train(**grouped(**settings(*given)))
        start = training.start()
        *_, last = [start, *training.chunks(start, until=first)]
        alone = {n: x for n, x in arrays[first].items() if n.startswith("state/")}
        assert [*bits(alone).values()] == [*bits(flat(last.state)).values()]
        # The same again comes to the same end at once.
        steps = failpoints.arm("dispatched", 0, "count", monkeypatch.setattr)
        assert f"first in step {first}, as before: " in ends(tmp_path, *given)
        assert len(steps) <= EVERY and report(tmp_path)["again"]
        assert saved(tmp_path).keys() == arrays.keys()
        tried.append(name)


def flat(state):
    return {jax.tree_util.keystr(path): x for path, x in jax.tree.leaves_with_path(state)}


def test_an_evaluation_that_is_not_finite_blames_no_step(tmp_path):
    given = linear(), DATA, {"evaluate": {"odd": STRANGE}, "watch": "odd/loss"}
    with counted(P10="faults injected into a run, each reported and never saved") as tried:
        text = ends(tmp_path, *given)
        assert "odd/loss is not finite. Got inf at step 4, no step from" in text
        written = report(tmp_path)
        assert (
            written["step"] is None and written["metric"] == "odd/loss" and written["batch"] == []
        )
        assert all(map(is_clean, saved(tmp_path).values()))
        tried.append("evaluation")


def error(outputs, batch):
    return jnp.square(outputs - batch["labels"]).mean(-1)


def score(outputs, batch):
    """No number as long as the error is large."""
    value = error(outputs, batch)
    value = jnp.where(value.mean() > 1.0, jnp.nan, value)
    return {"score": jaxnn.metrics.mean(value, jaxnn.objectives.weights_of(batch, value))}


def test_a_watched_number_that_is_nan_is_never_the_best(tmp_path, monkeypatch):
    """No loss is wrong, so the run continues; what is best, and saved as such, is a number."""
    learner = jaxnn.learner(jaxnn.linear(1), jaxnn.objective(error, metrics=score), rate)
    watch = {"watch": jaxnn.Watch("test/score", better="higher"), "every": 2}
    more = watch | {"hparams": {"learning_rate": 0.1}}
    with counted(P10="faults injected into a run, each reported and never saved") as tried:
        keep_pace(None, monkeypatch.setattr)
        run = fit(tmp_path, learner, DATA, more)
        scores = [row["test/score"] for row in run.history]
        assert math.isnan(scores[0]) and math.isfinite(scores[-1])
        best = max(score for score in scores if math.isfinite(score))
        assert run.result["best/test/score"] == best
        folder = tmp_path / "checkpoints"
        values = [checkpoints.read_manifest(path)["value"] for path in checkpoints.folders(folder)]
        assert best in values
        tried.append("best")


def guarded_log(h):
    layer = jaxnn.activation(lambda x: jnp.log(jnp.abs(x) + h["eps"]))
    return jaxnn.serial(jaxnn.linear(4, bias=False), layer, jaxnn.linear(1))


def plain(h):
    return jaxnn.linear(1)


CURES = {
    "eps": (guarded_log, ZERO, {"learning_rate": 0.01, "eps": 0.0}, 5, 1e-3),
    "learning_rate": (plain, DATA, {"learning_rate": 3e38}, 0, 0.1),
}


@pytest.mark.nightly
@pytest.mark.parametrize("name", CURES)
def test_from_before_the_bad_step_it_goes_on_with_what_cures_it(name, tmp_path):
    network, on, hparams, first, value = CURES[name]
    learner = jaxnn.learner(network, jaxnn.regression(), rate)
    ends(tmp_path, learner, on, {"hparams": hparams})
    assert report(tmp_path)["step"] == first
    cured = {"hparams": hparams | {name: value}}
    with pytest.raises(jaxnn.InvalidValue, match=f"{name}=.*; expected {name}="):
        fit(tmp_path, learner, on, cured)
    run = fit(tmp_path, learner, on, cured, allow_change=[name])
    assert [row["step"] for row in run.history] == [4, 8, 12]
    assert all(math.isfinite(row["train/loss"]) for row in run.history)


@pytest.mark.nightly
def test_a_member_diverges_alone_and_the_population_is_kept(tmp_path, monkeypatch):
    keep_pace(None, monkeypatch.setattr)
    more = {
        "key": jaxnn.keys(range(3)), "hparams": {"learning_rate": [0.1, 1e30, 0.05]},
        "watch": "test/loss",
    }  # fmt: skip
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        failpoints.arm("after a row", 2, "RuntimeError", patch.setattr)
        fit(tmp_path, linear(), DATA, more)
    saved_arrays = saved(tmp_path)
    assert any(
        arrays["status"].tolist() == [0, jaxnn.loop.STATUSES.index("diverged"), 0]
        for arrays in saved_arrays.values()
    )
    for arrays in saved_arrays.values():
        for name, array in arrays.items():
            if name.startswith(("state/", "best/")):
                assert np.isfinite(array[[0, 2]].astype(np.float64)).all()
            if name.startswith("best/"):
                assert not np.isnan(array.astype(np.float64)).any()
    run = fit(tmp_path, linear(), DATA, more)
    assert run.result["status"] == ["done", "diverged", "done"]
    assert run.result["steps"][0] == run.result["steps"][2] == STEPS
    assert not (tmp_path / "quarantine").exists()


@dataclass(frozen=True)
class Config:
    learning_rate: float = 0.01  # step size


def main(config, out, **options):
    return fit(out, spoilt(6), **options)


@pytest.mark.slow
def test_of_a_command_it_is_exit_code_3_also_the_second_time(tmp_path, command_line):
    for words in ("first in step 6: ", "first in step 6, as before: "):
        code, _, errors = command_line(Config, main, "--out", "run", "--no-compile-cache")
        assert code == 3 and words in errors and "Traceback" not in errors
