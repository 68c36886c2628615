"""The usual learner: a step is what Optax and JAX make of it, and nothing is baked in."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import metrics as measures
from jaxnn.data._resident import Resident
from jaxnn.learning._learner import INIT, STEPS
from tests.registry import real, whole
from tests.trees import assert_close, assert_same_bits

BATCH = {"inputs": real(6, 4), "labels": whole(3, 6), "index": np.arange(6, dtype=np.int32)}


def made(learner, key, hparams=None, batch=BATCH):
    hparams = jax.tree.map(jnp.float32, hparams or {})
    return jax.jit(lambda k: learner.init(k, hparams, batch))(key)


def test_two_steps_by_hand(key):
    """Dropout and state included: the keys of a step come from the run's key and its number."""
    network = jaxnn.serial(jaxnn.linear(8), jaxnn.batch_norm(), jaxnn.dropout(0.3), jaxnn.linear(3))
    tx = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.5, momentum=0.9))
    learner = jaxnn.learner(network, jaxnn.classification(), tx)
    state = made(learner, key)

    @jax.jit
    def by_hand(key):
        params, kept = network.init(jax.random.fold_in(key, INIT), BATCH["inputs"])
        memory, values = tx.init(params), []
        for number in range(2):
            seed = jax.random.fold_in(jax.random.fold_in(key, STEPS), number)
            apply_key = jax.random.split(seed)[1]

            def loss(params, kept=kept, apply_key=apply_key):
                outputs, after = network.apply(params, kept, BATCH["inputs"], key=apply_key)
                targets = jax.nn.one_hot(BATCH["labels"], 3)
                return optax.losses.softmax_cross_entropy(outputs, targets).mean(), after

            (value, kept), grads = jax.value_and_grad(loss, has_aux=True)(params)
            updates, memory = tx.update(grads, memory, params)
            params = optax.apply_updates(params, updates)
            values.append(value)
        return params, kept, values

    params, kept, values = by_hand(key)
    step = jax.jit(learner.step)
    for value in values:
        state, metrics = step(state, BATCH)
        assert_close(metrics["loss"].value(), value)
    assert int(state.step) == 2
    assert_close((state.params, state.state), (params, kept))
    assert_same_bits(state.key, key)


@pytest.mark.slow
def test_evaluation_in_numpy_for_every_rest(key):
    """Padded evaluation is that of NumPy, for every number of examples in the last batch."""
    goal = jaxnn.classification(top_k=2)
    classes = jaxnn.learner(jaxnn.linear(3), goal, optax.sgd(0.1))
    numbers = jaxnn.learner(jaxnn.linear(2), jaxnn.regression(), optax.sgd(0.1))
    inputs, labels, targets = real(8, 4), whole(3, 8), real(8, 2, seed=3)
    state, other = made(classes, key), made(numbers, key, batch=BATCH | {"labels": real(6, 2)})
    for n in range(2, 6):
        data = jaxnn.resident({"inputs": inputs[:n], "labels": labels[:n]}, batch_size=3)
        found = jaxnn.evaluate(classes, state, data)
        logits = inputs[:n] @ np.asarray(state.params["weight"], np.float64)
        spread = np.log(np.exp(logits).sum(1)) - logits[np.arange(n), labels[:n]]
        ranks = (logits > logits[np.arange(n), labels[:n], None]).sum(1)
        assert found["loss"] == pytest.approx(spread.mean(), rel=1e-5)
        assert found["accuracy"] == pytest.approx((ranks == 0).mean())
        assert found["top_2"] == pytest.approx((ranks < 2).mean())

        data = jaxnn.resident({"inputs": inputs[:n], "labels": targets[:n]}, batch_size=3)
        found = jaxnn.evaluate(numbers, other, data)
        errors = inputs[:n] @ np.asarray(other.params["weight"], np.float64) - targets[:n]
        total = ((targets[:n] - targets[:n].mean(0)) ** 2).sum(0)
        assert found["loss"] == pytest.approx((errors**2).mean(), rel=1e-5)
        assert found["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
        assert found["r2"] == pytest.approx((1 - (errors**2).sum(0) / total).mean(), rel=1e-3)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8])
def test_predict_any_number(n, key):
    learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optax.sgd(0.1))
    state, inputs = made(learner, key), real(n, 4)
    outputs = jaxnn.predict(learner, state, inputs, batch_size=4)
    assert isinstance(outputs, np.ndarray)
    assert_close(outputs, inputs @ np.asarray(state.params["weight"]))


def test_a_rate_scales_the_step(key):
    """The learning rate is an input: twice the rate is twice the step, by one program."""
    learner = jaxnn.learner(
        jaxnn.linear(3), jaxnn.classification(), lambda h: optax.sgd(h["learning_rate"])
    )
    state = made(learner, key, {"learning_rate": 0.5})
    step, weights = jax.jit(learner.step), []
    for rate in (0.5, 1.0):
        after, metrics = step(state._replace(hparams={"learning_rate": jnp.float32(rate)}), BATCH)
        weights.append(np.asarray(after.params["weight"] - state.params["weight"]))
        assert float(metrics["learning_rate"].value()) == rate
    np.testing.assert_allclose(weights[1], 2 * weights[0], rtol=1e-5, atol=1e-7)


