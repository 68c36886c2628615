"""What is computed of an example does not depend on the others of its batch, or is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import metrics as measures
from jaxnn.objectives import weights_of
from jaxnn.objectives._examples import try_examples
from tests.cases import held
from tests.registry import OBJECTIVES, real, whole

INPUTS = real(32, 3)
FLAT = {"inputs": INPUTS, "labels": INPUTS.sum(1)}
COLUMN = {"inputs": INPUTS, "labels": INPUTS.sum(1, keepdims=True)}


@pytest.fixture(autouse=True)
def promoted():
    """As users have it: ranks are promoted without a word."""
    with jax.numpy_rank_promotion("allow"):
        yield


def train(goal, data=FLAT, network=None, **options):
    learner = jaxnn.learner(network or jaxnn.linear(1), goal, optax.sgd(0.1))
    data = jaxnn.resident(data, batch_size=options.pop("batch_size", 8))
    return jaxnn.train(learner, data, steps=2, key=jax.random.key(0), **options)


def squares(outputs, batch):
    return (outputs - batch["labels"]) ** 2


def short(outputs, batch):
    return ((batch["labels"] - outputs) ** 2)[:, 0]


def from_the_mean(outputs, batch):
    return (outputs[:, 0] - batch["labels"].mean()) ** 2


def of_the_next(outputs, batch):
    return (outputs[:, 0] - jnp.roll(batch["labels"], 1)) ** 2


def of_the_last(outputs, batch):
    return outputs[:, 0] * batch["labels"][-1]


def shared_weights(outputs, batch):
    values = (outputs[:, 0] - batch["labels"]) ** 2
    return values, values / values.sum()


def of_pairs(outputs, batch):
    pairs = (outputs[:, 0] - batch["labels"]).reshape(-1, 2)
    return jnp.repeat(pairs.prod(1), 2)


MIXING = {
    squares: r"values of shape \(2, 2\) for 2 examples and \(1, 1\) for 1.*labels\[:, None\]",
    short: "loss of an example depends on the other examples",
    from_the_mean: "loss of an example depends on the other examples",
    of_the_next: "loss of an example depends on the other examples",
    of_the_last: "loss of an example depends on the other examples",
    shared_weights: "the weight of an example depends on the other",
    of_pairs: "loss of an example depends on the other examples",
}


@pytest.mark.parametrize("as_objective", [False, True])
@pytest.mark.parametrize("loss", MIXING, ids=lambda loss: loss.__name__)
def test_a_loss_that_mixes_examples_is_refused(loss, as_objective):
    goal = loss if not as_objective else jaxnn.objectives.augment(jaxnn.objective(loss), nothing)
    with pytest.raises(jaxnn.InvalidValue, match=MIXING[loss]):
        train(goal)


def nothing(key, inputs):
    return inputs


def test_a_loss_made_by_hand_is_tried_too():
    def loss(outputs, batch):
        values = squares(outputs, batch)
        return values, weights_of(batch, values)

    with pytest.raises(jaxnn.InvalidValue, match=r"\(2, 2\) for 2 examples"):
        train(jaxnn.Objective(loss))


def mean_square(outputs, batch):
    values = squares(outputs, batch)
    return {"mse": measures.mean(values, weights_of(batch, values))}


@pytest.mark.parametrize("weights", [{}, {"weights": np.ones(32)}], ids=["plain", "weighted"])
def test_a_metric_that_mixes_examples_is_refused(weights):
    goal = jaxnn.objective(lambda o, b: (o[:, 0] - b["labels"]) ** 2, metrics=mean_square)
    with pytest.raises(jaxnn.InvalidValue, match="the metric 'mse' of two examples depends on"):
        train(goal, FLAT | weights)
    goal = jaxnn.objective(lambda o, b: squares(o, b)[:, 0], metrics=mean_square)
    train(goal, COLUMN | weights)


@pytest.mark.parametrize("dtype", ["bool", "int32", "bfloat16"])
def test_sums_of_metrics_that_round_or_overflow_are_refused(dtype):
    def measured(outputs, batch):
        right = (outputs[:, 0] > 0).sum()
        return {"own": measures.Metric((right.astype(dtype), jnp.float32(1)), measures.ratio)}

    goal = jaxnn.objective(lambda o, b: (o[:, 0] - b["labels"]) ** 2, metrics=measured)
    with pytest.raises(jaxnn.InvalidType, match=f"metric 'own' have the wrong dtype. Got {dtype}"):
        train(goal)


def test_an_error_of_a_metric_itself_is_raised_unchanged():
    goal = jaxnn.objective(
        lambda o, b: (o[:, 0] - b["labels"]) ** 2,
        metrics=lambda outputs, batch, weights: {},  # pyright: ignore[reportArgumentType]
    )
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'weights'"):
        train(goal)


def test_numbers_and_weights_of_two_shapes_are_refused():
    with pytest.raises(jaxnn.InvalidValue, match=r"\(2, 2\) and weights of shape \(2,\).*None\]"):
        measures.mean(jnp.ones((2, 2)), jnp.ones(2))


def test_an_error_of_regression_that_mixes_is_refused():
    for error in (lambda p, t: (p - t) / jnp.std(t), lambda p, t: p - t[::-1]):
        with pytest.raises(jaxnn.InvalidValue, match="depends on the other examples"):
            train(jaxnn.regression(error), COLUMN)
    train(jaxnn.regression(lambda p, t: jnp.abs(p - t)), COLUMN)


def test_a_metric_of_classification_that_mixes_is_refused():
    def mixed(logits, labels, weights):
        right = labels[:, None] == logits.argmax(1)
        return measures.mean(right, jnp.ones(right.shape))

    data = {"inputs": INPUTS, "labels": whole(3, 32)}
    with pytest.raises(jaxnn.InvalidValue, match="metric 'own' of two examples depends"):
        train(jaxnn.classification(metrics={"own": mixed}), data, jaxnn.linear(3))
    train(jaxnn.classification(metrics={"own": measures.f1}), data, jaxnn.linear(3))


def test_a_batchwise_loss_may_mix():
    train(jaxnn.objectives.batchwise(lambda o, b: jnp.var(o[:, 0] - b["labels"])))
    train(jaxnn.objectives.info_nce(), network=jaxnn.parallel(jaxnn.linear(2), jaxnn.linear(2)))


@pytest.mark.parametrize("examples", [1, 2, 32])
def test_what_is_right_passes(examples):
    """With alike labels, weights of 0, one example, and whatever belongs to an example."""

    def loss(outputs, batch):
        noise = jax.vmap(jax.random.normal)(jaxnn.objectives.example_keys(None, batch))
        return (outputs[:, 0] - batch["labels"]) ** 2 * batch["scale"]["own"] + noise

    rest = {"scale": {"own": np.arange(32.0)}, "weights": np.zeros(32)}
    data = jax.tree.map(lambda x: x[:examples], FLAT | rest)
    train(loss, data, batch_size=examples)


def test_views_of_examples_are_not_tried():
    """Outputs that are not of the examples cannot be told apart by them."""

    def prepare(key, batch):
        return {**batch, "inputs": jnp.concatenate([batch["inputs"], -batch["inputs"]])}

    def loss(outputs, batch):
        return outputs[:, 0] - jnp.roll(outputs[:, 0], len(outputs) // 2)

    train(jaxnn.objective(loss, prepare=prepare))


@held(OBJECTIVES, "apart")
def test_the_law_holds_for_every_objective(case):
    data = dict(case.data)
    outputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), data.pop("outputs"))
    try_examples(case.thing, outputs, data, 8)
