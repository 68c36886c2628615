"""A learner that makes its own data trains on `None`: here a policy that learns by REINFORCE."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_equal

import jaxnn
from jaxnn.catalog import failures
from jaxnn.checks import Invalid, InvalidValue
from jaxnn.driver import Execution
from jaxnn.loop import unroll
from jaxnn.metrics import mean
from jaxnn.runs.executable import NoProgram
from jaxnn.runs.output import NotFinite
from jaxnn.storage.identity import identity

KEY = jax.random.key(3)
SHAPES = {"inputs": np.zeros((1, 3), np.float32), "labels": np.zeros(1, np.int32)}


def reinforce():
    """Returns a learner that is to choose, of four actions, the one after the state it is in."""
    policy = jaxnn.learner(
        jaxnn.linear(4), jaxnn.classification(), lambda hparams: optax.adam(hparams["rate"])
    )

    def play(state, key, greedy=False):
        """Returns states, the actions of the policy, and the rewards as weights."""
        draw, act = jax.random.split(key)
        places = jax.random.randint(draw, (64,), 0, 3)
        observations = jax.nn.one_hot(places, 3)
        logits = policy.predict(state, observations)
        actions = jnp.argmax(logits, -1) if greedy else jax.random.categorical(act, logits)
        rewards = jnp.where(actions == places + 1, 1.0, 0.0)
        return {"inputs": observations, "labels": actions, "weights": rewards}

    def reward(played):
        return {"reward": mean(played["weights"], jnp.ones(64), better="higher")}

    def init(key, hparams, batch):
        return policy.init(key, hparams, SHAPES)

    def gradients(state, batch, part=None, factor=None):
        assert not batch
        played = play(state, jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step))
        computed: Any = policy.gradients(state, played, part, factor)
        return computed._replace(metrics=reward(played))

    def evaluate(state, batch):
        return reward(play(state, jax.random.fold_in(state.key, 2), greedy=True))

    return jaxnn.Learner(init, gradients, policy.update, evaluate, policy.predict)


LEARNER = reinforce()
SETTINGS: dict[str, Any] = {"key": KEY, "hparams": {"rate": 0.1}, "quiet": True}


def plain(state):
    return state._replace(key=None)


def test_a_policy_learns_from_what_it_does(tmp_path, recwarn):
    run = jaxnn.fit(
        LEARNER, None, steps=100, evaluate={"greedy": None}, watch="greedy/reward",
        out=jaxnn.Directory(tmp_path / "run", report=True), **SETTINGS,
    )  # fmt: skip
    assert run.result["greedy/reward"] == 1 and run.history[0]["train/reward"] < 0.6
    assert [row["step"] for row in run.history] == [*range(10, 101, 10)]
    assert "epoch" not in run.history[0] and not recwarn.list
    assert run.predict(np.eye(3, dtype=np.float32)).argmax(-1).tolist() == [1, 2, 3]
    assert jaxnn.evaluate(LEARNER, run.state, None) == {"reward": 1.0}
    assert (tmp_path / "run" / "report.html").exists()
    loaded = jaxnn.load(tmp_path / "run")
    with pytest.raises(NoProgram, match="fit writes if it is given data.*network.apply"):
        loaded.predict(np.eye(3, dtype=np.float32))
    outputs, _ = jaxnn.linear(4).apply(loaded.params, loaded.state, np.eye(3, dtype=np.float32))
    assert outputs.argmax(-1).tolist() == [1, 2, 3]


def test_run_fit_train_and_unroll_agree_and_resume(tmp_path):
    whole = jaxnn.fit(LEARNER, None, steps=20, **SETTINGS)
    state = jax.jit(LEARNER.init)(KEY, {"rate": np.float32(0.1)}, {})
    after, _ = jax.jit(jaxnn.run, static_argnums=0)(LEARNER, state, None, 20)
    assert_trees_all_equal(plain(after), plain(whole.state))
    unrolled, _ = jax.jit(unroll(LEARNER, 20))(state, None)
    np.testing.assert_allclose(unrolled.params["weight"], after.params["weight"], rtol=1e-5)
    training = jaxnn.train(LEARNER, None, steps=20, key=KEY, hparams={"rate": 0.1})
    *_, saved = (
        jax.tree.map(jnp.copy, progress.trial)
        for progress in training.chunks(training.start(), until=7)
    )
    *_, state = (progress.state for progress in training.chunks(training.start(saved, 7)))
    assert_trees_all_equal(plain(state), plain(whole.state))


@pytest.mark.parametrize("form", ["looped", "stepped"])
def test_a_population_of_policies_trains(form):
    keys = jaxnn.keys([1, 2, 3])
    settings: dict[str, Any] = {**SETTINGS, "steps": 20, "execution": Execution(form=form)}
    run = jaxnn.fit(LEARNER, None, **{**settings, "key": keys}, evaluate={"test": None})
    one = jaxnn.fit(LEARNER, None, **{**settings, "key": keys[1]})
    own = jax.tree.map(lambda x: x[1], plain(run.state))
    assert_trees_all_equal(own, plain(one.state))
    assert len(run.result["test/reward"]) == 3


def test_a_policy_trains_on_a_mesh():
    one = jaxnn.fit(LEARNER, None, steps=20, **SETTINGS)
    several = jaxnn.fit(LEARNER, None, steps=20, mesh=jaxnn.scale.mesh(), **SETTINGS)
    for name, weight in one.state.params.items():
        np.testing.assert_allclose(several.state.params[name], weight, rtol=1e-5)


def test_the_identity_of_a_run_without_data_depends_on_its_key_alone():
    def of(key):
        return identity(jaxnn.train(LEARNER, None, steps=5, key=key, hparams={"rate": 0.1}))

    first, other = of(KEY), of(jax.random.key(4))
    assert first == of(KEY) and first["data"] == "none"
    assert {name for name in first if first[name] != other[name]} == {"key"}


def test_what_cannot_be_without_data_is_said():
    with pytest.raises(InvalidValue, match="in epochs, but the learner makes its own.*steps=1000"):
        jaxnn.train(LEARNER, None, steps="2 epochs", key=KEY, hparams={"rate": 0.1})
    with pytest.raises(InvalidValue, match="every is in examples.*or a share"):
        jaxnn.train(LEARNER, None, steps=5, every="10 examples", key=KEY, hparams={"rate": 0.1})
    plain = jaxnn.learner(jaxnn.linear(2), jaxnn.classification(), optax.sgd(0.1))
    with pytest.raises(Invalid, match="data=None"):
        jaxnn.train(plain, None, steps=5, key=KEY)


def test_a_run_that_is_not_finite_is_diagnosed_without_data(tmp_path):
    def update(state, batch, gradients):
        after, metrics = LEARNER.update(state, batch, gradients)
        factor = jnp.where(state.step == 7, jnp.nan, 1.0)
        return after._replace(params=jax.tree.map(lambda x: x * factor, after.params)), metrics

    learner, out = LEARNER._replace(update=update), tmp_path / "run"
    with pytest.raises(NotFinite, match="first in step 7"):
        jaxnn.fit(learner, None, steps=20, out=out, **SETTINGS)
    (report,) = failures.reports(out)
    assert report["epoch"] is None and report["batch"] == []
    assert "Step 7 was the first that was not finite" in failures.text(report)
