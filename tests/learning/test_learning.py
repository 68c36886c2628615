"""Accumulation, averaging and loss scaling, and the optimizers that Optax has."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.learning import no_gradients
from tests.gan import gan_data, gan_learner
from tests.registry import real, whole
from tests.trees import assert_close, assert_same_bits

KEY = jax.random.key(0)
BATCH = {
    "inputs": real(12, 5),
    "labels": whole(3, 12),
    "index": np.arange(12, dtype=np.int32),
    "weights": np.float32([1, 2, 0, 1] * 3),
}


def plain(network=None, optimizer=None, objective=None):
    return jaxnn.learner(
        network or jaxnn.mlp([8], 3),
        objective or jaxnn.classification(top_k=2),
        optimizer or optax.sgd(0.5, momentum=0.9),
    )


def steps(learner, batches):
    """Returns the state and the metrics of a step with each batch."""
    state, step, seen = learner.init(KEY, {}, BATCH), jax.jit(learner.step), []
    for batch in batches:
        state, metrics = step(state, batch)
        seen.append(metrics)
    return state, seen


def noisy(key, inputs):
    return inputs + jax.random.normal(key, inputs.shape)


# --- Accumulation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts", [3, pytest.param(1, marks=pytest.mark.slow), pytest.param(12, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("augment", [False, True])
def test_parts_of_a_batch_are_the_whole_batch(parts, augment):
    """Of weights that differ from part to part, one of them 0, and of draws by example too."""
    objective = jaxnn.classification(top_k=2)
    objective = jaxnn.objectives.augment(objective, noisy) if augment else objective
    learner = plain(objective=objective)
    batches = [{**BATCH, "inputs": real(12, 5, seed=seed)} for seed in range(3)]
    state, metrics = steps(jaxnn.accumulate(learner, parts), batches)
    wanted, measured = steps(learner, batches)
    assert_close(
        (state.params, state.opt_state, metrics), (wanted.params, wanted.opt_state, measured)
    )
    assert int(state.step) == 3


def test_parts_of_parts_are_parts():
    learner = plain()
    nested = jaxnn.accumulate(jaxnn.accumulate(learner, 2), 3)
    assert_close(steps(nested, [BATCH])[0].params, steps(learner, [BATCH])[0].params)


def test_the_statistics_are_those_of_one_part_after_the_other():
    norm = jaxnn.batch_norm(momentum=0.5)
    learner = jaxnn.accumulate(plain(jaxnn.serial(("norm", norm), jaxnn.linear(3))), 2)
    state, _ = steps(learner, [BATCH])
    # Of an example of weight 0 it sees zeros.
    inputs = np.where(BATCH["weights"][:, None] == 0, np.float32(0), BATCH["inputs"])
    params, kept = norm.init(KEY, inputs)
    for part in (inputs[::2], inputs[1::2]):  # of rows from all over the batch
        _, kept = norm.apply(params, kept, part, key=KEY)
    assert_close(state.state["norm"], kept)


@pytest.mark.slow
def test_no_two_parts_draw_the_same():
    """Twice the same examples, which are dropped apart: the mean gradient is of two masks."""
    twice = {name: np.concatenate([x[:6], x[:6]]) for name, x in BATCH.items()}
    learner = plain(jaxnn.serial(jaxnn.dropout(0.5), jaxnn.linear(3)))
    in_parts = jaxnn.accumulate(learner, 2)
    state = learner.init(KEY, {}, twice)
    one, _ = jax.jit(learner.step)(state, {name: x[:6] for name, x in twice.items()})
    two, _ = jax.jit(in_parts.step)(state, twice)
    gone = [np.asarray(s.params["1"]["weight"] - state.params["1"]["weight"]) for s in (one, two)]
    assert not np.allclose(*gone, atol=1e-3)


def test_a_schedule_counts_updates():
    rates = optax.piecewise_constant_schedule(1.0, {2: 0.0})
    state, _ = steps(jaxnn.accumulate(plain(optimizer=optax.sgd(rates)), 4), [BATCH] * 2)
    after, _ = steps(jaxnn.accumulate(plain(optimizer=optax.sgd(rates)), 4), [BATCH] * 3)
    assert_same_bits(state.params, after.params)


@pytest.mark.slow
def test_memory_is_that_of_a_part():
    """What is kept for the gradient: of a batch of 512, and of one of 64 at a time."""
    network = jaxnn.serial(*[jaxnn.mlp([512], 256) for _ in range(4)], jaxnn.linear(3))
    batch = {"inputs": jax.ShapeDtypeStruct((512, 256), jnp.float32)}
    batch |= {"labels": jax.ShapeDtypeStruct((512,), jnp.int32)}
    learner = plain(network, objective=jaxnn.classification())

    def memory(learner):
        state = jax.eval_shape(lambda: learner.init(KEY, {}, batch))
        compiled = jax.jit(learner.step).lower(state, batch).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    gradients = sum(x.size * 4 for x in jax.tree.leaves(jax.eval_shape(
        lambda: network.init(KEY, batch["inputs"])[0]
    )))  # fmt: skip
    whole_batch, parts = memory(learner), memory(jaxnn.accumulate(learner, 8))
    assert parts - 2 * gradients < 0.3 * (whole_batch - gradients)


# --- Averages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.5, 0.9, 1.0])
def test_the_average_is_the_formula(decay):
    learner = jaxnn.average(plain(), decay=decay)
    state, step = learner.init(KEY, {}, BATCH), jax.jit(learner.step)
    average, last = jax.tree.map(np.asarray, state.params), plain().init(KEY, {}, BATCH)
    alone = jax.jit(plain().step)
    for number in range(1, 9):
        state, _ = step(state, BATCH)
        last, _ = alone(last, BATCH)
        share = max(1 - decay, 1 / number)
        average = jax.tree.map(lambda a, p, s=share: a + (p - a) * s, average, state.params)
    assert_close(state.extra["average"], average)
    assert_close(state.params, last.params)  # training goes on from the last ones
    seen = plain()
    kept = last._replace(params=average)
    inputs = jnp.asarray(BATCH["inputs"])
    assert_close(learner.predict(state, inputs), seen.predict(kept, inputs))
    found, wanted = (
        jax.jit(made.evaluate)(of, BATCH) for made, of in ((learner, state), (seen, kept))
    )
    assert_close(found, wanted)


# --- Loss scaling ------------------------------------------------------------------------------


def half(network):
    return jaxnn.mixed_precision(network, jnp.float16)


def test_small_gradients_survive_in_float16():
    """Of a loss of the size 1e-8, whose gradient is 0 in float16 by itself."""

    def tiny(outputs, batch):
        return 1e-7 * jnp.square(outputs[:, 0] - 1.0)

    network = jaxnn.linear(1, bias=False)
    exact = plain(network, optax.sgd(1e6), jaxnn.objective(tiny))
    bare = plain(half(network), optax.sgd(1e6), jaxnn.objective(tiny))
    wanted, _ = steps(exact, [BATCH])
    found, _ = steps(jaxnn.scale_loss(bare), [BATCH])
    lost, _ = steps(bare, [BATCH])
    start = exact.init(KEY, {}, BATCH).params["weight"]
    went = [np.asarray(s.params["weight"] - start) for s in (wanted, found, lost)]
    assert np.abs(went[0]).max() > 0.01
    np.testing.assert_allclose(went[1], went[0], rtol=0.02, atol=1e-3)
    assert np.abs(went[2] - went[0]).max() > 0.1 * np.abs(went[0]).max()


def test_the_factor_halves_on_overflow_and_doubles_after_steps_that_went_well():
    learner = jaxnn.scale_loss(plain(half(jaxnn.mlp([8], 3))))
    state = learner.init(KEY, {}, BATCH)
    step = jax.jit(learner.step)
    large = state._replace(extra=state.extra | {"loss_scale": {
        "factor": jnp.float32(2.0**30), "good": jnp.int32(7)
    }})  # fmt: skip
    after, metrics = step(large, BATCH)
    assert float(metrics["skipped"].value()) == 1.0
    assert float(after.extra["loss_scale"]["factor"]) == 2.0**29
    assert int(after.extra["loss_scale"]["good"]) == 0
    assert_same_bits(after.params, state.params)
    nearly = state._replace(extra=state.extra | {"loss_scale": {
        "factor": jnp.float32(8.0), "good": jnp.int32(1999)
    }})  # fmt: skip
    after, _ = step(nearly, BATCH)
    assert float(after.extra["loss_scale"]["factor"]) == 16.0
    assert int(after.extra["loss_scale"]["good"]) == 0
    after, _ = step(after, BATCH)
    assert int(after.extra["loss_scale"]["good"]) == 1


def test_a_spike_that_is_skipped_does_not_halve_the_factor():
    guard = jaxnn.guard(plain(half(jaxnn.mlp([8], 3))), spike=6.0)
    learner = jaxnn.scale_loss(guard)
    state = learner.init(KEY, {}, BATCH)
    late = {"mean": jnp.float32(-9.0), "variance": jnp.float32(0.1), "count": jnp.float32(500)}
    state = state._replace(extra=state.extra | {"loss": late})
    after, metrics = jax.jit(learner.step)(state, BATCH)
    assert float(metrics["skipped"].value()) == 1.0
    assert_same_bits(after.extra["loss_scale"]["factor"], state.extra["loss_scale"]["factor"])


# --- All of them -------------------------------------------------------------------------------


def test_they_compose():
    """Guarded, averaged, in parts and scaled: the steps are those of the learner alone."""
    learner = plain(half(jaxnn.mlp([8], 3)))
    all_of_them = jaxnn.average(jaxnn.scale_loss(jaxnn.accumulate(learner, 2)), decay=1.0)
    state, _ = steps(all_of_them, [BATCH] * 3)
    wanted, _ = steps(plain(), [BATCH] * 3)
    assert_close(state.params, wanted.params, 5e-3)
    assert jaxnn.guard(all_of_them) is all_of_them
    assert set(state.extra) == {"skipped", "loss_scale", "average"}


OPTIMIZERS = {
    "muon": lambda: optax.contrib.muon(0.05),
    "schedule_free": lambda: optax.contrib.schedule_free_adamw(0.1, warmup_steps=2),
    "lbfgs": lambda: optax.lbfgs(),
    "plateau": lambda: optax.chain(
        optax.adam(0.1), optax.contrib.reduce_on_plateau(patience=2, accumulation_size=3)
    ),
    "partition": lambda: optax.partition(
        {"fast": optax.adam(0.1), "slow": optax.sgd(0.1)},
        jaxnn.param_labels({"*/bias": "slow", "*": "fast"}),
    ),
    "decay": lambda: optax.adamw(0.1, mask=jaxnn.param_labels({"*/bias": False, "*": True})),
    "lion": lambda: optax.lion(0.02),
    "adafactor": lambda: optax.adafactor(0.1),
    "multi_steps": lambda: optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizers_of_optax_just_work(name):
    """In a loop, guarded and averaged: each takes a loss of 12 examples well down."""
    learner = plain(optimizer=OPTIMIZERS[name](), objective=jaxnn.classification())
    learner = jaxnn.average(jaxnn.guard(learner), decay=0.5)
    data = jaxnn.resident({k: BATCH[k] for k in ("inputs", "labels")}, batch_size=12)
    first, *_, last = jaxnn.train(learner, data, steps=60, key=KEY, every=1)
    assert float(last.metrics["train/loss"]) < 0.5 * float(first.metrics["train/loss"])
    assert float(last.metrics["train/skipped"]) == 0.0


def gan_steps(learner):
    data = gan_data()
    return jaxnn.train(learner, data, steps=1, key=KEY)


def without_part(learner):
    return learner._replace(gradients=lambda state, batch: learner.gradients(state, batch))


MISTAKES = [
    (
        lambda: gan_steps(jaxnn.accumulate(gan_learner(), 2)),
        "accumulate: this learner computes no gradients. Got a Learner whose gradients are None",
    ),
    (
        lambda: gan_steps(jaxnn.guard(gan_learner())),
        "guard: the state of this learner cannot store the arrays .* Got a GanState without",
    ),
    (
        lambda: gan_steps(jaxnn.average(gan_learner())),
        "average: the state of this learner cannot store the arrays .* Got a GanState without",
    ),
    (
        lambda: steps(jaxnn.average(jaxnn.average(plain())), [BATCH]),
        "average: the learner's state already has 'average'.* Apply average once",
    ),
    (
        lambda: steps(jaxnn.scale_loss(jaxnn.scale_loss(plain())), [BATCH]),
        "scale_loss: the learner's state already has 'loss_scale'",
    ),
    (
        lambda: steps(jaxnn.accumulate(without_part(plain()), 2), [BATCH]),
        r"accumulate: .* Got gradients\(state, batch\); expected gradients\(state,"
        r" batch, part=None, factor=None\). Accept part, and pass",
    ),
    (
        lambda: steps(jaxnn.scale_loss(without_part(plain())), [BATCH]),
        r"scale_loss: .* Got gradients\(state, batch\); .* Accept factor, and pass",
    ),
    (lambda: plain()._replace(step=plain().step), "Learner: step is not a field.* Wrap update"),
    (lambda: jaxnn.accumulate(plain(), 0), "accumulate: parts is out of range. Got parts=0"),
    (
        lambda: steps(jaxnn.accumulate(plain(), 5), [BATCH]),
        r"is not a multiple of parts. Got batch_size=12 and parts=5; .* batch_size=15, or parts=1",
    ),
    (lambda: jaxnn.average(plain(), decay=0.0), "average: decay is out of range. Got decay=0.0"),
    (lambda: jaxnn.average(plain(), decay=1.5), "average: decay is out of range"),
    (lambda: jaxnn.guard(plain(), spike=0.0), "guard: spike is out of range"),
]


@pytest.mark.parametrize(("mistake", "words"), MISTAKES)
def test_mistakes_are_explained(mistake, words):
    with pytest.raises(jaxnn.Invalid, match=words):
        mistake()


def test_a_learner_of_one_piece_is_averaged():
    """Averaging asks for `params` and `extra` alone, and computes with whatever `update` does."""
    base = plain()
    own = base._replace(
        gradients=no_gradients, update=lambda state, batch, _: base.step(state, batch)
    )
    state, _ = steps(jaxnn.average(own, decay=0.5), [BATCH] * 3)
    wanted, _ = steps(jaxnn.average(base, decay=0.5), [BATCH] * 3)
    assert_same_bits(state, wanted)


@pytest.mark.parametrize("name", ["loss", "learning_rate", "skipped"])
def test_the_names_of_the_learners_own_metrics_are_reserved(name):
    def metrics(outputs, batch):
        return {name: jaxnn.metrics.mean(outputs[:, 0], jnp.ones(12))}

    learner = plain(objective=jaxnn.objective(lambda o, b: o[:, 0], metrics=metrics))
    for function in (learner.step, learner.evaluate):
        with pytest.raises(jaxnn.InvalidValue, match=f"a reserved name. Got .* '{name}'"):
            jax.eval_shape(function, learner.init(KEY, {}, BATCH), BATCH)


def test_a_decay_may_be_an_array():
    number, array = (
        steps(jaxnn.average(plain(), decay=decay), [BATCH] * 3)[0]
        for decay in (0.9, jnp.float32(0.9))
    )
    assert_close(number.extra, array.extra)
