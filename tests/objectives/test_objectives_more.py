"""Losses of next tokens, focal, contrastive, of autoencoders and distilled: facts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import jaxnn
from jaxnn import InvalidValue
from jaxnn import metrics as measures
from tests.registry import real, whole
from tests.trees import assert_close, assert_same_bits

strict = pytest.mark.usefixtures("strict")
LOGITS, LABELS = jnp.array(3 * real(9, 4)), jnp.array(whole(4, 9))
TEXT = jnp.array(whole(4, 9, 6))
KEY = jax.random.key(8)


def losses(goal, outputs, **batch):
    return jax.jit(goal.loss)(outputs, {"inputs": outputs, **batch})


# --- Next token --------------------------------------------------------------------------------


@strict
def test_next_token():
    goal, logits = jaxnn.next_token(bytes_per_token=2.0), jnp.array(real(9, 5, 4))
    batch = goal.prepare(KEY, {"inputs": TEXT})
    assert_same_bits(batch, {"inputs": TEXT[:, :5], "labels": TEXT[:, 1:]})
    values, weights = jax.jit(goal.loss)(logits, batch)
    logs = np.asarray(logits) - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = -np.take_along_axis(logs, np.asarray(TEXT)[:, 1:, None], -1)[..., 0]
    assert_close((values, weights), (wanted, np.ones((9, 5), np.float32)))
    found = measures.values(goal.metrics(logits, batch))
    assert found["perplexity"] == pytest.approx(np.exp(wanted.mean()), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(wanted.mean() / np.log(2) / 2, rel=1e-5)
    right = np.asarray(logits).argmax(-1) == np.asarray(TEXT)[:, 1:]
    assert found["accuracy"] == pytest.approx(right.mean(), rel=1e-6)


@strict
def test_perplexity_is_that_without_smoothing():
    logits = jnp.array(real(9, 5, 4))
    plain, smooth = jaxnn.next_token(), jaxnn.next_token(label_smoothing=0.3)
    batch = plain.prepare(None, {"inputs": TEXT})
    assert_same_bits(plain.metrics(logits, batch), smooth.metrics(logits, batch))
    assert not np.allclose(plain.loss(logits, batch)[0], smooth.loss(logits, batch)[0])


def test_weights_of_windows_and_of_labels():
    goal = jaxnn.next_token()
    each = jnp.broadcast_to(jnp.arange(9.0)[:, None], (9, 5))
    for weights in (jnp.arange(9.0), each):
        batch = goal.prepare(None, {"inputs": TEXT, "weights": weights})
        _, given = goal.loss(jnp.zeros((9, 5, 4)), batch)
        assert_same_bits(given, each)


def test_tokens_are_checked_in_windows_and_in_one_long_text():
    check, outputs = jaxnn.next_token().check, jax.ShapeDtypeStruct((9, 5, 4), jnp.float32)
    for inputs, place in ((TEXT.at[7, 5].set(4), r"inputs\[7, 5\]=4"), (TEXT[0] - 1, "=-1")):
        check(outputs, {"inputs": TEXT})
        with pytest.raises(InvalidValue, match=place):
            check(outputs, {"inputs": inputs})


def test_a_language_is_learned():
    """After 0 comes 1, after 1 comes 2, ...: no perplexity is left."""
    text = (np.arange(40)[:, None] + np.arange(7)) % 5
    network = jaxnn.serial(jaxnn.embedding(5, 8), jaxnn.linear(5))
    model = jaxnn.learner(network, jaxnn.next_token(), optax.adam(0.05))
    data = jaxnn.resident({"inputs": text}, batch_size=40)
    for progress in jaxnn.train(model, data, steps=60, key=KEY):
        pass
    assert 1.0 <= float(progress.metrics["train/perplexity"]) < 3
    found = jaxnn.evaluate(model, progress.state, data)
    assert found["perplexity"] < 1.1 and found["accuracy"] == 1.0
    assert found["loss"] == pytest.approx(np.log(found["perplexity"]), abs=1e-4)


# --- Focal -------------------------------------------------------------------------------------


@strict
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal(gamma):
    """Of two classes it is Optax's for a sigmoid; gamma 0 is cross-entropy."""
    yes, score = jnp.array(whole(2, 9)), LOGITS[:, 0]
    two = jnp.stack([jnp.zeros(9), score], 1)
    values, _ = losses(jaxnn.objectives.focal(gamma=gamma, alpha=(0.75, 0.25)), two, labels=yes)
    with jax.numpy_dtype_promotion("standard"):
        wanted = optax.losses.sigmoid_focal_loss(
            score, yes.astype(jnp.float32), alpha=0.25, gamma=gamma
        )
    assert_close(values, wanted)
    plain, _ = losses(jaxnn.objectives.focal(gamma=0.0), LOGITS, labels=LABELS)
    assert_close(plain, losses(jaxnn.classification(), LOGITS, labels=LABELS)[0])
    traced = jax.jit(lambda g: losses(jaxnn.objectives.focal(gamma=g), LOGITS, labels=LABELS)[0])(
        gamma
    )
    p = np.asarray(jax.nn.softmax(LOGITS, -1))[np.arange(9), LABELS]
    assert_close(traced, -((1 - p) ** gamma) * np.log(p))


