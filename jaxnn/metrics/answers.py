"""How good answers are, of logits and the true classes: the share that is right, and its relatives.

Each is a function `(logits, labels, weights) -> Metric`, so that one may stand for another:
`classification(metrics={"f1": f1})`. Logits are `[..., classes]`, labels and weights `[...]`.

>>> import jax.numpy as jnp
>>> logits = jnp.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
>>> labels = jnp.array([0, 0, 1])
>>> confusion(logits, labels, jnp.ones(3)).value().tolist()          # labels down, answers across
[[1.0, 1.0], [0.0, 1.0]]
"""

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidValue, positive_integer
from jaxnn.metrics.metric import Metric, mean
from jaxnn.typing import Any, Array, Float, Int


def accuracy(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
) -> Metric:
    """The share of examples whose largest logit is that of the label."""
    return mean(jnp.argmax(logits, -1) == labels, weights, better="higher")


def top_k(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
    k: int,
) -> Metric:
    """The share of examples whose label is among the `k` largest logits; of equals the first."""
    _, best = jax.lax.top_k(logits, k)
    right = jnp.any(best == labels[..., None].astype(best.dtype), -1)
    return mean(right, weights, better="higher")


def confusion(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
) -> Metric:
    """The confusion matrix: row `i`, column `j` is the weight of class `i` that was answered `j`.

    Its value is a matrix `[classes, classes]`, where reports of training want one number: look at
    it after, with `confusion(logits, labels, weights).value()` of the logits that `predict` gives.
    """
    classes = logits.shape[-1]
    answers = jax.nn.one_hot(jnp.argmax(logits, -1), classes).reshape(-1, classes)
    truth = (jax.nn.one_hot(labels, classes) * weights[..., None]).reshape(-1, classes)
    # Weights are summed as they are, not rounded as accelerators round in products of matrices.
    return Metric(jnp.matmul(truth.T, answers, precision="highest"), _as_it_is)


def _as_it_is(sums: Any) -> Any:
    return sums


def f1(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
) -> Metric:
    """F1, the harmonic mean of precision and recall: `2 * right / (answered + true)` of a class.

    Of two classes it is that of class 1, the positive one; of more the mean of the F1 of every
    class that is among the labels or the answers ("macro"), as scikit-learn's `f1_score` does by
    `average="binary"` and `"macro"`. From 0 to 1. Where there is nothing to count, NaN (and not
    0, as there): no example has any weight, or of two classes the labels and the answers have no
    positive one.

    Source: van Rijsbergen, Information Retrieval, 1979, chapter 7.
    """
    classes = logits.shape[-1]
    answers = jnp.argmax(logits, -1)

    def counted(chosen, shielded):
        each = jnp.where(jax.nn.one_hot(chosen, classes, dtype=bool), shielded[..., None], 0.0)
        return jnp.sum(each, range(labels.ndim))

    right = counted(labels, jnp.where(answers == labels, weights, 0.0))
    finish = _f1_of_two if classes == 2 else _f1_of_each
    either = counted(answers, weights) + counted(labels, weights)
    return Metric((right, either), finish, "higher")


def _f1_of_two(sums: tuple[Any, Any]) -> Any:
    right, either = sums
    return 2.0 * right[1] / either[1]


def _f1_of_each(sums: tuple[Any, Any]) -> Any:
    right, either = sums
    there = either > 0
    scores = jnp.where(there, 2.0 * right / jnp.where(there, either, 1.0), 0.0)
    return jnp.sum(scores) / jnp.sum(there.astype(jnp.float32))


