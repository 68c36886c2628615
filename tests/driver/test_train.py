"""`train`, `evaluate` and `predict`: what is reported, when, and what it costs."""

import gc
import math
import sys
from functools import cache

import jax
import numpy as np
import optax
import pytest
from jax import lax
from jax._src.array import ArrayImpl

import jaxnn
from jaxnn.driver import chunks as driver
from jaxnn.learning._learner import ORDER
from jaxnn.loop import STATUSES
from tests.gan import CENTRES, NOISE, gan_data, gan_learner

STEPS = 53


def quarters(batch_size, examples=300):
    """Two classes that no straight line parts."""
    draws = np.random.default_rng(0).normal(size=(examples, 2))
    labels = (draws[:, 0] * draws[:, 1] > 0).astype(np.int32)
    return jaxnn.resident({"inputs": draws, "labels": labels}, batch_size=batch_size)


@cache  # one learner compiles once, however many tests run it
def classifier(**settings):
    network = jaxnn.mlp([16], 2, **settings)
    return jaxnn.learner(network, jaxnn.classification(), optax.adam(1e-2))


def rows(*arguments, **settings):
    reports = jaxnn.train(*arguments, key=jax.random.key(7), **settings)
    return [
        (step, {k: float(v) for k, v in metrics.items()})
        for step, metrics in ((r.step, r.metrics) for r in reports)
    ]


@pytest.fixture
def dispatched(monkeypatch):
    """The lengths of the chunks that the driver dispatches."""
    lengths = []
    advance = driver.advance

    def counted(learner, state, data, n, window, form, **options):
        lengths.append(n)
        return advance(learner, state, data, n, window, form, **options)

    monkeypatch.setattr(driver, "advance", counted)
    return lengths


@pytest.fixture
def fetches(monkeypatch):
    """Counts arrays brought to the host; on CPU, jax's own transfer guard guards nothing."""
    count = []
    value, array = ArrayImpl._value, ArrayImpl.__array__

    def counted(self, *args, **kwargs):
        count.append(self.shape)
        return array(self, *args, **kwargs)

    monkeypatch.setattr(
        ArrayImpl, "_value", property(lambda x: (count.append(x.shape), value.fget(x))[1])
    )
    monkeypatch.setattr(ArrayImpl, "__array__", counted)
    return count


# --- When reports come -------------------------------------------------------------------------


@pytest.mark.slow
def test_the_length_of_chunks_changes_no_report(monkeypatch, dispatched):
    learner, data, held_out = classifier(dropout=0.2), quarters(32), quarters(100)
    all_rows, lengths = [], []
    for seconds in (0.0, 1e9):  # never longer than a step; doubled every time
        monkeypatch.setattr(driver, "CHUNK_SECONDS", seconds)
        dispatched.clear()
        all_rows.append(rows(learner, data, steps=STEPS, every=10, evaluate=held_out))
        lengths.append(list(dispatched))
    assert [step for step, _ in all_rows[0]] == [10, 20, 30, 40, 50, 53]
    assert all_rows[0] == all_rows[1]  # every figure, bit for bit
    assert lengths[0] == [1] * STEPS
    assert lengths[1][:6] == [1, 1, 2, 4, 2, 8] and sum(lengths[1]) == STEPS


def test_looped_and_stepped_give_the_same_reports():
    learner, data = classifier(dropout=0.2), quarters(32)
    looped, stepped = (
        rows(learner, data, steps=STEPS, every=20, execution=jaxnn.Execution(form))
        for form in ("looped", "stepped")
    )
    assert looped == stepped


