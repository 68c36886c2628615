"""Each mistake in such an objective is named before anything compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue, objectives
from jaxnn import metrics as measures
from jaxnn.objectives import batchwise
from tests.mistakes import DATA, judge, train
from tests.registry import real, whole

LOGITS, LABELS = jnp.array(3 * real(9, 4)), jnp.array(whole(4, 9))
TEXT = jnp.array(whole(4, 9, 6))


def traced(goal, outputs, **batch):
    def measured():
        prepared = goal.prepare(None, {"inputs": LOGITS, **batch})
        return goal.loss(outputs, prepared)

    return jax.eval_shape(measured)


V, T = InvalidValue, InvalidType
NUMBERS = jax.ShapeDtypeStruct((9, 4), jnp.float32)
CODED = {"reconstruction": LOGITS, "mean": LOGITS[:, :2], "log_variance": LOGITS[:, :2]}
OUTSIDE = jaxnn.resident({"inputs": np.array([[0, 1, 2], [1, 2, 5]])}, batch_size=2)
CASES = {
    "smoothing of tokens": (
        lambda: jaxnn.next_token(label_smoothing=1.0), V, r"label_smoothing=1\.0", r"Pass, say,",
    ),
    "tokens of no length": (
        lambda: jaxnn.next_token(bytes_per_token=-1), V, r"bytes_per_token=-1", r"Pass, say,",
    ),
    "numbers for tokens": (
        lambda: train(parts=(None, jaxnn.next_token())),
        T, r"not windows of tokens. Got inputs float32\[4, 4\]",
        r"Cut the text into windows one token longer",
    ),
    "a token outside of the vocabulary": (
        lambda: train(
            OUTSIDE,
            parts=(jaxnn.serial(jaxnn.embedding(5, 3), jaxnn.linear(5)), jaxnn.next_token()),
        ),
        V, r"tokens are out of range. Got inputs\[1, 2\]=5 with 5 outputs",
        r"Number tokens from 0, and give the network an output for each",
    ),
    "an output for each window": (
        lambda: traced(jaxnn.next_token(), NUMBERS, inputs=TEXT),
        V, r"outputs of shape \(9, 4\) and labels of shape \(9, 5\)", r"one output per class",
    ),
    "no focus": (lambda: objectives.focal(gamma=-1), V, r"focal: gamma .* gamma=-1", r"Pass, say"),
    "a factor of nothing": (
        lambda: objectives.focal(alpha=(1.0, 0.0)), V, r"focal: alpha .* alpha=0\.0", r"Pass, say",
    ),
    "factors of other classes": (
        lambda: train(parts=(None, objectives.focal(alpha=(0.75, 0.25)))),
        V, r"Got 3 outputs and 2 factors", r"alpha one factor per class",
    ),
    "one class alone": (
        lambda: train(parts=(jaxnn.mlp([3], 1), objectives.focal())),
        V, r"Got 1 outputs; expected at least two", r"one output per class",
    ),
    "absolute zero": (
        lambda: objectives.info_nce(temperature=0.0), V, r"info_nce: temperature", r"Pass, say",
    ),
    "one view": (
        lambda: train(parts=(None, objectives.info_nce())),
        T, r"not a pair of queries and keys. Got a \w+ of arrays of shapes \(4, 3\)",
        r"parallel\(queries, keys\)",
    ),
    "views of two sizes": (
        lambda: traced(objectives.info_nce(), (LOGITS, CODED["mean"])),
        T, r"a tuple of arrays of shapes \(9, 4\), \(9, 2\)", r"Give the network two outputs",
    ),
    "a reconstruction of another shape": (
        lambda: train(parts=(None, objectives.reconstruction())),
        V, r"outputs of shape \(4, 3\) and labels of shape \(4, 4\)", r"one output for each",
    ),
    "an unknown likelihood": (
        lambda: objectives.elbo(likelihood="gauss"),
        V, r"likelihood='gauss'; expected one of bernoulli, gaussian", r"Did you mean 'gaussian'\?",
    ),
    "beta below 0": (lambda: objectives.elbo(beta=-1), V, r"elbo: beta .* beta=-1", r"Pass, say"),
    "a plain autoencoder": (
        lambda: train(parts=(None, objectives.elbo())),
        T, r"not those of a variational autoencoder", r"or use reconstruction\(\)",
    ),
    "bytes to reconstruct": (
        lambda: traced(objectives.elbo(), CODED, inputs=LABELS),
        T, r"elbo: .* dtype int32", r"targets=lambda inputs: inputs\.astype",
    ),
    "a decoder of another shape": (
        lambda: traced(objectives.elbo(), CODED, inputs=real(9, 3)),
        V, r"reconstruction \(9, 4\) of inputs \(9, 3\), mean \(9, 2\)", r"Reshape the decoder",
    ),
    "inputs that are no probabilities": (
        lambda: objectives.elbo().check(None, {"inputs": np.array([[0.0, 16.0]])}),
        V, r"not probabilities.*Got inputs from 0\.0 to 16\.0", r"pass likelihood='gaussian'",
    ),
    "targets that are no probabilities": (
        lambda: objectives.elbo(targets=lambda inputs: inputs.astype(jnp.float32)).check(
            None, {"inputs": np.array([[0, 255]], np.uint8)}
        ),
        V, r"targets are not probabilities.*Got targets from 0\.0 to 255\.0", r"Divide them by",
    ),
    "a base of one value": (
        lambda: traced(
            objectives.distill(batchwise(lambda outputs, batch: outputs.mean()), jnp.sin),
            LOGITS,
        ),
        V, r"distill: .* losses of shape \(\) and divergences of shape \(9,\)", r"and batchwise",
    ),
    "a cold teacher": (
        lambda: objectives.distill(jaxnn.classification(), jnp.sin, temperature=0),
        V, r"distill: temperature", r"Pass, say",
    ),
    "more than all from the teacher": (
        lambda: objectives.distill(jaxnn.classification(), jnp.sin, share=1.5),
        V, r"distill: share .* share=1\.5", r"Pass, say",
    ),
    "a teacher of other classes": (
        lambda: train(parts=(None, objectives.distill(jaxnn.classification(), jnp.sin))),
        V, r"outputs of shape \(4, 3\) and a teacher's of shape \(4, 4\)", r"in the same order",
    ),
    "a report of a matrix": (
        lambda: train(
            DATA, parts=(None, jaxnn.classification(metrics={"matrix": measures.confusion}))
        ),
        V, r"the metric 'matrix' is not a scalar. Got a value of shape \(3, 3\)",
        r"Compute it after training",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
