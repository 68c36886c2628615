"""An example of weight 0 changes no value and no gradient, whatever stands in it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import metrics as measures
from tests.cases import held
from tests.registry import OBJECTIVES, real, whole
from tests.trees import assert_close, assert_same_bits

ROWS = 4  # of 8 have weight 1
SPOILS = {"infinite": (np.inf, -100), "not a number": (np.nan, 255), "low": (-np.inf, 10**6)}


def spoilt(tree, number, label, rows=np.s_[ROWS:]):
    def of(x):
        x = np.array(x)
        x[rows] = number if x.dtype.kind == "f" else label
        return x

    return jax.tree.map(of, tree)


def slopes(goal, data):
    """Returns the mean loss, its gradient by the outputs, and the metrics."""

    @jax.jit
    def of(outputs, batch):
        def loss(outputs):
            return measures.mean(*goal.loss(outputs, batch)).value()

        return *jax.value_and_grad(loss)(outputs), measures.values(goal.metrics(outputs, batch))

    data = dict(data)
    return of(data.pop("outputs"), data)


@pytest.mark.parametrize("spoil", SPOILS)
@held(OBJECTIVES, "shielded")
def test_weight_0_shields_values_and_gradients(case, spoil):
    weights = np.float32([1] * ROWS + [0] * ROWS)
    loss, slope, metrics = slopes(
        case.thing, {**spoilt(case.data, *SPOILS[spoil]), "weights": weights}
    )
    few = jax.tree.map(lambda x: x[:ROWS], case.data)
    alone = slopes(case.thing, {**few, "weights": weights[:ROWS]})
    assert_close((loss, metrics), (alone[0], alone[2]))
    assert_close(jax.tree.map(lambda x: x[:ROWS], slope), alone[1])
    for rest in jax.tree.leaves(jax.tree.map(lambda x: x[ROWS:], slope)):
        np.testing.assert_array_equal(rest, 0)


@pytest.mark.parametrize("spoil", SPOILS)
def test_weight_0_of_a_token_shields_it_alone(spoil):
    """Weights may be those of places: each is shielded, and the others of its example are not."""
    weights = np.float32(whole(2, 8, 5))
    outputs, labels = real(8, 5, 4), whole(4, 8, 5)
    goal, data = jaxnn.classification(), {"inputs": real(8, 5), "weights": weights}
    plain = slopes(goal, {**data, "outputs": outputs, "labels": labels})
    hidden = {"outputs": outputs, "labels": labels}
    hidden = spoilt(hidden, *SPOILS[spoil], rows=weights == 0)
    assert_same_bits(slopes(goal, {**data, **hidden}), plain)


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_learner_shields_losses_made_by_hand(by_hand, spoil):
    """A root has an infinite slope at 0, and a logarithm no value below."""

    def loss(outputs, batch):
        return jnp.sqrt(jnp.abs(outputs - batch["labels"])[:, 0]) - jnp.log(batch["inputs"][:, 0])

    def pair(outputs, batch):
        return loss(outputs, batch), batch["weights"]

    goal = jaxnn.Objective(pair) if by_hand else loss
    learner = jaxnn.learner(jaxnn.linear(1), goal, optax.sgd(0.1))
    data = {"inputs": np.abs(real(8, 3)), "labels": real(8, 1)}
    weights = {"weights": np.float32([1] * ROWS + [0] * ROWS)}
    few = {n: jnp.asarray(x[:ROWS]) for n, x in {**data, **weights}.items()}
    state = learner.init(jax.random.key(0), {}, few)
    wanted = learner.step(state, few)
    bad = jax.tree.map(jnp.asarray, spoilt(data, *SPOILS[spoil]) | weights)
    found = learner.step(state, bad)
    assert_close(found[0].params, wanted[0].params)
    assert_close(found[1]["loss"].value(), wanted[1]["loss"].value())


def test_the_gradient_is_that_of_the_batch_without_the_example():
    batch = {
        "inputs": np.ones((4, 3), np.float32),
        "labels": np.array([0, 1, -100, 2], np.int32),
        "weights": np.array([1, 1, 0, 1], np.float32),
    }
    learner = jaxnn.learner(jaxnn.linear(3), jaxnn.objectives.focal(), optax.sgd(0.1))
    state = learner.init(jax.random.key(0), {}, batch)
    rows = np.array([0, 1, 3])
    few = {name: field[rows] for name, field in batch.items()}
    assert_close(learner.step(state, batch)[0].params, learner.step(state, few)[0].params)


MEASURES = {
    "accuracy": measures.accuracy,
    "top_k": lambda *given: measures.top_k(*given, 2),
    "f1": measures.f1,
    "calibration_error": measures.calibration_error,
    "perplexity": measures.perplexity,
    "bits_per_byte": measures.bits_per_byte,
    "confusion": measures.confusion,
    "auc": lambda logits, *given: measures.auc(logits[:, :2], *given),
}


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("name", MEASURES)
def test_metrics_are_shielded(name, spoil):
    given = {"logits": real(8, 3), "labels": whole(2, 8)}
    weights = jnp.float32([1] * ROWS + [0] * ROWS)
    bad = jax.tree.map(jnp.asarray, spoilt(given, *SPOILS[spoil]))
    few = {n: jnp.asarray(x[:ROWS]) for n, x in given.items()}
    found = MEASURES[name](bad["logits"], bad["labels"], weights).value()
    wanted = MEASURES[name](few["logits"], few["labels"], weights[:ROWS]).value()
    assert_close(found, wanted)


@pytest.mark.parametrize(
    "goal", [jaxnn.objectives.elbo(), jaxnn.classification()], ids=["elbo", "classification"]
)
def test_the_check_of_the_data_leaves_out_what_has_weight_0(goal):
    outputs = jax.ShapeDtypeStruct((2, 2), jnp.float32)
    data = {"inputs": np.float32([[0, 1], [9, 9]]), "labels": np.int32([1, -100])}
    goal.check(outputs, {**data, "weights": np.float32([1, 0])})
    with pytest.raises(jaxnn.InvalidValue):
        goal.check(outputs, {**data, "weights": np.float32([1, 1])})