def test_factors_may_be_an_array():
    found, wanted = (
        losses(jaxnn.objectives.focal(alpha=alpha), LOGITS, labels=LABELS)[0]
        for alpha in (np.array([0.1, 0.2, 0.3, 0.4]), (0.1, 0.2, 0.3, 0.4))
    )
    assert_close(found, wanted)


def test_focal_of_what_is_certain():
    """Where 1 - p rounds to 0, value and gradient are finite, for gamma below 1 too."""
    sure, labels = jnp.array([[40.0, 0.0, 0.0], [-90.0, 90.0, 0.0]]), jnp.array([0, 0])
    for gamma in (0.5, 2.0):
        goal = jaxnn.objectives.focal(gamma=gamma)
        total = jax.value_and_grad(lambda x, g=goal: losses(g, x, labels=labels)[0].sum())
        value, slope = total(sure)
        assert value == pytest.approx(180.0) and np.isfinite(slope).all()


# --- Contrastive -------------------------------------------------------------------------------


def by_hand(queries, keys, temperature):
    queries, keys = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, keys))
    logits = queries @ keys.T / temperature
    return -np.diag(logits - np.log(np.exp(logits).sum(1, keepdims=True)))


@strict
def test_info_nce():
    pair = real(6, 3), real(6, 3, seed=1)
    one_way = jaxnn.objectives.info_nce(temperature=0.5, symmetric=False)
    both = jaxnn.objectives.info_nce(temperature=0.5)
    there, back = by_hand(*pair, 0.5), by_hand(*pair[::-1], 0.5)
    given = tuple(map(jnp.array, pair))
    assert_close(losses(one_way, given)[0], there)
    assert_close(losses(both, given)[0], (there + back) / 2)
    found = both.metrics(given, {"inputs": given[0]})["accuracy"].value()
    units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in pair]
    assert found == pytest.approx(((units[0] @ units[1].T).argmax(1) == np.arange(6)).mean())
    alike = (jnp.ones((6, 3)),) * 2
    assert_close(losses(both, alike)[0], np.full(6, np.log(6), np.float32))


@strict
def test_info_nce_is_blind_to_what_does_not_count():
    """Rows of weight 0 are no wrong answers, whatever they hold, and pass no gradient."""
    goal, pair = jaxnn.objectives.info_nce(), (jnp.array(real(6, 3)), jnp.array(real(6, 3, seed=1)))
    weights = jnp.array([1.0, 1, 1, 1, 0, 0])

    def mean(pair, **batch):
        return measures.mean(*goal.loss(pair, {"inputs": pair[0], **batch})).value()

    few = jax.tree.map(lambda x: x[:4], pair)
    spoiled = jax.tree.map(lambda x: x.at[4:].set(jnp.nan), pair)
    both = jax.jit(jax.value_and_grad(mean))
    value, slopes = both(spoiled, weights=weights)
    wanted, wanted_slopes = both(few)
    assert_close(value, wanted)
    assert_close(jax.tree.map(lambda x: x[:4], slopes), wanted_slopes)
    measured = goal.metrics(spoiled, {"inputs": pair[0], "weights": weights})
    assert_close(
        measured["accuracy"].value(), goal.metrics(few, {"inputs": few})["accuracy"].value()
    )


# --- Autoencoders ------------------------------------------------------------------------------


@strict
def test_reconstruction():
    images = jnp.array(whole(256, 5, 2, 2).astype(np.uint8))
    goal = jaxnn.objectives.reconstruction(
        jaxnn.objectives.absolute_error, targets=lambda x: x.astype(jnp.float32) / 255.0
    )
    outputs = jnp.array(real(5, 2, 2))
    values, weights = jax.jit(goal.loss)(outputs, {"inputs": images})
    assert_close(values, np.abs(np.asarray(outputs) - np.asarray(images) / 255).mean((1, 2)))
    assert list(goal.metrics(outputs, {"inputs": images})) == ["r2", "mae"]


