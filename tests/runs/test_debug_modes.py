"""Training runs under each mode in which JAX is asked to look closely, with the same losses."""

from contextlib import contextmanager, nullcontext
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.learning import accumulate, average, guard, scale_loss
from tests.registry import real, whole


@contextmanager
def not_finite():
    """Raises an error where a number is not finite, NaN or infinite."""
    with jax.debug_nans(True), jax.debug_infs(True):
        yield


MODES = {
    "as ever": nullcontext,
    "debug_nans and debug_infs": not_finite,
    "disable_jit": jax.disable_jit,
    "enable_x64": lambda: jax.enable_x64(True),
    "strict promotion": lambda: jax.numpy_dtype_promotion("strict"),
}
INPUTS = real(12, 4)
CLASSES = {"inputs": INPUTS, "labels": INPUTS[:, :3].argmax(1), "weights": np.arange(12) % 3}
NUMBERS = {"inputs": INPUTS, "labels": INPUTS[:, 0]}


def classifier(network=None, **options):
    network = network or jaxnn.serial(
        jaxnn.linear(4, bias=False), jaxnn.batch_norm(), jaxnn.dropout(0.1)
    )
    goal = jaxnn.classification(metrics={"f1": jaxnn.metrics.f1}, top_k=2, **options)
    network = jaxnn.serial(network, jaxnn.linear(3))
    return jaxnn.learner(network, goal, lambda h: optax.adam(h["learning_rate"]))


def decreasing():
    return optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 6))


def own(outputs, batch):
    return (outputs[:, 0] - batch["labels"]) ** 2


KINDS = {
    "classification": (classifier, CLASSES),
    "wrapped": (lambda: average(guard(accumulate(classifier(), 2), spike=6.0)), CLASSES),
    "half": (
        lambda: scale_loss(
            classifier(jaxnn.mixed_precision(jaxnn.linear(4), jnp.float16), label_smoothing=0.1)
        ),
        CLASSES,
    ),
    "regression": (
        lambda: jaxnn.learner(jaxnn.mlp([3], 1), jaxnn.regression(), decreasing()),
        NUMBERS,
    ),
    "own": (lambda: jaxnn.learner(jaxnn.linear(1), own, optax.sgd(0.1)), NUMBERS),
    "gpt": (
        lambda: jaxnn.learner(
            jaxnn.gpt(7, layers=1, heads=2, features=4, positions=6),
            jaxnn.next_token(),
            optax.sgd(0.1),
        ),
        {"inputs": whole(7, 12, 6)},
    ),
    "vae": (
        lambda: jaxnn.learner(
            jaxnn.vae(jaxnn.mlp([3], 4), jaxnn.mlp([3], 4)),
            jaxnn.objectives.elbo(),
            optax.sgd(0.01),
        ),
        {"inputs": np.abs(np.tanh(INPUTS))},
    ),
    "contrastive": (
        lambda: jaxnn.learner(
            jaxnn.parallel(jaxnn.linear(3), jaxnn.linear(3)),
            jaxnn.objectives.info_nce(),
            optax.sgd(0.1),
        ),
        {"inputs": INPUTS},
    ),
    "population": (classifier, CLASSES),
    "directory": (classifier, CLASSES),
    "focal": (
        lambda: jaxnn.learner(jaxnn.convnet([2], 3, 3), jaxnn.objectives.focal(), optax.sgd(0.1)),
        {"inputs": real(12, 4, 4), "labels": whole(3, 12)},
    ),
    "recurrent": (
        lambda: jaxnn.learner(jaxnn.rnn([2], 1, cell="gru"), jaxnn.regression(), optax.sgd(0.1)),
        {"inputs": real(12, 3, 2), "labels": real(12)},
    ),
}
BY_DAY = ("classification", "wrapped", "regression", "gpt")
LONG = "disable_jit"  # operation by operation


def marks(kind, mode):
    if kind in BY_DAY and mode != LONG:
        return ()
    return pytest.mark.nightly if mode == LONG and kind not in BY_DAY else pytest.mark.slow


def trained(kind, out):
    make, fields = KINDS[kind]
    data, learner = jaxnn.resident(fields, batch_size=4), make()
    of_rates = {"hparams": {"learning_rate": np.float32(0.1)}} if fields is CLASSES else {}
    key = jax.random.key(0)
    if kind == "population":
        key = jaxnn.keys([0, 1])
    run = jaxnn.fit(
        learner, data, steps=4, every=2, key=key, evaluate=data, quiet=True, **of_rates,
        watch=jaxnn.Watch("test/loss", patience=3), saving=jaxnn.Saving(every=2),
        out=jaxnn.Directory(out / "run", report=True) if kind == "directory" else None,
    )  # fmt: skip
    run.predict(fields["inputs"])
    if kind != "population":
        assert np.isfinite(jaxnn.evaluate(learner, run.best, data)["loss"])
    return [row["test/loss"] for row in run.history]


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """Returns `usual(kind)`, the losses in no mode."""
    return cache(lambda kind: trained(kind, tmp_path_factory.mktemp("usual")))


@pytest.mark.parametrize(
    "kind, mode",
    [
        pytest.param(kind, mode, marks=marks(kind, mode), id=f"{kind}-{mode}")
        for kind in KINDS
        for mode in list(MODES)[1:]
    ],
)
@pytest.mark.filterwarnings("ignore::jaxnn.Caution")
def test_a_training_runs_in_every_mode(kind, mode, tmp_path, usual):
    with MODES[mode]():
        losses = trained(kind, tmp_path)
    np.testing.assert_allclose(losses, usual(kind), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "mode",
    [pytest.param(m, marks=pytest.mark.slow if m == LONG else ()) for m in list(MODES)[1:]],
)
def test_text_is_generated_in_every_mode(mode):
    network = jaxnn.gpt(7, layers=1, heads=2, features=4, positions=6)
    prompt = whole(7, 2, 3)
    params, state = network.init(jax.random.key(0), prompt)
    with MODES[mode]():
        tokens = jaxnn.generate(network, params, state, prompt, 3, key=jax.random.key(1))
    assert tokens.shape == (2, 3)


def test_a_metric_may_be_undefined_where_numbers_have_to_be_finite():
    data = jaxnn.resident({"inputs": real(4, 1), "labels": np.ones((4, 1))}, batch_size=4)
    learner = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1))
    with not_finite():
        run = jaxnn.fit(learner, data, steps=3, key=jax.random.key(0), evaluate=data, quiet=True)
    assert np.isfinite(run.result["test/loss"]) and np.isnan(run.result["test/r2"])


def test_a_batch_is_that_of_a_step_given_as_a_plain_number():
    data = jaxnn.resident(NUMBERS, batch_size=4)
    for mode in MODES.values():
        with mode():
            index = data.batch(3)["index"]
        np.testing.assert_array_equal(index, data.batch(jnp.int32(3))["index"])
