"""Losses against those of Optax, and what an objective says when it cannot be used."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.objectives import example_keys, weights_of
from tests.registry import real, whole
from tests.trees import assert_close, assert_same_bits

pytestmark = pytest.mark.usefixtures("strict")

LOGITS, LABELS = jnp.array(3 * real(9, 4)), jnp.array(whole(4, 9))
PREDICTIONS, TARGETS = jnp.array(real(9, 3)), jnp.array(real(9, 3, seed=1))
KEY = jax.random.key(8)


def losses(goal, outputs, **batch):
    return jax.jit(goal.loss)(outputs, {"inputs": outputs, **batch})


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_classification(smoothing):
    values, weights = losses(jaxnn.classification(label_smoothing=smoothing), LOGITS, labels=LABELS)
    targets = optax.losses.smooth_labels(jax.nn.one_hot(LABELS, 4), smoothing)
    assert_close(values, optax.losses.softmax_cross_entropy(LOGITS, targets))
    assert_close(weights, np.ones(9))
    traced = jax.jit(
        lambda s: losses(jaxnn.classification(label_smoothing=s), LOGITS, labels=LABELS)[0]
    )
    assert_close(traced(smoothing), values)


def test_classification_of_tokens_and_large_logits():
    logits, labels = 1e4 * real(9, 5, 4), jnp.array(whole(4, 9, 5))
    values, weights = losses(jaxnn.classification(), jnp.array(logits), labels=labels)
    exact = logits.astype(np.float64)
    exact = exact.max(-1) - np.take_along_axis(exact, np.asarray(labels)[..., None], -1)[..., 0]
    assert values.shape == weights.shape == (9, 5)
    np.testing.assert_allclose(values, exact, rtol=1e-6, atol=1e-2)
    half, _ = losses(jaxnn.classification(), LOGITS.astype(jnp.bfloat16), labels=LABELS)
    assert half.dtype == jnp.float32
    small = jnp.array(LABELS, jnp.uint8)
    assert_close(*(losses(jaxnn.classification(), LOGITS, labels=x)[0] for x in (small, LABELS)))


@pytest.mark.parametrize(
    "error, by_hand",
    [
        (optax.losses.squared_error, lambda e: e**2),
        (jaxnn.objectives.absolute_error, np.abs),
        (optax.losses.huber_loss, lambda e: np.where(np.abs(e) < 1, e**2 / 2, np.abs(e) - 0.5)),
    ],
)
def test_regression(error, by_hand):
    values, weights = losses(jaxnn.regression(error), PREDICTIONS, labels=TARGETS)
    wanted = by_hand(np.asarray(PREDICTIONS) - np.asarray(TARGETS))
    assert_close(values, wanted.mean(1))
    assert weights.shape == (9,)
    flat, _ = losses(jaxnn.regression(error), PREDICTIONS[:, 0], labels=TARGETS[:, 0])
    assert_close(flat, wanted[:, 0])


def test_labels_without_an_axis_do_for_one_output():
    goal, one = jaxnn.regression(), {"labels": TARGETS[:, 0], "weights": LABELS.astype(jnp.float32)}
    whole = {**one, "labels": TARGETS[:, :1]}
    for function in (goal.loss, goal.metrics):
        batches = ({"inputs": LOGITS, **batch} for batch in (one, whole))
        assert_same_bits(*(function(PREDICTIONS[:, :1], batch) for batch in batches))


def test_names_of_metrics():
    batch = {"inputs": LOGITS, "labels": LABELS}
    found = jaxnn.classification(top_k=(2, 3)).metrics(LOGITS, batch)
    assert list(found) == ["accuracy", "top_2", "top_3"]
    found = jaxnn.regression().metrics(PREDICTIONS, {"inputs": LOGITS, "labels": TARGETS})
    assert list(found) == ["r2", "mae"]
    wanted = np.abs(np.asarray(PREDICTIONS) - np.asarray(TARGETS)).mean()
    assert float(found["mae"].value()) == pytest.approx(wanted, rel=1e-6)


def test_weights_reach_the_shape_of_the_values():
    weights = jnp.array([0.0, 2.0, 1.0])
    spread = weights_of({"weights": weights}, jnp.zeros((3, 4)))
    assert_close(spread, np.repeat([[0.0], [2.0], [1.0]], 4, axis=1))
    assert_close(weights_of({}, jnp.zeros((3, 4))), np.ones((3, 4)))
    with pytest.raises(InvalidValue, match="weights of shape"):
        weights_of({"weights": weights}, jnp.zeros((4, 3)))


def test_batchwise_counts_for_its_examples():
    padded, full = jnp.array([1.0] * 6 + [0.0] * 3), jnp.full(9, 2.0)
    goal = jaxnn.objectives.batchwise(lambda outputs, batch: jnp.var(outputs))
    known = np.var(np.asarray(PREDICTIONS))
    assert_close(losses(goal, PREDICTIONS), (known, np.float32(9)))
    assert_close(losses(goal, PREDICTIONS, weights=full), (known, np.float32(18)))
    assert losses(goal, PREDICTIONS, weights=padded)[1] == 0  # the padding is in the variance
    goal = jaxnn.objectives.batchwise(lambda outputs, batch: jnp.sum(batch["weights"]))
    assert_close(losses(goal, PREDICTIONS, weights=padded), (np.float32(6), np.float32(6)))


def test_batchwise_is_evaluated_over_full_batches():
    inputs = real(10, 1)
    learner = jaxnn.learner(
        jaxnn.linear(1), jaxnn.objectives.batchwise(lambda outputs, _: jnp.var(outputs)),
        optax.sgd(0.1),
    )  # fmt: skip
    data = {"inputs": inputs}
    run = jaxnn.fit(
        learner, jaxnn.resident(data, batch_size=4), steps=1, key=KEY, quiet=True,
        evaluate=jaxnn.resident(data, batch_size=4),
    )  # fmt: skip
    outputs = run.predict(inputs)
    known = np.mean([np.var(outputs[:4]), np.var(outputs[4:8])])
    assert run.result["test/loss"] == pytest.approx(known, rel=1e-5)
    weighted = jaxnn.resident({**data, "weights": np.ones(10)}, batch_size=4)
    with pytest.raises(InvalidValue, match="the data have weights, and the loss does not read"):
        jaxnn.train(learner, weighted, steps=1, key=KEY)


def test_augmentation_is_each_example_s_own(key):
    """It depends on the key and the example's number, not on its place or its batch."""

    def shifted(key, example):
        return example + jax.random.uniform(key)

    goal = jaxnn.objectives.augment(jaxnn.regression(), shifted)
    batch = {"inputs": jnp.zeros((4, 2)), "index": jnp.array([7, 3, 7, 0])}
    assert_same_bits(goal.prepare(None, batch), batch)
    changed = goal.prepare(KEY, batch)["inputs"]
    assert_same_bits(changed[0], changed[2])
    assert len(np.unique(changed)) == 3
    alone = goal.prepare(KEY, {"inputs": jnp.zeros((1, 2)), "index": jnp.array([3])})["inputs"]
    assert_same_bits(alone[0], changed[1])
    assert not np.array_equal(changed, goal.prepare(key, batch)["inputs"])


