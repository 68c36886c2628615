"""Loading a run: the parameters that it predicts with, best and latest, and the raw ones."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.storage import manifest
from tests.gan import gan_data, gan_learner
from tests.golden import make
from tests.registry import real, whole
from tests.trees import assert_close, assert_same_bits

KEY = jax.random.key(0)
INPUTS, LABELS = real(24, 5), whole(3, 24)
DATA = jaxnn.resident({"inputs": INPUTS, "labels": LABELS}, batch_size=6)
NETWORK = jaxnn.mlp([4], 3)


@cache  # one learner compiles once, however many tests run it
def learner(network):
    return jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.5))


def trained(out, *, network=NETWORK, change=lambda learner: learner, **options):
    # The rate is so high that the best evaluation is not the last one.
    options = {"key": KEY, "watch": "test/loss", "every": 1, "evaluate": DATA} | options
    return jaxnn.fit(change(learner(network)), DATA, steps=6, quiet=True, out=out, **options)


def averaged(learner):
    return jaxnn.average(learner, decay=0.9)


@pytest.mark.parametrize("key", [KEY, jax.random.split(KEY, 2)], ids=["run", "population"])
@pytest.mark.parametrize("change", [lambda learner: learner, averaged], ids=["plain", "average"])
def test_the_parameters_are_those_that_the_run_predicts_with(change, key, tmp_path):
    run = trained(tmp_path, change=change, key=key)
    for which, state in {"best": run.best, "latest": run.state}.items():
        loaded = jaxnn.load(tmp_path, which)
        assert_same_bits(loaded.params, run.learner.eval_params(state))
        assert_same_bits(loaded.raw_params, state.params)
        differ = not np.array_equal(
            loaded.params["hidden_1"]["weight"], loaded.raw_params["hidden_1"]["weight"]
        )
        assert differ == (change is averaged)


def test_an_average_starts_another_run_as_it_was_evaluated(tmp_path):
    """The outputs of the warm start are those of the run, its average and its best state."""
    run = trained(tmp_path, change=averaged)
    started = jaxnn.warm_start(NETWORK, jaxnn.load(tmp_path).params, INPUTS)
    params, state = started.network.init(KEY, INPUTS)
    assert_close(NETWORK.apply(params, state, INPUTS)[0], run.predict(INPUTS))


def test_an_average_of_half_precision_has_the_dtype_of_the_parameters(tmp_path):
    narrow = NETWORK._replace(
        init=lambda key, inputs: jax.tree.map(
            lambda x: x.astype(jnp.bfloat16), NETWORK.init(key, inputs)
        )
    )
    run = trained(tmp_path, network=narrow, change=averaged)
    loaded = jaxnn.load(tmp_path)
    assert_same_bits(loaded.params, run.learner.eval_params(run.best))
    assert loaded.params["hidden_1"]["weight"].dtype == jnp.bfloat16


def test_a_checkpoint_that_does_not_say_predicts_with_its_parameters():
    for kind in make.KINDS[1]:
        loaded = jaxnn.load(make.FOLDER / "format-1" / kind)
        assert loaded.params and loaded.raw_params.keys() == loaded.params.keys()
        assert_same_bits(loaded.raw_params, loaded.params)


def test_a_path_that_is_not_text_is_corrupt(tmp_path):
    trained(tmp_path)
    folder = next((tmp_path / "checkpoints").glob("[0-9]*"))
    content = manifest.read_manifest(folder)
    assert content["eval_path"] == "params"
    with pytest.raises(ValueError, match="eval_path"):
        manifest._check_content(content | {"eval_path": 3})


def test_a_learner_by_hand_is_loaded_as_its_parameters_are(tmp_path):
    run = jaxnn.fit(gan_learner(), gan_data(), steps=2, key=KEY, quiet=True, out=tmp_path)
    params = jaxnn.load(tmp_path).params
    assert_same_bits(params["0"]["hidden_1"], run.state.params[0]["hidden_1"])


def test_a_directory_of_runs_is_not_loaded_but_named(tmp_path):
    trained(tmp_path / "sweep" / "hidden=8")
    with pytest.raises(jaxnn.NoCheckpoint, match="such as the newest: .*/sweep/hidden=8"):
        jaxnn.load(tmp_path / "sweep")


def test_nothing_to_load_is_explained(tmp_path):
    with pytest.raises(
        jaxnn.NoCheckpoint, match="has no checkpoint to load. Got no such directory"
    ):
        jaxnn.load(tmp_path / "nowhere")


def test_the_best_member_is_so_by_the_watched_metric(tmp_path):
    """In the latest states too, and not by the metric of a run that watches none."""
    watch = jaxnn.Watch("test/loss", better="higher")
    run = trained(tmp_path, key=jax.random.split(KEY, 6), watch=watch)
    worst = int(np.argmax(run.result["test/loss"]))
    assert worst != int(np.argmax(run.result["test/accuracy"]))
    assert jaxnn.load(tmp_path, "latest").member == worst
    assert jaxnn.load(tmp_path).member == int(np.argmax(run.result["best/test/loss"]))


def test_the_best_member_is_one_that_has_been_measured(tmp_path):
    """One that diverged before its first evaluation has no metric, and is never the best."""
    data = jaxnn.resident({"inputs": real(32, 4), "labels": real(32, 1)}, batch_size=8)
    learner = jaxnn.learner(
        jaxnn.linear(1), jaxnn.regression(), lambda h: optax.sgd(h["learning_rate"])
    )
    rates = {"learning_rate": np.float32([1e25, 0.1, 0.001])}
    for watch in (None, "test/loss"):
        out = tmp_path / str(watch)
        run = jaxnn.fit(
            learner, data, steps=40, key=jax.random.key(0), hparams=rates, evaluate=data,
            every=jaxnn.Every(4, 8), watch=watch, out=out, quiet=True,
        )  # fmt: skip
        assert run.result["status"][0] == "diverged" and np.isnan(run.result["test/loss"][0])
        assert jaxnn.load(out).member == int(np.nanargmin(run.result["test/loss"]))
