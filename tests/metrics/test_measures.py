"""F1, the area under the curve, confusion, perplexity: against scikit-learn and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as theirs

import jaxnn
from jaxnn import metrics
from tests.metrics.test_metrics import merged
from tests.mistakes import judge
from tests.registry import real, whole

pytestmark = pytest.mark.usefixtures("strict")

LOGITS, LABELS = real(60, 5), whole(5, 60)
TWO, YES = 2 * real(60, 2, seed=4), whole(2, 60)
WEIGHTS = np.abs(real(60, seed=3))
WEIGHTS[[3, 30]] = 0.0
ONES = np.ones(60, np.float32)
weighted = pytest.mark.parametrize("weights", [ONES, WEIGHTS], ids=["alike", "weighted"])


@weighted
def test_f1(weights):
    wanted = theirs.f1_score(YES, TWO.argmax(1), sample_weight=weights)
    assert merged(metrics.f1, TWO, YES, weights) == pytest.approx(wanted, rel=1e-5)
    wanted = theirs.f1_score(LABELS, LOGITS.argmax(1), sample_weight=weights, average="macro")
    assert merged(metrics.f1, LOGITS, LABELS, weights) == pytest.approx(wanted, rel=1e-5)


def test_f1_leaves_out_a_class_that_is_nowhere():
    """Class 3 is neither true nor answered; class 2 is answered and never true: its F1 is 0."""
    answers, labels = jnp.array([0, 1, 1, 2]), jnp.array([0, 1, 0, 0])
    found = metrics.f1(jax.nn.one_hot(answers, 4), labels, jnp.ones(4)).value()
    assert found == pytest.approx(theirs.f1_score(labels, answers, average="macro"), rel=1e-6)
    assert found == pytest.approx((1 / 2 + 2 / 3 + 0) / 3, rel=1e-6)


def test_f1_of_two_without_a_positive():
    """None among labels or answers: nothing is counted. One that is not found is counted, as 0."""
    for label, value in ((0, np.nan), (1, 0.0)):
        found = metrics.f1(jnp.array([[1.0, 0.0]]), jnp.array([label]), jnp.ones(1)).value()
        np.testing.assert_equal(float(found), value)


@weighted
def test_confusion(weights):
    wanted = theirs.confusion_matrix(LABELS, LOGITS.argmax(1), sample_weight=weights)
    given = [jnp.array(x) for x in (LOGITS, LABELS, weights)]
    first, second = (metrics.confusion(*(x[p] for x in given)) for p in np.s_[:25, 25:])
    np.testing.assert_allclose(metrics.merge(first, second).value(), wanted, rtol=1e-5)
    tokens = [x.reshape(6, 10, *x.shape[1:]) for x in given]
    np.testing.assert_allclose(metrics.confusion(*tokens).value(), wanted, rtol=1e-5)


def tied(scores, labels, weights, bins):
    """Half the share of the pairs of opposite classes whose scores are in one part of `bins`."""
    part = np.floor((0.5 + 0.5 * scores / (1 + np.abs(scores))) * bins)
    pairs = weights[labels == 1][:, None] * weights[labels == 0][None]
    same = part[labels == 1][:, None] == part[labels == 0][None]
    return 0.5 * (pairs * same).sum() / pairs.sum()


@weighted
@pytest.mark.parametrize("bins", [10, 1000])
def test_auc(weights, bins):
    """Within half the share of tied pairs; and coarse parts are told from fine ones."""
    scores = TWO[:, 1] - TWO[:, 0] + 2 * YES.astype(np.float32)
    logits = np.stack([TWO[:, 0], TWO[:, 0] + scores], 1)
    wanted = theirs.roc_auc_score(YES, scores, sample_weight=weights)
    found = merged(lambda *a: metrics.auc(*a, bins=bins), logits, YES, weights)
    bound = tied(scores, YES, weights, bins)
    assert bound < 0.1 if bins == 10 else bound < 1e-3
    assert abs(found - wanted) <= bound + 1e-6


def test_auc_of_extremes():
    labels = jnp.array([0, 0, 1, 1])
    sure = jnp.array([[0.0, -jnp.inf], [0.0, -9.0], [0.0, 8.0], [0.0, 1e9]])
    assert float(metrics.auc(sure, labels, jnp.ones(4)).value()) == 1.0
    assert float(metrics.auc(-sure, labels, jnp.ones(4)).value()) == 0.0
    assert float(metrics.auc(0 * sure[3:] + jnp.zeros((4, 2)), labels, jnp.ones(4)).value()) == 0.5
    assert np.isnan(metrics.auc(sure, labels, jnp.array([1.0, 1, 0, 0])).value())
    assert np.isnan(metrics.auc(sure.at[0].set(jnp.nan), labels, jnp.ones(4)).value())
    assert float(metrics.auc(sure.at[0].set(jnp.nan), labels, 1.0 - jnp.eye(4)[0]).value()) == 1.0


@weighted
def test_perplexity_and_bits(weights):
    probabilities = np.exp(LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True)))
    loss = theirs.log_loss(LABELS, probabilities, sample_weight=weights)
    assert merged(metrics.perplexity, LOGITS, LABELS, weights) == pytest.approx(np.exp(loss), 1e-5)
    bits = merged(metrics.bits_per_byte, LOGITS, LABELS, weights)
    assert bits == pytest.approx(loss / np.log(2), rel=1e-5)
    long = merged(
        lambda *a: metrics.bits_per_byte(*a, bytes_per_token=4.0), LOGITS, LABELS, weights
    )
    assert long == pytest.approx(bits / 4, rel=1e-6)


def test_what_is_narrow_is_summed_in_float32():
    logits, labels = jnp.array(TWO, jnp.bfloat16), jnp.array(YES)
    for measure in (metrics.f1, metrics.auc, metrics.perplexity, metrics.confusion):
        assert measure(logits, labels, jnp.ones(60)).value().dtype == jnp.float32


def test_which_way_is_better():
    low = ["test/perplexity", "bits_per_byte", "calibration_error", "kl", "skipped", "disagreement"]
    assert [
        name for name in ["accuracy", "f1", "auc", *low] if metrics.lower_is_better(name)
    ] == low


V = jaxnn.InvalidValue
CASES = {
    "three classes of a curve": (
        lambda: metrics.auc(LOGITS, LABELS, ONES),
        V, r"auc: .* defined for two classes. Got logits of shape \(60, 5\)", r"Use f1 or top_k",
    ),
    "no bins": (lambda: metrics.auc(TWO, YES, ONES, bins=0), V, r"auc: bins", r"bins=1"),
    "tokens of no length": (
        lambda: metrics.bits_per_byte(LOGITS, LABELS, ONES, bytes_per_token=0.0),
        V, r"bits_per_byte: bytes_per_token is out of range", r"Pass, say, bytes_per_token=",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
