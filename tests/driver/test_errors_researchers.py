"""Mistakes in learners, losses and metrics that a researcher writes, each with its answer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue
from jaxnn.learning import TrainState
from jaxnn.metrics import Metric, mean
from tests.mistakes import DATA, KEY, judge, learner, train
from tests.registry import real


def of_one(outputs, batch):
    return outputs[:, 0]


def with_metrics(metrics):
    return None, jaxnn.objective(of_one, metrics=metrics)


def with_update(change):
    """A learner whose update returns `change(state, metrics)`."""
    base = learner()
    return base._replace(update=lambda *given: change(*base.update(*given)))


def two_numbers(state, metrics):
    return state, {**metrics, "two": Metric(jnp.ones(2), whole)}


def whole(sums):
    return sums


def from_scratch():
    """A learner whose init calls no other learner's."""
    base = learner()

    def init(key, hparams, batch):
        memory = optax.sgd(0.1).init(PARAMS)
        return TrainState(jnp.zeros((), jnp.int32), PARAMS, {}, memory, key, hparams, {})

    return base._replace(init=init)


PARAMS = jax.tree.map(np.asarray, jaxnn.mlp([8], 3).init(KEY, DATA.arrays["inputs"])[0])


def with_hparams(network, **hparams):
    parts = jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.1))
    return jaxnn.train(parts, DATA, steps=3, key=KEY, hparams=hparams)


def sized(function):
    """A learner whose network reads its size from the hyper-parameters."""
    return lambda: with_hparams(lambda h: jaxnn.mlp(function(h), 3), size=8)


def members():
    return jax.vmap(lambda key: learner().init(key, {}, DATA.in_order(0)))(jaxnn.keys(range(4)))


V, T = InvalidValue, InvalidType
STATIC = r"the network uses a hyper-parameter as a Python number", r"Build a learner for each value"
SINGLE = r"is not one number. Got a value of shape \(2,\); expected a scalar", r"Report one metric"
FORM = r"Return \{'error': jaxnn\.metrics\.mean\(values, weights\)\}"
CASES = {
    "a loss that counts": (
        lambda: train(parts=(None, lambda outputs, batch: outputs.argmax(-1) != batch["labels"])),
        T, r"the loss has no gradient. Got values of dtype bool", r"Minimize a differentiable loss",
    ),
    "a complex loss": (
        lambda: train(parts=(None, lambda outputs, batch: outputs[:, 0] * 1j)),
        T, r"the values of the loss are complex. Got values of dtype complex64", r"jnp\.abs",
    ),
    "metrics of an objective that are numbers": (
        lambda: train(parts=with_metrics(lambda o, b: {"error": jnp.abs(o).mean()})),
        T, r"not metrics by name. Got 'error' with a value of type array \[\]", FORM,
    ),
    "one metric of an objective": (
        lambda: train(parts=with_metrics(lambda o, b: mean(o[:, 0], jnp.ones(len(o))))),
        T, r"not metrics by name. Got a value of type Metric", FORM,
    ),
    "an objective whose metrics return nothing": (
        lambda: train(parts=with_metrics(lambda o, b: None)),
        T, r"Got a value of type NoneType", FORM,
    ),
    "a step without a name for its loss": (
        lambda: train(parts=with_update(lambda state, metrics: (state, jnp.zeros(())))),
        T, r"learner's step are not metrics by name. Got a value of type array", FORM,
    ),
    "a step that returns the state only": (
        lambda: train(parts=with_update(lambda state, metrics: state)),
        T, r"step must return two values. Got a TrainState", r"`return state, metrics`",
    ),
    "a metric of two numbers": (
        lambda: train(parts=with_update(two_numbers)),
        T, *SINGLE,
    ),
    "a start that init ignores": (
        lambda: train(parts=from_scratch(), start=(PARAMS, {})),
        T, r"the learner's init does not use start", r"return these parameters from init",
    ),
    "a list as long as a hyper-parameter": (sized(lambda h: [8] * h["size"]), T, *STATIC),
    "a range of a hyper-parameter": (sized(lambda h: [8 for _ in range(h["size"])]), T, *STATIC),
    "a size that is read with int": (sized(lambda h: [int(h["size"])]), T, *STATIC),
    "a choice by a hyper-parameter": (sized(lambda h: [8] if h["size"] else []), T, *STATIC),
    "an integer that is rounded": (
        lambda: with_hparams(jaxnn.mlp([8], 3), seed=20240517),
        V, r"seed is an integer that float32 cannot hold. Got seed=20240517", r"20240517\.0",
    ),
    "an integer of a sweep that is rounded": (
        lambda: jaxnn.sweep({"seeding": [3, 20240517]}).hparams,
        V, r"seeding is an integer that float32 cannot hold. Got seeding=20240517", r"20240517\.0",
    ),
    "an optax class in place of an optimizer": (
        lambda: learner(optimizer=optax.MultiSteps(optax.sgd(0.1), 2)),
        T, r"the optimizer has the wrong type", r"its gradient_transformation\(\)",
    ),
    "the states of a population": (
        lambda: jaxnn.evaluate(learner(), jax.eval_shape(members), DATA),
        T, r"the state is that of a population. Got the states of 4 members", r"for each member",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)


@pytest.mark.parametrize(
    "transform",
    [lambda x: x, jaxnn.guard, jaxnn.scale_loss, lambda x: jaxnn.accumulate(x, 2), jaxnn.average],
    ids=["plain", "guard", "scale_loss", "accumulate", "average"],
)
def test_complex_parameters_descend_as_their_two_real_parts(transform):
    """The same regression with a complex weight, and with its real and imaginary parts."""
    inputs, labels = real(12, 3), real(12, 2)
    joined = jaxnn.stateless(
        lambda params, x: x @ params["w"], lambda key, x: {"w": jnp.zeros(3, jnp.complex64)}
    )
    parted = jaxnn.stateless(
        lambda params, x: x @ (params["re"] + 1j * params["im"]),
        lambda key, x: {"re": jnp.zeros(3), "im": jnp.zeros(3)},
    )

    def loss(outputs, batch):
        return jnp.abs(outputs - batch["labels"] @ jnp.array([1, 1j])) ** 2

    data = jaxnn.resident({"inputs": inputs, "labels": labels}, batch_size=4)
    ends = []
    for network in (joined, parted):
        made = transform(jaxnn.learner(network, loss, optax.sgd(0.05)))
        ends.append(jaxnn.fit(made, data, steps=9, key=KEY, quiet=True).state.params)
    both = ends[1]["re"] + 1j * ends[1]["im"]
    assert np.abs(np.imag(both)).max() > 0.01
    np.testing.assert_allclose(ends[0]["w"], both, rtol=1e-5, atol=1e-6)


def test_a_rate_that_a_plateau_scales_is_not_reported():
    def tx(hparams):
        plateau = optax.contrib.reduce_on_plateau(patience=1, factor=0.5)
        return optax.chain(optax.sgd(hparams["learning_rate"]), plateau)

    made = jaxnn.learner(jaxnn.mlp([8], 3), jaxnn.classification(), tx)
    batch = DATA.in_order(0)
    state = made.init(KEY, {"learning_rate": jnp.float32(0.1)}, batch)
    assert "learning_rate" not in jax.eval_shape(made.step, state, batch)[1]
