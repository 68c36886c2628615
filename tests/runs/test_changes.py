"""A run resumes only as what it was: whatever was changed is named, and refused unless allowed."""

import ast
import re
import shutil
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue
from jaxnn.learning import no_gradients
from jaxnn.storage import checkpoints, manifest
from tests import failpoints
from tests.harness import counted, keep_pace
from tests.options import grouped
from tests.registry import real
from tests.trees import assert_same_bits

pytestmark = pytest.mark.slow

INPUTS = real(60, 4)
LABELS = INPUTS[:, :3].argmax(-1)
KEYS = jaxnn.keys(range(3))
SEED_1 = jax.random.key(1)
OTHER_KEYS = jaxnn.keys([0, 1, 3])
FOUR_KEYS = jaxnn.keys(range(4))
ONE = {"key": jax.random.key(0), "hparams": {"learning_rate": 0.1}}
THREE = {"key": KEYS, "hparams": {"learning_rate": [0.1, 0.2, 0.3]}}


@dataclass(frozen=True)
class Config:
    hidden: int = 8
    learning_rate: float = 0.1
    seed: int = 0
    note: str = "first"


def data(inputs=INPUTS, labels=LABELS, batch_size=12):
    return jaxnn.resident({"inputs": inputs, "labels": labels}, batch_size=batch_size)