@pytest.mark.parametrize(
    ("every", "evaluate_every", "evaluated"),
    [
        (10, None, [10, 20, 30, 40, 50, 53]),
        (10, 20, [20, 40, 53]),
        (10, 25, [30, 50, 53]),  # with the first report after 25 steps, and after 50
        (20, 10, [20, 40, 53]),  # no more often than reports
        ("1 epoch", "2 epochs", [20, 40, 53]),  # 9.4 and 18.75 steps
        (10, 1000, [53]),
    ],
)
def test_evaluations_come_with_reports_and_at_the_end(every, evaluate_every, evaluated):
    parts = {"near": quarters(100), "far": quarters(64)}
    reported = rows(
        classifier(),
        quarters(32),
        steps=STEPS,
        evaluate=parts,
        every=jaxnn.Every(every, evaluate_every),
    )
    assert [step for step, row in reported if "near/accuracy" in row] == evaluated
    for _, row in reported:
        assert ("near/loss" in row) == ("far/loss" in row)
        assert {"train/loss", "train/accuracy"} <= row.keys()


def test_the_status_of_a_report_is_that_of_its_moment():
    reports = [*jaxnn.train(classifier(), quarters(100), key=jax.random.key(7), steps=6, every=2)]
    assert [STATUSES[int(r.status)] for r in reports] == ["running"] * 3
    stopped = jaxnn.train(
        classifier(), quarters(100), key=jax.random.key(7), steps=60, every=1,
        evaluate=quarters(100), watch=jaxnn.Watch("test/loss", better="higher", patience=2),
    )  # fmt: skip
    *before, last = [STATUSES[int(r.status)] for r in stopped]
    assert set(before) == {"running"} and last == "stopped"


def test_a_single_evaluation_is_called_test():
    (row,) = rows(classifier(), quarters(32), steps=2, every=2, evaluate=quarters(64))
    names = ["train/loss", "train/accuracy", "test/loss", "test/accuracy"]
    assert row[0] == 2 and list(row[1]) == names


def test_one_report_an_epoch_by_default():
    data = quarters(32)  # 300 / 32 = 9.375 steps an epoch
    steps = [step for step, _ in rows(classifier(), data, steps="3 epochs")]
    assert steps == [10, 20, 29]


# --- What is reported --------------------------------------------------------------------------


@pytest.mark.slow
def test_reports_are_means_over_the_steps_since_the_report_before(key):
    learner, data = classifier(dropout=0.3), quarters(32)
    shuffled = data.shuffled(jax.random.fold_in(key, ORDER))
    batch = jax.jit(shuffled.batch)
    state = jax.jit(learner.init)(key, {}, batch(np.int32(0)))
    step = jax.jit(learner.step)
    losses, hits = [], []
    for number in range(25):
        state, metrics = step(state, batch(np.int32(number)))
        for name, means in (("loss", losses), ("accuracy", hits)):
            total, weight = map(float, metrics[name].sums)
            means.append(total / weight)
    for progress in jaxnn.train(learner, data, steps=25, key=key, every=10):
        window = slice((progress.step - 1) // 10 * 10, progress.step)
        assert float(progress.metrics["train/loss"]) == pytest.approx(np.mean(losses[window]), 1e-5)
        accuracy = float(progress.metrics["train/accuracy"])
        assert accuracy == pytest.approx(np.mean(hits[window]), 1e-5)
    assert np.ptp(losses) > 0.1  # so that the means of other windows would differ


def softmax_regression(state, inputs):
    """What the linear classifier computes, in NumPy."""
    logits = inputs @ np.asarray(state.params["weight"]) + np.asarray(state.params["bias"])
    return logits, logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 64])
def test_evaluate_and_predict_agree_with_numpy(key, batch_size):
    inputs = np.random.default_rng(1).normal(size=(10, 4)).astype(np.float32)
    labels = np.arange(10) % 3
    weights = np.arange(10, dtype=np.float32)
    data = jaxnn.resident(
        {"inputs": inputs, "labels": labels, "weights": weights}, batch_size=batch_size
    )
    learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optax.sgd(0.1))
    state = jax.jit(learner.init)(key, {}, {"inputs": inputs})
    logits, logs = softmax_regression(state, inputs)
    evaluated = jaxnn.evaluate(learner, state, data)
    assert evaluated["loss"] == pytest.approx(
        np.average(-logs[np.arange(10), labels], weights=weights), 1e-5
    )
    accuracy = np.average(logits.argmax(-1) == labels, weights=weights)
    assert evaluated["accuracy"] == pytest.approx(accuracy, 1e-6)
    outputs = jaxnn.predict(learner, state, inputs, batch_size=batch_size)
    assert isinstance(outputs, np.ndarray) and outputs.shape == (10, 3)
    np.testing.assert_allclose(outputs, logits, rtol=1e-5, atol=1e-6)