def test_example_keys():
    batch = {"index": jnp.array([5, 1, 5])}
    keys = jax.random.key_data(example_keys(KEY, batch))
    assert_same_bits(keys[1], jax.random.key_data(jax.random.fold_in(KEY, 1)))
    assert_same_bits(keys[0], keys[2])
    assert_same_bits(example_keys(None, batch), example_keys(None, batch))


MATCHED = {"inputs": LOGITS, "labels": LABELS}


@pytest.mark.parametrize(
    "goal, outputs, batch, error, words",
    [
        (jaxnn.classification(), LOGITS, {"labels": TARGETS[:, 0]}, InvalidType, "int32"),
        (jaxnn.classification(), LOGITS, {"labels": LABELS[:5]}, InvalidValue, "one-hot"),
        (jaxnn.classification(), LOGITS, {}, InvalidValue, "labels"),
        (jaxnn.regression(), TARGETS, {"labels": LABELS}, InvalidType, "float32"),
        (jaxnn.regression(), TARGETS[:, :1], {"labels": TARGETS}, InvalidValue, "one output"),
        (jaxnn.regression(), TARGETS[:, 0], {"labels": TARGETS[:, :1]}, InvalidValue, "one output"),
        (
            jaxnn.regression(lambda p, t: jnp.mean((p - t) ** 2)),
            TARGETS,
            {"labels": TARGETS},
            InvalidValue,
            "Leave out the mean",
        ),
        (jaxnn.objective(lambda o, b: jnp.mean(o)), LOGITS, MATCHED, InvalidValue, "batchwise"),
        (jaxnn.objectives.batchwise(lambda o, b: o[:, 0]), LOGITS, MATCHED, InvalidValue, "mean"),
    ],
)
def test_errors(goal, outputs, batch, error, words):
    with pytest.raises(error, match=words):
        goal.loss(outputs, {"inputs": LOGITS, **batch})


