"""Selection, ensembles and the range test: facts from planted problems and hand computations."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.driver.trial import Trial
from jaxnn.loop.statuses import DIVERGED, DROPPED, EMPTY, RUNNING, STATUSES
from jaxnn.search.selection import ranks
from tests.trees import assert_close, assert_same_bits, numbers


def keys(count):
    return jax.vmap(jax.random.key)(np.arange(count))


def line(examples=256, noise=0.0, seed=0):
    draws = np.random.default_rng(seed)
    inputs = draws.normal(size=(examples, 8)).astype(np.float32)
    labels = inputs @ np.arange(1, 9, dtype=np.float32)[:, None] / 4
    labels = labels + noise * draws.normal(size=labels.shape)
    return {"inputs": inputs, "labels": labels.astype(np.float32)}


@cache
def straight():
    return jaxnn.learner(
        jaxnn.linear(1), jaxnn.regression(), lambda h: optax.sgd(h["learning_rate"])
    )


def trials(losses, status=None, member=None, steps=1, **fields):
    """Returns trials that stand where they are said to."""
    count = len(losses)
    state = jaxnn.TrainState(
        step=jnp.full(count, steps, jnp.int32), params={"w": jnp.arange(float(count))}, state={},
        opt_state=(), key=keys(count), hparams={"learning_rate": jnp.ones(count)}, extra={},
    )  # fmt: skip
    member = jnp.arange(count) if member is None else jnp.array(member)
    return Trial(
        state=state, window={}, order=keys(count), best=None, member=member, parent=member,
        status=jnp.array(status or [RUNNING] * count, jnp.int8),
        metrics={"test/loss": jnp.array(losses, jnp.float32)},
    )._replace(**fields)  # fmt: skip


# --- Ranks -------------------------------------------------------------------------------------


def test_ranks_are_those_of_a_sort_with_nan_last_and_ties_by_member():
    some = trials([3.0, 1.0, math.nan, 1.0, 0.0], [0, 0, 0, 0, DROPPED], member=[0, 3, 1, 2, 4])
    among = some.status == RUNNING
    assert ranks(some, "test/loss", among).tolist() == [2, 1, 3, 0, 4]
    assert ranks(some, "test/loss", among, lower=False).tolist() == [0, 2, 3, 1, 4]


def test_an_unknown_metric_is_answered_with_the_nearest():
    with pytest.raises(jaxnn.InvalidValue, match="Did you mean 'test/loss'"):
        ranks(trials([1.0]), "test/los", jnp.array([True]))


# --- Successive halving ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "left"), [(11, 8), (12, 8), (13, 4), (24, 4), (25, 2), (49, 2), (50, 1), (100, 1)]
)
def test_the_cuts_of_halving_are_where_the_paper_has_them(step, left):
    """8 members, 100 steps: half of them at 12.5, 25 and 50 steps."""
    status = [RUNNING] * 8 + [EMPTY]
    after = jaxnn.search.successive_halving("test/loss", 100)(
        jax.random.key(0), trials([*map(float, range(8)), 0.0], status, steps=step)
    )
    assert after.status.tolist() == [RUNNING] * left + [DROPPED] * (8 - left) + [EMPTY]


@pytest.mark.parametrize("keep", [0.5, 1 / 3, 0.1])
@pytest.mark.parametrize("members", [2, 9, 16, 100])
def test_halving_costs_what_its_docstring_says(members, keep):
    total, steps = 0, 10_000
    some = trials([*map(float, range(members))])
    select = jax.jit(jaxnn.search.successive_halving("test/loss", steps, keep=keep))
    for step in range(100, steps + 1, 100):
        total += 100 * int((some.status == RUNNING).sum())
        moved = some.state._replace(step=jnp.full(members, step, jnp.int32))
        some = select(jax.random.key(0), some._replace(state=moved))
    cuts = math.ceil(math.log(members) / -math.log(keep) - 1e-9)
    first = steps * keep**cuts
    left = [math.ceil(members * keep**cut - 1e-9) for cut in range(cuts + 1)]
    spans = [first] + [
        first * keep**-cut - first * keep ** -(cut - 1) for cut in range(1, cuts + 1)
    ]
    wanted = sum(number * span for number, span in zip(left, spans))
    assert (some.status == RUNNING).tolist() == [True] + [False] * (members - 1)
    assert wanted - 1e-6 <= total <= wanted + 100 * members  # each cut at the next evaluation


@pytest.mark.slow
def test_halving_finds_the_best_setting_at_under_a_third_of_the_steps():
    """The planted problem: labels with an offset that only one of 32 settings comes near to."""

    def moved(h):
        return jaxnn.serial(
            jaxnn.linear(1, bias=False), jaxnn.stateless(lambda p, inputs: inputs + h["offset"])
        )

    learner = jaxnn.learner(moved, jaxnn.regression(), optax.sgd(0.02))
    fields = line()
    data = jaxnn.resident(fields | {"labels": fields["labels"] + 0.7}, batch_size=32)
    options = {"steps": 320, "key": keys(32), "evaluate": data, "quiet": True, "every": 10}
    options["hparams"] = {"offset": np.random.default_rng(0).permutation(np.linspace(-3, 3, 32))}
    full = jaxnn.fit(learner, data, **options)
    select = jaxnn.search.successive_halving("test/loss", 320)
    halved = jaxnn.fit(learner, data, **options, select=select)
    (winner,) = np.flatnonzero(np.array(halved.result["status"]) == "done")
    assert winner == np.argmin(full.result["test/loss"])
    assert winner == np.argmin(np.abs(options["hparams"]["offset"] - 0.7))
    assert sum(halved.result["steps"]) < sum(full.result["steps"]) / 3
    for part in ("params", "key"):
        mine, solo = ([getattr(run.state, part)] for run in (halved, full))
        mine, solo = jax.tree.map(lambda x: x[winner], (numbers(mine), numbers(solo)))
        assert_same_bits(mine, solo)


# --- Population-based training -----------------------------------------------------------------


def test_exploit_copies_the_best_and_explore_perturbs_within_bounds():
    some = trials([5.0, 1.0, 9.0, 2.0, 7.0, 3.0, 0.5, 8.0], [0, 0, 0, 0, 0, 0, DIVERGED, EMPTY])
    select = jaxnn.search.population_based_training(
        "test/loss", {"learning_rate": (0.9, 1.1)}, share=0.34
    )
    after = jax.jit(select)(jax.random.key(3), some)
    parents, weights = after.parent.tolist(), after.state.params["w"].tolist()
    assert [parents[i] for i in (0, 1, 3, 5, 7)] == [0, 1, 3, 5, 7]
    assert all(parents[i] in (1, 3) for i in (2, 4, 6))
    assert weights == [float(i) for i in parents]
    assert after.status.tolist() == [RUNNING] * 7 + [EMPTY]
    rates = after.state.hparams["learning_rate"]
    assert all(rates[i] == 1.0 for i in (0, 1, 3, 5, 7))
    assert all(rates[i] in (jnp.float32(0.9), jnp.float32(1.1)) for i in (2, 4, 6))
    assert_same_bits(after.state.key, some.state.key)


@pytest.mark.slow
def test_it_does_not_matter_where_members_are():
    losses = [5.0, 1.0, 9.0, 2.0, 7.0, 3.0]
    order = np.array([4, 2, 0, 5, 1, 3])
    some = trials(losses)
    moved = jax.tree.map(lambda x: x[order], some)
    select = jaxnn.search.population_based_training("test/loss", {"learning_rate": (0.1, 10.0)})
    key = jax.random.key(1)
    assert_same_bits(jax.tree.map(lambda x: x[order], select(key, some)), select(key, moved))


@pytest.mark.slow
def test_it_beats_the_best_fixed_setting_where_a_schedule_is_needed():
    """The planted problem: noisy labels, where a high rate is fast and only a low one is exact."""
    data = jaxnn.resident(line(4096, noise=3.0), batch_size=4)
    test = jaxnn.resident(line(seed=1), batch_size=256)
    rates = np.geomspace(1e-4, 0.1, 16)
    options = {"steps": 1000, "key": keys(16), "evaluate": test, "quiet": True, "every": 25}
    options["hparams"] = {"learning_rate": rates}
    fixed = jaxnn.fit(straight(), data, **options)
    select = jaxnn.search.population_based_training("test/loss", {"learning_rate": (1e-5, 0.5)})
    evolved = jaxnn.fit(straight(), data, **options, select=select)
    assert min(evolved.result["test/loss"]) < 0.7 * min(fixed.result["test/loss"])
    assert np.median(evolved.result["select/learning_rate"]) < 0.5 * np.median(
        evolved.history[4]["select/learning_rate"]
    )
    assert any(p != i for i, p in enumerate(evolved.history[1]["select/parent"]))


def test_a_learner_without_hyper_parameters_cannot_explore():
    some = trials([1.0, 2.0])._replace(state=(jnp.zeros(2),))
    with pytest.raises(jaxnn.InvalidType, match="a selection of your own"):
        jaxnn.search.population_based_training("test/loss", {"a": (0.0, 1.0)})(
            jax.random.key(0), some
        )
    with pytest.raises(jaxnn.InvalidValue, match="Did you mean 'learning_rate'"):
        select = jaxnn.search.population_based_training("test/loss", {"learn_rate": (0.0, 1.0)})
        select(jax.random.key(0), trials([1.0, 2.0]))
    with pytest.raises(jaxnn.InvalidValue, match="nothing to explore"):
        jaxnn.search.population_based_training("test/loss", {})(jax.random.key(0), trials([1.0]))


# --- Ensembles ---------------------------------------------------------------------------------


@cache
def judges():
    draws = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    labels = (draws.sum(1) > 0).astype(np.int32)
    data = jaxnn.resident({"inputs": draws, "labels": labels}, batch_size=16)
    learner = jaxnn.learner(jaxnn.mlp([8], 2), jaxnn.classification(), optax.adam(1e-2))
    return draws, jaxnn.fit(learner, data, steps=30, key=keys(3), quiet=True)


@pytest.mark.slow
def test_an_ensemble_answers_with_the_mean_of_its_members():
    inputs, run = judges()
    each = run.predict(inputs)
    assert each.shape == (3, 64, 2)
    outputs = {}
    for average in ("probabilities", "outputs", "none"):
        network = jaxnn.ensemble(run.learner, run.state, average=average)
        params, state = network.init(jax.random.key(0), inputs)
        assert params == {}
        outputs[average], _ = network.apply(params, state, inputs)
    shares = np.exp(each) / np.exp(each).sum(-1, keepdims=True)
    assert_close(np.exp(outputs["probabilities"]), shares.mean(0))
    assert_close(outputs["outputs"], each.mean(0))
    assert_close(outputs["none"], each.swapaxes(0, 1))


@pytest.mark.slow
def test_an_ensemble_is_evaluated_as_any_network():
    inputs, run = judges()
    data = jaxnn.resident({"inputs": inputs, "labels": np.zeros(64, np.int32)}, batch_size=24)
    judge = jaxnn.learner(
        jaxnn.ensemble(run.learner, run.state), jaxnn.classification(), optax.identity()
    )
    state = judge.init(jax.random.key(0), {}, data.in_order(0))
    evaluated = jaxnn.evaluate(judge, state, data)
    answers = judge.predict(state, inputs).argmax(-1)
    assert evaluated["accuracy"] == pytest.approx(float((answers == 0).mean()))


def test_an_ensemble_of_one_run_is_answered():
    inputs, run = judges()
    state = jax.tree.map(lambda x: x[0], run.state)
    with pytest.raises(jaxnn.InvalidType, match="the state of one run"):
        jaxnn.ensemble(run.learner, state)


# --- The range test ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_range_test_finds_where_training_breaks():
    """SGD on a mean square loss with inputs of variance 1 diverges at a rate of about 1."""
    data = jaxnn.resident(line(), batch_size=256)
    tested = jaxnn.search.learning_rate_range(
        straight(), data, key=jax.random.key(0), low=1e-4, high=100.0, count=25, steps=60
    )
    assert tested.rates.shape == tested.losses.shape == (25,)
    assert np.isinf(tested.losses[-1]) and np.isfinite(tested.losses[0])
    hessian = 2 * np.linalg.eigvalsh(np.cov(line()["inputs"].T)).max()
    assert 0.05 * 2 / hessian < tested.best < 2 / hessian


def test_the_bounds_of_the_range_test_are_named_as_they_were_given():
    data = jaxnn.resident(line(), batch_size=256)
    with pytest.raises(jaxnn.InvalidValue, match=r"learning_rate_range: high .*Got high=0\.5;"):
        jaxnn.search.learning_rate_range(straight(), data, key=jax.random.key(0), low=1.0, high=0.5)


def test_statuses_are_named():
    assert STATUSES[RUNNING] == "running" and STATUSES[DIVERGED] == "diverged"
