"""Which values of a metric are good is said by the metric, or else by `Watch`; never guessed."""

import inspect
import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import metrics
from jaxnn.learning import TrainState
from tests.registry import OBJECTIVES, real, whole
from tests.registry import real as draws

INPUTS = draws(32, 4)
DATA = jaxnn.resident({"inputs": INPUTS, "labels": INPUTS[:, :3].argmax(1)}, batch_size=8)
TWO = {"inputs": INPUTS, "labels": (INPUTS[:, 0] > 0).astype(np.int32)}
FACTS = {"accuracy": "higher", "loss": "lower", "ppl": "lower", "calm": "lower", "f": "higher"}


@cache  # one learner compiles once, however many tests run it
def learner(classes, measured):
    goal = jaxnn.classification(metrics=dict(measured))
    return jaxnn.learner(jaxnn.linear(classes), goal, optax.sgd(0.3))


def trained(watch, data=DATA, classes=3, steps=12, measured={}, **options):
    made = learner(classes, tuple(measured.items()))
    given = {"steps": steps, "every": 4, "key": jax.random.key(0)} | options
    return jaxnn.fit(made, data, evaluate=data, watch=watch, quiet=True, **given)


def silent(logits, labels, weights):
    return metrics.mean(labels, weights)


MEASURED = {"ppl": metrics.perplexity, "calm": metrics.calibration_error, "f": metrics.f1}


@pytest.mark.parametrize("name", FACTS)
def test_the_best_is_that_of_the_metric_s_own_direction(name):
    run = trained(f"test/{name}", measured=MEASURED)
    values = [row[f"test/{name}"] for row in run.history]
    assert run.result[f"best/test/{name}"] == (min if FACTS[name] == "lower" else max)(values)


def test_a_metric_without_a_direction_is_asked_for_one():
    options = {"measured": {"perplexity": silent}}
    with pytest.raises(jaxnn.InvalidValue, match=r"which values of test/perplexity .*better='hi"):
        trained("test/perplexity", **options)
    run = trained(jaxnn.Watch("test/perplexity", better="higher"), **options)
    assert "best/test/perplexity" in run.result


def test_all_metrics_say_which_way_is_better():
    logits, labels, weights = real(9, 2), whole(2, 9), np.ones(9, np.float32)
    given = {"logits": logits, "labels": labels, "weights": weights, "k": 1}
    given |= {"predictions": real(9), "targets": real(9, seed=1)}
    silent = {"confusion", "mean", "merge", "ratio", "values", "has_value", "empty", "Metric"}
    for name in set(metrics.__all__) - silent - {"lower_is_better"}:
        measure = getattr(metrics, name)
        parameters = inspect.signature(measure).parameters
        own = given | ({"logits": real(3, 9, 2)} if name == "disagreement" else {})
        own = {n: jnp.asarray(x) if n != "k" else x for n, x in own.items() if n in parameters}
        assert measure(**own).better == ("lower" if metrics.lower_is_better(name) else "higher")


@pytest.mark.parametrize("case", OBJECTIVES, ids=lambda case: case.name)
def test_the_metrics_of_an_objective_say_it_too(case):
    batch = jax.tree.map(jnp.asarray, {"index": np.arange(8), **case.data})
    outputs = batch.pop("outputs")
    if case.name == "classification_measured":
        return  # they are a user's own
    for name, metric in case.thing.metrics(outputs, batch).items():
        assert metric.better is not None, name


def test_a_watched_metric_that_never_is_a_number_leaves_the_last_state():
    alike = TWO | {"labels": np.zeros(32, np.int32)}
    data, watch = jaxnn.resident(alike, batch_size=8), jaxnn.Watch("test/auc")
    with pytest.warns(jaxnn.Caution, match="test/auc was not a number at any evaluation"):
        run = trained(watch, data, 2, measured={"auc": metrics.auc})
    np.testing.assert_array_equal(run.best.params["weight"], run.state.params["weight"])
    assert (run.predict(INPUTS).argmax(1) == 0).mean() > 0.9
    assert math.isnan(run.result["best/test/auc"])