@pytest.mark.parametrize(
    "labels, place", [([0, 1, 4], r"labels\[2\]=4"), ([0, -1, 2], r"\[1\]=-1")]
)
def test_labels_out_of_range_are_found_in_the_data(labels, place):
    with pytest.raises(InvalidValue, match=place):
        jaxnn.classification().check(LOGITS[:3], {"labels": np.int32(labels)})
    with pytest.raises(InvalidValue, match="top_k=5"):
        jaxnn.classification(top_k=5).check(LOGITS, {"labels": LABELS})


def test_augmentations_of_augmentations_draw_apart(key):
    """Each has randomness of its own, so a flip does not follow from a shift."""

    def draw(key, inputs):
        return inputs + jax.random.uniform(key, inputs.shape)

    plain = jaxnn.objective(lambda outputs, batch: outputs[:, 0])
    batch = {"inputs": jnp.zeros((4, 1)), "index": jnp.arange(4)}
    once = jaxnn.objectives.augment(plain, draw).prepare(key, batch)["inputs"]
    twice = jaxnn.objectives.augment(jaxnn.objectives.augment(plain, draw), draw).prepare(
        key, batch
    )["inputs"]
    assert not np.allclose(twice, 2 * once) and len(np.unique(np.asarray(twice))) == 4


def test_regression_with_a_weight_for_each_value():
    weights = jnp.abs(TARGETS) * jnp.array([[1.0, 0.0, 2.0]] * 9)
    batch = {"labels": TARGETS, "weights": weights}
    values, given = losses(jaxnn.regression(), PREDICTIONS, **batch)
    assert_close(values * weights, np.square(PREDICTIONS - TARGETS) * weights)
    assert_close(given, weights)
    total = losses(
        jaxnn.objectives.batchwise(lambda outputs, batch: (outputs * batch["weights"]).sum()),
        PREDICTIONS, **batch,
    )[1]  # fmt: skip
    assert_close(total, weights.sum())


def test_the_check_of_labels_leaves_out_what_does_not_count():
    """Padding is often labelled -1 with weight 0; labels may also be made by `prepare`."""
    outputs = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    check = jaxnn.classification().check
    check(outputs, {"labels": np.array([0, 3, -1]), "weights": np.array([1.0, 1.0, 0.0])})
    check(outputs, {"tokens": np.array([[9, 9]])})
    with pytest.raises(InvalidValue, match=r"labels\[2\]=-1"):
        check(outputs, {"labels": np.array([0, 3, -1]), "weights": np.array([0.0, 1.0, 1.0])})


@pytest.mark.parametrize("name", ["loss", "learning_rate", "skipped", "accuracy", "agreement"])
def test_a_metric_may_not_take_the_name_of_another(name):
    def measured(logits, labels, weights):
        return jaxnn.metrics.accuracy(logits, labels, weights)

    def train():
        goal = jaxnn.classification(metrics={name: measured})
        goal = jaxnn.objectives.distill(goal, lambda inputs: 0.0 * inputs)
        learner = jaxnn.learner(jaxnn.linear(4), goal, optax.sgd(0.1))
        data = jaxnn.resident({"inputs": LOGITS, "labels": LABELS}, batch_size=3)
        jaxnn.train(learner, data, steps=1, key=KEY)

    with pytest.raises(InvalidValue, match=f"Name it, say, 'own_{name}'"):
        train()
