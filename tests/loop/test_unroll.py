"""Gradients through training: the laws over every learner, facts by hand, memory, and mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue
from jaxnn.data._resident import Resident
from jaxnn.loop._run import run
from jaxnn.loop._unroll import unroll
from tests.cases import held, real, whole
from tests.mistakes import judge, learner
from tests.network.test_laws import float64, inexact
from tests.registry import BATCH, LEARNERS
from tests.trees import assert_close

KEY = jax.random.key(4)


def begin(case):
    """Returns `(state, data)` at the beginning of a run."""
    data = jaxnn.resident(case.data, batch_size=BATCH).shuffled(KEY)
    hparams = {k: jnp.float32(v) for k, v in case.facts.get("hparams", {}).items()}
    return jax.jit(case.thing.init)(KEY, hparams, data.in_order(0)), data


SELDOM = {"convnet", "embedding", "gan", "guarded", "linen", "loss_scaled", "nnx", "regression"}


@pytest.mark.slow
@held(LEARNERS, "unroll", seldom=SELDOM)
def test_unroll(case):
    """It is `run`, also for a number of steps that is no square: states and metrics."""
    state, data = begin(case)
    wanted = jax.jit(run, static_argnums=0)(case.thing, state, data, 7)
    assert_close(jax.jit(unroll(case.thing, 7))(state, data), wanted, 1e-6)


@pytest.mark.slow
@held(LEARNERS, "gradient", seldom=SELDOM)
def test_gradient(case):
    """Gradients through three steps are finite differences: by parameters and hyper-parameters."""
    state, data = begin(case)
    draws = np.random.default_rng(5)
    # The gradient of a training jumps where a relu turns, and its loss is float32: a middle way.
    length = 3e-5
    with float64():

        def wide(tree):
            return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if inexact(x) else x, tree)

        state = wide(state)
        data = Resident(wide(data.arrays), data.key, data.batch_size)
        place = (state.params, state.hparams)
        toward = jax.tree.map(lambda x: draws.normal(size=x.shape) * (1 if x.ndim else 0.1), place)
        heavy = jax.tree.map(lambda x: draws.normal(size=x.shape), state.params)

        @jax.jit
        def slopes(place, data):
            def outcome(place):
                begun = state._replace(params=place[0], hparams=place[1])
                after, _ = unroll(case.thing, 3)(begun, data)
                products = jax.tree.map(jnp.vdot, heavy, after.params)
                return sum(jax.tree.leaves(products))

            def at(step):
                return outcome(jax.tree.map(lambda x, d: x + step * d, place, toward))

            ahead, behind = jax.lax.map(at, length * jnp.array([1.0, -1.0]))
            products = jax.tree.map(jnp.vdot, jax.grad(outcome)(place), toward)
            return (ahead - behind) / (2 * length), sum(jax.tree.leaves(products))

        measured, products = slopes(place, data)
        assert abs(measured - products) < 1e-3 * max(1.0, abs(measured))


# --- Facts -------------------------------------------------------------------------------------


def test_gradients_by_what_began_and_by_the_data():
    """Of an error each of k steps leaves 1 - 2 * rate: w = c + (w0 - c) * (1 - 2 * rate)**k."""
    line = jaxnn.learner(jaxnn.linear(1, bias=False), jaxnn.regression(), optax.sgd(0.1))
    data = jaxnn.resident({"inputs": [[1.0]], "labels": [[2.0]]}, batch_size=1)
    state = line.init(KEY, {}, data.in_order(0))

    @jax.jit
    @jax.grad
    def slopes(given):
        labels = data.arrays | {"labels": given["label"]}
        begun = state._replace(params={"weight": given["weight"]})
        after, _ = unroll(line, 5)(begun, Resident(labels, data.key, 1))
        return after.params["weight"][0, 0]

    computed = slopes({"weight": jnp.ones((1, 1)), "label": jnp.full((1, 1), 2.0)})
    wanted = {"weight": np.full((1, 1), 0.8**5), "label": np.full((1, 1), 1 - 0.8**5)}
    assert_close(computed, wanted, 1e-6)


@pytest.mark.parametrize("eps_root, finite", [(0.0, False), (1e-8, True)])
def test_the_root_of_adam(eps_root, finite):
    """A weight whose input is always 0 has no gradient, and a root no slope at 0."""
    model = jaxnn.learner(
        jaxnn.linear(3),
        jaxnn.classification(),
        lambda h: optax.adam(h["learning_rate"], eps_root=eps_root),
    )
    inputs = real(12, 4) * np.float32([1, 1, 0, 1])
    data = jaxnn.resident({"inputs": inputs, "labels": whole(3, 12)}, batch_size=12)

    @jax.jit
    @jax.value_and_grad
    def outcome(rate):
        state = model.init(KEY, {"learning_rate": rate}, data.in_order(0))
        state, window = unroll(model, 4)(state, data)
        return model.evaluate(state, data.in_order(0))["loss"].value()

    loss, slope = outcome(0.05)
    assert np.isfinite(loss) and bool(np.isfinite(slope)) == finite
    if finite:
        ahead, behind = (float(outcome(rate)[0]) for rate in (0.0505, 0.0495))
        assert float(slope) == pytest.approx((ahead - behind) / 1e-3, rel=1e-2)


@pytest.mark.slow
def test_memory_grows_with_the_root_of_the_steps():
    """By 4 times as many steps it grows by twice as much as by the 4 times before, not 4 times."""
    inputs = real(512, 32)
    data = jaxnn.resident({"inputs": inputs, "labels": whole(10, 512)}, batch_size=64)
    model = jaxnn.learner(
        jaxnn.mlp([64, 64], 10), jaxnn.classification(), lambda h: optax.sgd(h["rate"], 0.9)
    )

    def outcome(rate, data, steps):
        state = model.init(KEY, {"rate": rate}, data.in_order(0))
        state, _ = unroll(model, steps)(state, data)
        return model.evaluate(state, data.in_order(0))["loss"].value()

    gradient = jax.jit(jax.grad(outcome), static_argnums=2)
    few, more, most = (
        gradient.lower(0.1, data, steps).compile().memory_analysis().temp_size_in_bytes
        for steps in (64, 256, 1024)
    )
    assert most < 4.5 * few
    assert most - more < 2.5 * (more - few)


# --- Mistakes ----------------------------------------------------------------------------------

V, T = InvalidValue, InvalidType
CASES = {
    "no steps": (lambda: unroll(learner(), 0), V, r"unroll: steps .* steps=0", r"steps=1"),
    "steps as a number that is learned": (
        lambda: jax.eval_shape(lambda n: unroll(learner(), n), 3),
        T, r"unroll: steps is not an int. Got steps as a traced number", r"Write steps=8",
    ),
    "not a learner": (
        lambda: unroll(jaxnn.mlp([8], 3), 3),
        T, r"unroll: learner has the wrong type. Got a Network", r"learner\(network, objective",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