# --- How it is run -----------------------------------------------------------------------------


def test_mistakes_are_raised_at_the_call_not_at_the_first_report(key):
    with pytest.raises(jaxnn.InvalidValue, match="positive duration"):
        jaxnn.train(classifier(), quarters(32), steps=0, key=key)


def test_the_driver_fetches_no_metric(key, fetches):
    reports = jaxnn.train(
        classifier(), quarters(32), steps=60, key=key, every=10, evaluate=quarters(64)
    )
    fetches.clear()
    stored = [report.metrics for report in reports]
    assert fetches == []
    assert float(stored[0]["train/loss"]) > 0 and fetches == [()]


def native_conv(features):
    def init(key, inputs):
        return {"weight": jax.random.normal(key, (3, 3, inputs.shape[-1], features))}

    def apply(params, inputs):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            inputs, params["weight"], (1, 1), "SAME", dimension_numbers=numbers
        )

    return jaxnn.stateless(apply, init)


@pytest.mark.slow
@pytest.mark.parametrize(("conv", "form"), [(native_conv, "stepped"), (jaxnn.conv, "looped")])
def test_only_a_native_convolution_is_stepped(key, conv, form):
    layer = conv(4) if conv is native_conv else conv(4, 3)
    network = jaxnn.serial(layer, jaxnn.residual(layer), jaxnn.flatten(), jaxnn.linear(2))
    learner = jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.1))
    images = {"inputs": np.zeros((8, 6, 6, 1), np.float32), "labels": np.zeros(8, np.int32)}
    data = jaxnn.resident(images, batch_size=4)
    assert jaxnn.train(learner, data, steps=1, key=key).form == form
    assert (
        jaxnn.train(learner, data, steps=1, key=key, execution=jaxnn.Execution("looped")).form
        == "looped"
    )
    assert [p.step for p in jaxnn.train(learner, data, steps=4, key=key)] == [2, 4]


def test_the_host_waits_only_for_the_chunk_before_the_one_under_way(monkeypatch, key):
    tokens, waited_for = [], []
    advance, block = driver.advance, jax.block_until_ready

    def dispatch(*arguments, **options):
        state, window, token = advance(*arguments, **options)
        tokens.append(token)
        return state, window, token

    def wait(token):
        (token,) = token  # of the one device
        assert token is tokens[-2]
        waited_for.append(int(token))
        return block(token)

    monkeypatch.setattr(driver, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(driver, "advance", dispatch)
    monkeypatch.setattr(jax, "block_until_ready", wait)
    list(jaxnn.train(classifier(), quarters(32), steps=20, key=key, every=5))
    assert waited_for == list(range(1, 20))


# --- What it costs -----------------------------------------------------------------------------


def test_key_and_data_outlive_a_run_and_a_state_lives_until_the_next_report(key):
    data = quarters(32)
    states = [p.state for p in jaxnn.train(classifier(), data, steps=20, key=key, every=10)]
    assert all(x.is_deleted() for x in jax.tree.leaves(states[0].params))
    assert not any(x.is_deleted() for x in jax.tree.leaves((states[1], key, data)))


def test_memory_does_not_grow_with_chunks(monkeypatch, key):
    monkeypatch.setattr(driver, "CHUNK_SECONDS", 0.0)  # a chunk is a step
    reports = jaxnn.train(classifier(), quarters(32), steps=400, key=key, every=20)
    gc.collect()
    living = [len(jax.live_arrays()) for _ in reports]
    assert len(living) == 20 and max(living[2:]) <= living[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_steps(monkeypatch, key):
    monkeypatch.setattr(driver, "CHUNK_SECONDS", 0.01)

    def resident_megabytes():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096 / 1e6

    reports = jaxnn.train(
        classifier(),
        quarters(32),
        steps=40_000,
        key=key,
        every=100,
        execution=jaxnn.Execution("stepped"),
    )
    sizes = [resident_megabytes() for _ in reports]
    # A leak of 200 bytes a step would be 6.4 MB; that of an array is larger.
    assert sizes[-1] - sizes[len(sizes) // 5] < 5


@pytest.mark.slow
def test_the_data_are_held_once_in_their_dtype(key):
    images = np.random.default_rng(0).integers(0, 256, (5000, 20, 20), np.uint8)
    labels = np.zeros(5000, np.int32)
    network = jaxnn.serial(jaxnn.standardize(128, 74), jaxnn.mlp([4], 2))
    learner = jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.1))
    gc.collect()
    before = {id(x) for x in jax.live_arrays()}
    data = jaxnn.resident({"inputs": images, "labels": labels}, batch_size=10)
    for _ in jaxnn.train(learner, data, steps=4, key=key, every=2, evaluate=data):
        added = [x for x in jax.live_arrays() if id(x) not in before]
        assert [x.dtype for x in added if x.size >= images.size / 2] == [np.uint8]
        held = sum(
            x.nbytes for x in added if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended)
        )
        assert images.nbytes <= held < 1.1 * images.nbytes