def test_augmentation_in_training_only(key):
    goal = jaxnn.objectives.augment(jaxnn.classification(), lambda key, inputs: 0.0 * inputs)
    learner = jaxnn.learner(jaxnn.linear(3), goal, optax.sgd(0.1))
    state = made(learner, key)
    _, metrics = jax.jit(learner.step)(state, BATCH)
    assert float(metrics["loss"].value()) == pytest.approx(np.log(3), rel=1e-6)
    seen = measures.values(jax.jit(learner.evaluate)(state, BATCH))
    assert abs(float(seen["loss"]) - np.log(3)) > 1e-3


def test_a_batch_without_weight_is_no_step(key):
    learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optax.sgd(0.5))
    state = made(learner, key)
    after, _ = jax.jit(learner.step)(state, {**BATCH, "weights": jnp.zeros(6)})
    assert_same_bits(after.params, state.params)


def test_optimizers_that_need_more(key):
    """A line search is given the loss as a function; a plateau schedule the loss of the step."""
    for tx in (optax.lbfgs(), optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())):
        learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), tx)
        step = jax.jit(learner.step)
        state, first = step(made(learner, key), BATCH)
        for _ in range(5):
            state, last = step(state, BATCH)
        assert float(last["loss"].value()) < float(first["loss"].value())


def test_gradient_through_training_steps(key):
    """Training can itself be differentiated: by the learning rate, against finite differences."""
    learner = jaxnn.learner(
        jaxnn.serial(
            jaxnn.conv(2, 2), jaxnn.activation(jnp.tanh), jaxnn.flatten(), jaxnn.linear(3)
        ),
        jaxnn.classification(),
        lambda h: optax.sgd(h["learning_rate"]),
    )
    batch = jax.tree.map(jnp.asarray, BATCH | {"inputs": real(6, 3, 3, 1)})
    state = made(learner, key, {"learning_rate": 0.3}, batch)

    @jax.jit
    def final(rate):
        start = state._replace(hparams={"learning_rate": rate})
        end, _ = jax.lax.scan(lambda s, _: (learner.step(s, batch)[0], None), start, length=4)
        return learner.evaluate(end, batch)["loss"].value()

    at, by = 0.3, 0.02
    slope = (8 * (final(at + by) - final(at - by)) - final(at + 2 * by) + final(at - 2 * by)) / (
        12 * by
    )
    assert abs(float(slope)) > 1e-2
    assert float(jax.grad(final)(at)) == pytest.approx(float(slope), rel=1e-3)


def test_the_data_are_no_constants_of_the_program(key):
    """Data are an argument: a program traced with them holds none of their numbers."""
    learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optax.sgd(0.1))
    data = jaxnn.resident({"inputs": real(50, 4), "labels": whole(3, 50)}, batch_size=6)
    state = made(learner, key)

    def program(state, arrays, key):
        return jaxnn.run(learner, state, Resident(arrays, key, 6), 2)

    traced = jax.make_jaxpr(program)(state, data.arrays, key)
    assert not [c for c in traced.consts if jnp.size(c) > 10]


def reported(optimizer, hparams, key):
    learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optimizer)
    batch = jax.tree.map(jnp.asarray, BATCH)
    _, metrics = learner.step(made(learner, key, hparams), batch)
    return measures.values(metrics).get("learning_rate")


def test_the_learning_rate_is_reported_where_it_is_known(key):
    rate = {"learning_rate": 0.25}
    assert reported(lambda h: optax.sgd(h["learning_rate"]), rate, key) == 0.25
    inject = optax.inject_hyperparams(optax.sgd)
    assert reported(inject(learning_rate=0.5), {}, key) == 0.5
    assert reported(optax.sgd(0.5), {}, key) is None
    # A schedule inside the optimizer scales it, to what cannot be seen from outside.
    scheduled = reported(
        lambda h: optax.sgd(lambda step: h["learning_rate"] / (step + 1)), rate, key
    )
    assert scheduled is None


def test_a_part_is_initialised_by_its_name(key):
    """So dropout, or another part before it, changes no weight."""
    short = jaxnn.mlp([8], 3).init(key, BATCH["inputs"])[0]
    long = jaxnn.mlp([8], 3, dropout=0.5).init(key, BATCH["inputs"])[0]
    assert_same_bits(short, long)


def test_hyper_parameters_may_be_handed_on_together():
    """As `**hparams`, or one by one: each counts as read."""
    data = jaxnn.resident({"inputs": real(6, 4), "labels": whole(3, 6)}, batch_size=6)
    given = {"learning_rate": 0.1, "weight_decay": 0.1}
    for optimizer in (
        lambda h: optax.adamw(**h), lambda h: optax.adamw(**dict(h.items())),
        lambda h: optax.adamw(**{name: h[name] for name in h}),
    ):  # fmt: skip
        learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optimizer)
        jaxnn.train(learner, data, steps=1, key=jax.random.key(0), hparams=given)


def test_names_alone_are_not_values_that_are_read():
    """As in a loop over the names, or by a checker of annotations, which looks at one of them."""
    data = jaxnn.resident({"inputs": real(6, 4), "labels": whole(3, 6)}, batch_size=6)

    def optimizer(hparams):
        assert {*hparams} == {"learning_rate", "decay"}
        return optax.sgd(hparams["learning_rate"])

    learner = jaxnn.learner(jaxnn.linear(3), jaxnn.classification(), optimizer)
    given = {"learning_rate": 0.1, "decay": 0.1}
    with pytest.raises(jaxnn.InvalidValue, match="never read. Got decay=0.1"):
        jaxnn.train(learner, data, steps=1, key=jax.random.key(0), hparams=given)