def auc(
    logits: Float[Array, "*shape two"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
    *,
    bins: int = 1000,
) -> Metric:
    """The area under the ROC curve: how often class 1 scores above class 0, of all such pairs.

    For two classes; the score is the difference `m` of the logits. Scores are put in `bins` parts
    of equal width of `m / (1 + |m|)`, whose order is theirs, and a pair within one part counts
    half: so the value is exact but for half the share of the pairs that are within one part, with
    1000 bins some 0.001 where scores spread over a few units. NaN if a class is missing.

    Raises:
      InvalidValue: if `bins` is not a whole number above zero, or there are not two classes.

    Source: Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve, Radiology 1982.
    """
    positive_integer("auc", "bins", bins)
    if logits.shape[-1] != 2:
        raise InvalidValue(
            "auc",
            "the area under the curve is defined for two classes",
            got=f"logits of shape {logits.shape}",
            expected="shape (..., 2)",
            fix="Use f1 or top_k for several classes, or ask for one class against the rest",
        )
    margins = (logits[..., 1] - logits[..., 0]).astype(jnp.float32)
    bounded = jnp.clip(margins, -1e30, 1e30)
    place = 0.5 + 0.5 * bounded / (1.0 + jnp.abs(bounded))
    part = jnp.clip((place * bins).astype(jnp.int32), 0, bins - 1)
    # What is not a number is in no part, and must be seen.
    shielded = jnp.where(weights != 0, weights + 0.0 * place, 0.0)

    def counted(label):
        mine = jnp.where(labels == label, shielded, 0.0)
        parted = jnp.where(jax.nn.one_hot(part, bins, dtype=bool), mine[..., None], 0.0)
        return jnp.sum(parted, range(labels.ndim))

    return Metric((counted(0), counted(1)), _area, "higher")


def _area(sums: tuple[Any, Any]) -> Any:
    negative, positive = sums
    below = jnp.cumsum(negative) - 0.5 * negative
    return jnp.sum(positive * below) / (jnp.sum(positive) * jnp.sum(negative))


def calibration_error(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
    *,
    bins: int = 15,
) -> Metric:
    """The expected calibration error: how far confidence is from the share that is right.

    Confidence is the probability of the likeliest class. Examples are put in `bins` parts of
    equal width, ((k - 1) / bins, k / bins], by their confidence; of each part, the mean confidence
    and the accuracy differ by a gap, and the error is the mean of the gaps, weighted by the
    examples in them. From 0 to 1, lower is better. It depends on `bins`: compare like with like.

    Raises:
      InvalidValue: if `bins` is not a whole number above zero.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. (3).
    """
    positive_integer("calibration_error", "bins", bins)
    confidence = jnp.max(jax.nn.softmax(logits.astype(jnp.float32), -1), -1)
    right = jnp.argmax(logits, -1) == labels
    gaps = jnp.where(right, 1.0 - confidence, -confidence)
    # Clipped, so that what is not a number is in some part, and seen in the error.
    part = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    # Confidence and accuracy of a part have one denominator, so that their difference is one sum.
    counted = jnp.where(weights != 0, weights * gaps, 0.0)
    parted = jnp.where(jax.nn.one_hot(part, bins, dtype=bool), counted[..., None], 0.0)
    sums = jnp.sum(parted, range(labels.ndim)), jnp.sum(weights)
    return Metric(sums, _calibration, "lower")


def _calibration(sums: tuple[Any, Any]) -> Any:
    gaps, weight = sums
    return jnp.sum(jnp.abs(gaps)) / weight


def disagreement(
    logits: Float[Array, "members *shape classes"], weights: Float[Array, "*shape"]
) -> Metric:
    """How much the members of an ensemble disagree: what knowing the member tells of the class.

    The mutual information between the prediction and the member, in nats: the entropy of the mean
    of the members' probabilities, less the mean of their entropies; of the examples, the weighted
    mean. From 0, where members say the same (however unsure they are), to log(members) or
    log(classes), whichever is less, where each is sure of another class.

    Source: Houlsby et al., Bayesian Active Learning for Classification, 2011, eq. (2).
    """
    each = jax.nn.softmax(logits.astype(jnp.float32), -1)
    # The same number as the difference of entropies, without its cancellation.
    apart = jax.scipy.special.rel_entr(each, jnp.mean(each, 0, keepdims=True))
    return mean(jnp.mean(jnp.sum(apart, -1), 0), weights, better="lower")
