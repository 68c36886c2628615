"""Classification metrics: accuracy, F1, the area under the ROC curve, calibration and others.

Each is a function `(logits, labels, weights) -> Metric`, for example for
`classification(metrics={"f1": f1})`. Logits are `[..., classes]`, labels and weights `[...]`.

>>> import jax.numpy as jnp
>>> logits = jnp.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
>>> labels = jnp.array([0, 0, 1])
>>> confusion(logits, labels, jnp.ones(3)).value().tolist()    # rows: labels; columns: predictions
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
    """Returns the fraction of examples whose label has the largest logit."""
    return mean(jnp.argmax(logits, -1) == labels, weights, better="higher")


def top_k(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
    k: int,
) -> Metric:
    """Returns the fraction of examples whose label is among the `k` largest logits.

    Of equal logits, those of the lower class numbers count as larger.
    """
    _, best = jax.lax.top_k(logits, k)
    right = jnp.any(best == labels[..., None].astype(best.dtype), -1)
    return mean(right, weights, better="higher")


def confusion(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
) -> Metric:
    """Returns the confusion matrix: entry `[i, j]` is the weight of class `i` predicted as `j`.

    The value is a matrix `[classes, classes]`, not a scalar, so `classification` does not accept
    it. Compute it after training, from the logits that `predict` returns.
    """
    classes = logits.shape[-1]
    answers = jax.nn.one_hot(jnp.argmax(logits, -1), classes).reshape(-1, classes)
    truth = (jax.nn.one_hot(labels, classes) * weights[..., None]).reshape(-1, classes)
    # Accelerators round the inputs of matrix products by default, and so would round the weights.
    return Metric(jnp.matmul(truth.T, answers, precision="highest"), _identity)


def _identity(sums: Any) -> Any:
    return sums


def f1(
    logits: Float[Array, "*shape classes"],
    labels: Int[Array, "*shape"],
    weights: Float[Array, "*shape"],
) -> Metric:
    """Returns the F1 score, the harmonic mean of precision and recall, in [0, 1].

    For a class, F1 is `2 * correct / (predicted + actual)`, in numbers of examples. For two
    classes, the value is the F1 of class 1; for more, the mean over all classes that occur among
    labels or predictions. It equals scikit-learn's `f1_score` with `average="binary"` or `"macro"`,
    except that it is NaN, not 0, if no example has weight, or, for two classes, if class 1 does not
    occur.

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
    """Returns the area under the ROC curve for two classes, in [0, 1].

    It is the probability that a random example of class 1 scores higher than one of class 0, where
    the score `m` is the difference of the logits. Scores are counted in `bins` bins of equal width
    in `m / (1 + |m|)`, and a pair in the same bin counts as one half. So the error is at most half
    the fraction of pairs that share a bin: about 0.001 for 1000 bins and scores that spread over a
    few units. The value is NaN if a class does not occur.

    Raises:
      InvalidValue: if `bins` is not a positive integer, or there are not two classes.

    Source: Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve, Radiology 1982.
    """
    positive_integer("auc", "bins", bins)
    if logits.shape[-1] != 2:
        raise InvalidValue(
            "auc",
            "the area under the curve is defined for two classes",
            got=f"logits of shape {logits.shape}",
            expected="shape (..., 2)",
            fix="Use f1 or top_k for several classes, or compare one class with the rest",
        )
    margins = (logits[..., 1] - logits[..., 0]).astype(jnp.float32)
    bounded = jnp.clip(margins, -1e30, 1e30)
    place = 0.5 + 0.5 * bounded / (1.0 + jnp.abs(bounded))
    part = jnp.clip((place * bins).astype(jnp.int32), 0, bins - 1)
    # NaN belongs to no bin, and must appear in the value.
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
    """Returns the expected calibration error: the mean gap between confidence and accuracy.

    The confidence is the probability of the predicted class. Examples are grouped by confidence
    into `bins` bins of equal width, ((k - 1) / bins, k / bins]. The error is the absolute
    difference between mean confidence and accuracy in each bin, averaged over bins with the weight
    of their examples. It lies in [0, 1], and depends on `bins`.

    Raises:
      InvalidValue: if `bins` is not a positive integer.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. (3).
    """
    positive_integer("calibration_error", "bins", bins)
    confidence = jnp.max(jax.nn.softmax(logits.astype(jnp.float32), -1), -1)
    right = jnp.argmax(logits, -1) == labels
    gaps = jnp.where(right, 1.0 - confidence, -confidence)
    # Clipped, so that NaN is in some bin and appears in the value.
    part = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    # Confidence and accuracy of a bin have the same denominator, so their difference is one sum.
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
    """Returns the mutual information between the class and the member of an ensemble, in nats.

    It is the entropy of the members' mean probabilities minus the mean of their entropies, averaged
    over examples. It is 0 if all members agree, however uncertain they are, and at most the
    smaller of log(members) and log(classes), if each member is certain of a different class.

    Source: Houlsby et al., Bayesian Active Learning for Classification, 2011, eq. (2).
    """
    each = jax.nn.softmax(logits.astype(jnp.float32), -1)
    # Equal to the difference of entropies, without cancellation.
    apart = jax.scipy.special.rel_entr(each, jnp.mean(each, 0, keepdims=True))
    return mean(jnp.mean(jnp.sum(apart, -1), 0), weights, better="lower")