# --- A learner written by hand -----------------------------------------------------------------


@pytest.mark.slow
def test_a_gan_trains_like_any_other_learner():
    learner, data = gan_learner(), gan_data()
    assert jaxnn.train(learner, data, steps=1, key=jax.random.key(0)).form == "looped"
    key = jax.random.key(0)
    reports = jaxnn.train(
        learner, data, steps=2000, key=key, every=1000, evaluate=gan_data(batch_size=1000)
    )
    untrained = jax.jit(learner.init)(key, {}, data.arrays)
    before = jaxnn.evaluate(learner, untrained, gan_data(batch_size=1000))["modes"]
    *_, last = reports
    after = jaxnn.evaluate(learner, last.state, gan_data(batch_size=1000))
    assert before < 1.2 and after["modes"] > 6  # five times better, and no mode collapse
    assert after["modes"] == float(last.metrics["test/modes"])
    # At the end the discriminator can hardly tell: log(2) nats for each kind of point is chance.
    assert after["discriminator_loss"] == pytest.approx(2 * math.log(2), abs=0.1)
    noise = np.random.default_rng(3).normal(size=(999, NOISE)).astype(np.float32)
    points = jaxnn.predict(learner, last.state, noise, batch_size=250)
    distances = np.linalg.norm(points[:, None] - CENTRES, axis=-1)
    assert points.shape == (999, 2) and (distances.min(-1) < 0.3).mean() > 0.7
    assert set(distances.argmin(-1)) == set(range(8))


@pytest.mark.slow
def test_noise_of_the_objective_is_the_same_at_every_evaluation(key):
    """`prepare` draws by the example's number, in evaluation too, however it is batched."""

    def noisy(key, batch):
        draws = jax.vmap(lambda k: jax.random.normal(k, (3,)))(
            jaxnn.objectives.example_keys(key, batch)
        )
        return {**batch, "inputs": batch["inputs"] + draws}

    objective = jaxnn.objective(lambda outputs, batch: outputs[:, 0] ** 2, prepare=noisy)
    learner = jaxnn.learner(jaxnn.linear(1), objective, optax.sgd(0.0))
    inputs = {"inputs": np.zeros((10, 3), np.float32)}
    losses = [
        float(progress.metrics["test/loss"])
        for size in (1, 4, 10)
        for progress in jaxnn.train(
            learner, jaxnn.resident(inputs, batch_size=2), steps=2, every=1, key=key,
            evaluate=jaxnn.resident(inputs, batch_size=size),
        )
    ]  # fmt: skip
    assert losses[0] > 0 and np.allclose(losses, losses[0], rtol=1e-6)