def touched(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def learner(hidden=(8,), activation=jax.nn.relu, dropout=0.1, objective=None, optimizer=None):
    network = jaxnn.mlp(list(hidden), 3, activation=activation, dropout=dropout)
    return jaxnn.learner(network, objective or jaxnn.classification(), optimizer or adam())


def adam(steps=100, **options):
    def optimizer(h):
        rate = optax.cosine_decay_schedule(1.0, steps)
        return optax.adam(lambda step: h["learning_rate"] * rate(step), **options)

    return optimizer


def select(share):
    explore = {"learning_rate": (1e-3, 1.0)}
    return jaxnn.search.population_based_training("test/loss", explore, share=share)


def squared(outputs, batch):
    return jnp.square(outputs[:, 0] - batch["labels"])


DATA, TEST, LEARNER = data(), data(batch_size=30), learner()


def fit(out, allow_change=(), **changes):
    settings = {
        "learner": LEARNER, "data": DATA, "steps": 12, "every": 4, "evaluate": TEST,
        "watch": "test/loss", "config": Config(), "saving": jaxnn.Saving(seconds=0), **ONE,
    } | changes  # fmt: skip
    return jaxnn.fit(quiet=True, **grouped(out, allow_change=allow_change, **settings))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Returns `begun(which, out)`: the directory of `one` run that was stopped, or of `three`."""
    place = tmp_path_factory.mktemp("begun")

    @cache
    def stopped(which):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError):
            keep_pace(None, patch.setattr)
            failpoints.arm("after a row", 2, "RuntimeError", patch.setattr)
            fit(place / which, **(ONE if which == "one" else THREE))
        return place / which

    return lambda which, out: shutil.copytree(stopped(which), out / "run")


def files(out):
    """The bytes of each file but the lock, which says who was there last."""
    return {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"}


# What was changed; what must be named as got and as expected. A name at the end of a row says that
# the population is changed.
SOFT = {
    # The configuration.
    "config hidden": ({"config": Config(hidden=9)}, "hidden=9", "hidden=8"),
    "config rate": ({"config": Config(learning_rate=0.2)}, "rate=0.2", "rate=0.1"),
    "config seed": ({"config": Config(seed=5)}, "seed=5", "seed=0"),
    "config note": ({"config": Config(note="a")}, "note='a'", "note='first'"),
    "config field that is new": (
        {"config": {**vars(Config()), "decay": 0.1}}, "decay=0.1", "decay=None",
    ),
    # Network, objective, optimizer.
    "another activation": ({"learner": learner(activation=jnp.tanh)}, "network, obj", "program"),
    "another dropout": ({"learner": learner(dropout=0.2)}, "network, objective", "program"),
    "smooth labels": (
        {"learner": learner(objective=jaxnn.classification(label_smoothing=0.1))},
        "network, objective or optimizer", "program",
    ),
    "another b1": ({"learner": learner(optimizer=adam(b1=0.8))}, "or optimizer", "program"),
    "another schedule": ({"learner": learner(optimizer=adam(50))}, "or optimizer", "program"),
    # Data.
    "one number": ({"data": data(touched(INPUTS, (59, 3), 0.5))}, "data .training", "data"),
    "one label": ({"data": data(labels=touched(LABELS, 7, LABELS[7] - 1))}, "data .tr", "data"),
    "another order": ({"data": data(INPUTS[::-1], LABELS[::-1])}, "data .training", "data"),
    "more examples": (
        {"data": data(np.r_[INPUTS, INPUTS[:1]], np.r_[LABELS, LABELS[:1]])}, "data .tr", "data",
    ),
    "evaluation data": (
        {"evaluate": data(touched(INPUTS, 0, 0.5), batch_size=30)}, "data test", "data test",
    ),
    "batch size": ({"data": data(batch_size=10)}, "batch_size 10", "batch_size 12"),
    # How long, how often, which metric.
    "steps": ({"steps": 16}, "steps 16", "steps 12"),
    "every": ({"every": 3, "evaluate_every": 4}, "every 3", "every 4"),
    "evaluate every": ({"evaluate_every": 8}, "evaluate_every 8", "evaluate_every 4"),
    "watch": ({"watch": "test/accuracy"}, "watch .*accuracy", "watch .*loss"),
    "patience": ({"watch": jaxnn.Watch("test/loss", 3)}, "'patience': 3", "'patience': None"),
    "key": ({"key": SEED_1}, "key .key or seed.", "key"),
    "hyper-parameter": ({"hparams": {"learning_rate": 0.2}}, "rate 0.2", "rate 0.1"),
    "keys of members": ({**THREE, "key": OTHER_KEYS}, "key .key or seed.", "key", "three"),
    "rate of a member": (
        {**THREE, "hparams": {"learning_rate": [0.1, 0.2, 0.4]}}, "learning_rate", "rate", "three",
    ),
    "select": ({**THREE, "select": select(0.5)}, "network, objective", "program", "three"),
}  # fmt: skip
# These have other arrays, so that nothing can be allowed: the array that differs is named.
HARD = {
    "another layer": (
        {"learner": learner((8, 8))}, "nothing at .*hidden_2/bias", r"float32\[8\] there",
    ),
    "another width": ({"learner": learner((9,))}, r"\[8\] at .*hidden_1/bias", r"float32\[9\] th"),
    "another metric": (
        {"learner": learner(objective=jaxnn.classification(top_k=2))}, "top_2", "float32",
    ),
    "another optimizer": (
        {"learner": learner(optimizer=lambda h: optax.sgd(h["learning_rate"]))},
        r"int32\[\] at state/opt_state/", "nothing there",
    ),
    "a clip": (
        {"learner": learner(
            optimizer=lambda h: optax.chain(optax.clip_by_global_norm(1.0), adam()(h))
        )},
        "at state/opt_state/", "there",
    ),
    "evaluation under another name": (
        {"evaluate": {"held": TEST}, "watch": "held/loss"},
        "nothing at metrics/held/accuracy", r"float32\[\] there",
    ),
    "no watch": ({"watch": None}, "at best/", "nothing there"),
    "members": (THREE, r"float32\[4,8\] at|\[\] at", r"\[3"),
    "one more member": (
        {"key": FOUR_KEYS, "hparams": {"learning_rate": 0.1}}, r"\[3\] at", r"\[4\] ", "three",
    ),
    "one run of three": (ONE, r"\[3\] at", r"\[\] there", "three"),
}  # fmt: skip


def refused(out, changes, kind, compilations, **options):
    """Returns the words of the error, which comes before anything is compiled or written."""
    before = files(out)
    compilations.clear()
    with pytest.raises(kind) as caught:
        fit(out, **options, **changes)
    assert not compilations and files(out) == before
    got, expected = str(caught.value).split("; expected ")
    return got.partition(" Got ")[2], expected


def of_each(rows):
    """Parametrizes a test over rows; those of populations are slow."""
    slow = {name: pytest.mark.slow if row[-1] == "three" else () for name, row in rows.items()}
    return pytest.mark.parametrize("name", [pytest.param(n, marks=m) for n, m in slow.items()])


@of_each(SOFT)
def test_what_was_changed_is_named_and_refused(name, begun, tmp_path, compilations):
    changes, got, expected, which = (*SOFT[name], "one")[:4]
    out = begun(which, tmp_path)
    with counted(P5="changes before resuming, each reported, and refused unless allowed") as tried:
        words, rest = refused(out, changes, InvalidValue, compilations)
        assert re.search(got, words), words
        assert re.search(expected, rest), rest
        tried.append(name)


@of_each(HARD)
def test_an_array_that_does_not_fit_is_named_and_refused(name, begun, tmp_path, compilations):
    changes, got, expected, which = (*HARD[name], "one")[:4]
    out = begun(which, tmp_path)
    with counted(P5="changes of arrays before resuming, each reported and refused") as tried:
        words, rest = refused(out, changes, InvalidType, compilations)
        assert re.search(got, words), words
        assert re.search(expected, rest), rest
        assert "jaxnn.warm_start" in rest and "allow" not in rest
        tried.append(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOFT)
def test_with_the_names_that_the_error_gives_it_goes_on(name, begun, tmp_path, compilations):
    changes, *_, which = (*SOFT[name], "one")[:4]
    out = begun(which, tmp_path)
    early = (out / "metrics.jsonl").read_text().splitlines()[0]
    _, rest = refused(out, changes, InvalidValue, compilations)
    names = ast.literal_eval(re.search(r"allow_change=(\[.*?\])", rest)[1])
    run = fit(out, names, **changes)
    assert run.result["steps"] in (changes.get("steps", 12), [12, 12, 12])
    assert (out / "metrics.jsonl").read_text().startswith(early)


# --- What a change does ------------------------------------------------------------------------


def restored(out, **changes):
    """Returns the training and the trial that resumes, without a run directory."""
    settings = {"steps": 12, "every": 4, "evaluate": TEST, "watch": "test/loss", **ONE} | changes
    training = jaxnn.train(LEARNER, DATA, **settings)
    path = checkpoints.folders(out / "checkpoints")[0]
    content = manifest.read_manifest(path)
    trial = checkpoints.read_checkpoint(path, content, jax.eval_shape(training.whole))
    return training, trial, content["step"]


def ended(training, trial, step):
    return list(training.chunks(training.start(trial, step)))[-1]


def test_a_learning_rate_that_was_changed_acts(begun, tmp_path):
    """With one so small nothing moves any more."""
    out = begun("one", tmp_path)
    small = {"hparams": {"learning_rate": 1e-30}}
    training, trial, step = restored(out, **small)
    run = fit(out, ["learning_rate"], **small)
    assert_same_bits(run.state.params, trial.state.params)
    assert 4 <= step < 12 and int(run.state.step) == 12
    assert float(run.state.hparams["learning_rate"]) == np.float32(1e-30)
    # From here on it is what it has become: the change need not be allowed again.
    again = fit(out, resume=True, **small)
    assert_same_bits(again.state, run.state)


def test_a_seed_that_was_changed_acts(begun, tmp_path):
    """On the order of the data, and on dropout; the parameters are those that were trained."""
    out = begun("one", tmp_path)
    training, trial, step = restored(out, key=SEED_1)
    run = fit(out, ["key"], key=SEED_1)
    fresh = training.whole()
    trial = trial._replace(order=fresh.order, state=trial.state._replace(key=SEED_1))
    assert_same_bits(run.state, ended(training, trial, step).state)


def test_a_change_that_is_refused_leaves_the_configuration_as_it_was(begun, tmp_path):
    """Also if it was allowed, but the arrays do not fit: the earlier run resumes."""
    out = begun("one", tmp_path)
    with pytest.raises(InvalidType):
        fit(out, ["hidden"], config=Config(hidden=9), learner=learner((9,)))
    assert fit(out).result["steps"] == 12


def test_allowing_a_hyper_parameter_allows_nothing_else(begun, tmp_path):
    """Nor does it so where the configuration is the hyper-parameters; and the error has all names,
    so that who follows it can resume."""
    out = begun("one", tmp_path)
    config, other = Config(learning_rate=0.2), data(touched(INPUTS, 0, 0.5))
    changes = {"config": config, "hparams": {"learning_rate": 0.2}, "data": other}
    with pytest.raises(InvalidValue, match=r"allow_change=\['learning_rate', 'data'\]"):
        fit(out, ["learning_rate"], **changes)
    assert fit(out, ["learning_rate", "data"], **changes).result["steps"] == 12


def test_what_may_follow_from_a_field_that_was_allowed_is_allowed(begun, tmp_path):
    out = begun("one", tmp_path)
    changes = {"config": Config(seed=1), "key": SEED_1, "data": data(INPUTS[::-1], LABELS[::-1])}
    assert fit(out, ["seed"], **changes).result["steps"] == 12


def test_a_learner_that_hides_its_hyper_parameters_cannot_change_them(tmp_path):
    class State(NamedTuple):
        step: jax.Array
        rate: jax.Array

    def evaluate(state, batch):
        return {"loss": jaxnn.metrics.mean(batch["inputs"][:, 0], jnp.ones(12))}

    hidden = jaxnn.Learner(
        lambda key, hparams, batch: State(jnp.zeros((), jnp.int32), hparams["learning_rate"]),
        no_gradients,
        lambda state, batch, _: (state._replace(step=state.step + 1), evaluate(state, batch)),
        evaluate,
        lambda state, inputs: inputs,
    )
    options = {"learner": hidden, "evaluate": None, "watch": None}
    fit(tmp_path, **options)
    (tmp_path / "result.json").unlink()
    with pytest.raises(InvalidType, match="has no field for its hyper-parameters"):
        fit(tmp_path, ["learning_rate"], hparams={"learning_rate": 0.2}, **options)