@strict
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_elbo(likelihood):
    """Against the densities of scipy, and the divergence by the integral."""
    inputs = jnp.array(whole(2, 3, 4).astype(np.float32))
    outputs = {
        "reconstruction": jnp.array(real(3, 4)),
        "mean": jnp.array(real(3, 1, seed=1)),
        "log_variance": jnp.array(real(3, 1, seed=2)),
    }
    wanted = {
        "bernoulli": -stats.bernoulli(1 / (1 + np.exp(-outputs["reconstruction"]))).logpmf(inputs),
        "gaussian": -stats.norm(outputs["reconstruction"]).logpdf(inputs),
    }[likelihood].sum(1)
    z = np.linspace(-30, 30, 60001)
    normal = stats.norm(outputs["mean"], np.exp(0.5 * np.asarray(outputs["log_variance"])))
    kl = (normal.pdf(z) * (normal.logpdf(z) - stats.norm.logpdf(z))).sum(1) * (z[1] - z[0])
    goal = jaxnn.objectives.elbo(beta=3.0, likelihood=likelihood)
    assert_close(jax.jit(goal.loss)(outputs, {"inputs": inputs})[0], wanted + 3 * kl, 1e-4)
    found = measures.values(goal.metrics(outputs, {"inputs": inputs}))
    assert list(found) == ["reconstruction_error", "kl"]
    assert_close(list(found.values()), [wanted.mean(), kl.mean()], 1e-4)


# --- Distillation ------------------------------------------------------------------------------


@strict
def test_distilled():
    """Its gradient is that of Hinton's cross-entropy; alike, it is 0; the teacher gets none."""
    teacher = jnp.array(real(9, 4, seed=3))
    base = jaxnn.classification()
    goal = jaxnn.objectives.distill(
        base, lambda inputs: inputs @ teacher, temperature=3.0, share=0.25
    )
    batch = goal.prepare(KEY, {"inputs": jnp.eye(9), "labels": LABELS})
    assert_close(batch["teacher"], teacher)
    soft = jax.nn.softmax(teacher / 3.0, -1)

    def hinton(logits):
        hard = optax.losses.softmax_cross_entropy_with_integer_labels(logits, LABELS)
        return (
            0.75 * hard + 0.25 * 9 * optax.losses.softmax_cross_entropy(logits / 3.0, soft)
        ).sum()

    assert_close(jax.grad(lambda x: goal.loss(x, batch)[0].sum())(LOGITS), jax.grad(hinton)(LOGITS))
    own = jaxnn.objectives.distill(base, lambda inputs: inputs, temperature=3.0, share=1.0)
    batch = own.prepare(None, {"inputs": LOGITS, "labels": LABELS})
    assert_close(own.loss(LOGITS, batch)[0], np.zeros(9))
    found = measures.values(own.metrics(LOGITS, batch))
    assert list(found) == ["accuracy", "agreement"] and found["agreement"] == 1.0

    def through(inputs):
        batch = own.prepare(None, {"inputs": inputs, "labels": LABELS})
        return own.loss(LOGITS * 2.0, batch)[0].sum()

    assert not jax.jit(jax.grad(through))(LOGITS).any()


def test_the_teacher_sees_what_the_student_sees():
    base = jaxnn.objectives.augment(
        jaxnn.classification(), lambda key, x: x + jax.random.normal(key)
    )
    goal = jaxnn.objectives.distill(base, lambda inputs: 2 * inputs)
    batch = {"inputs": LOGITS, "labels": LABELS, "index": jnp.arange(9)}
    for key in (None, KEY):
        prepared = goal.prepare(key, batch)
        assert_close(prepared["teacher"], 2 * prepared["inputs"])
    assert not np.allclose(prepared["inputs"], LOGITS)


# --- More metrics of a classification ----------------------------------------------------------


def test_classification_reports_more():
    more = {"f1": measures.f1, "calibration_error": measures.calibration_error}
    goal = jaxnn.classification(top_k=2, metrics=more)
    weights = jnp.arange(9.0)
    found = goal.metrics(LOGITS, {"inputs": LOGITS, "labels": LABELS, "weights": weights})
    assert list(found) == ["accuracy", "top_2", "f1", "calibration_error"]
    assert_same_bits(found["f1"], measures.f1(LOGITS, LABELS, weights))