def test_the_first_number_is_the_best_after_evaluations_without_one():
    """Nothing is better than no number: -1e30 is the best, and the state is its own."""

    def late(outputs, batch):
        value = jnp.where(outputs[:, 0] > 0, -1e30, jnp.nan)
        return {"late": metrics.mean(value, jnp.ones(len(value)), better="higher")}

    goal = jaxnn.objective(lambda o, b: (o[:, 0] - 1.0) ** 2, metrics=late)
    learner = jaxnn.learner(jaxnn.linear(1, bias=False), goal, optax.sgd(0.01))
    data = jaxnn.resident({"inputs": np.ones((4, 1))}, batch_size=4)
    options = {"steps": 200, "every": 1, "evaluate": data, "watch": "test/late", "quiet": True}
    for seed in range(9):
        state = learner.init(jax.random.key(seed), {}, data.batch(jnp.int32(0)))
        if state.params["weight"] < 0:
            break
    run = jaxnn.fit(learner, data, key=jax.random.key(seed), **options)
    values = [row["test/late"] for row in run.history]
    first = next(i for i, value in enumerate(values) if not math.isnan(value))
    assert first > 0 and run.result["best/step"] == first + 1 == int(run.best.step)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.0, 0.0]], ids=str)
def test_a_loss_diverges_by_the_value_that_is_reported(weights):
    """A window whose weights are all 0 has no value, without anything being wrong."""
    window = {"loss": metrics.mean(jnp.array([1.0, 2.0]), jnp.array(weights))}
    assert jaxnn.driver.trial.is_good((), window)
    assert not jaxnn.driver.trial.is_good(
        (), {"loss": metrics.Metric((jnp.array(1.0), jnp.array(0.0)), metrics.ratio)}
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_state_is_good_if_parameters_are_finite_and_nothing_is_nan(dtype):
    """Infinity is allowed outside of the parameters, such as an initial best loss."""
    fine = jnp.full((3, 5), jnp.finfo(dtype).max, dtype)
    window, empty = {"loss": metrics.mean(jnp.ones(1), jnp.ones(1))}, jnp.zeros((0, 2), dtype)
    state = TrainState(jnp.int32(0), {"w": fine, "b": empty}, {}, {"best": fine}, None, {}, {})
    is_good = jax.jit(jaxnn.driver.trial.is_good)
    assert is_good(state, window)
    for value in (jnp.nan, jnp.inf, -jnp.inf):
        bad = fine.at[2, 3].set(value)
        assert not is_good(state._replace(params={"w": bad, "b": empty}), window)
        assert is_good(state._replace(opt_state={"best": bad}), window) == (not math.isnan(value))


def test_a_member_that_stops_before_the_first_evaluation_has_no_value():
    rates = np.float32([0.1, 1e32])
    learner = jaxnn.learner(
        jaxnn.linear(3), jaxnn.classification(), lambda h: optax.sgd(h["learning_rate"])
    )
    data = DATA
    run = jaxnn.fit(
        learner, data, steps=12, every=jaxnn.Every(4, 12), evaluate=data, quiet=True,
        key=jax.random.key(0), hparams={"learning_rate": rates},
    )  # fmt: skip
    assert math.isfinite(run.result["test/loss"][0])


def test_a_selection_asks_the_metric_too():
    keep = jaxnn.search.successive_halving
    options = {"key": jaxnn.keys([0, 1, 2]), "measured": {"ppl": metrics.perplexity}}
    statuses = [
        trained(None, select=keep("test/ppl", 12, **how), **options).result["status"]
        for how in ({}, {"lower": True}, {"lower": False})
    ]
    assert statuses[0] == statuses[1] != statuses[2]
    options["measured"] = {"ppl": silent}
    with pytest.raises(jaxnn.InvalidValue, match="which values of test/ppl .*lower=True or low"):
        trained(None, select=keep("test/ppl", 12), **options)
