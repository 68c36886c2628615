"""A guarded learner: which steps it leaves out, and that it goes on as if they had not been."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidType
from jaxnn import metrics as measures
from jaxnn.learning.guarded import guarded
from tests.gan import gan_data, gan_learner
from tests.mistakes import judge
from tests.registry import real
from tests.trees import assert_close, assert_same_bits

BATCHES = [
    {"inputs": real(6, 3, seed=2 * n), "labels": real(6, 1, seed=2 * n + 1)} for n in range(5)
]
BAD = 2  # the number of the batch that is spoilt


def first(outputs):
    return outputs[0]


def root(inputs):
    return jnp.sqrt(jnp.abs(inputs))


def spoilt(**fields):
    """The batches, with other values in one example of one of them."""
    batches = [{name: np.copy(x) for name, x in batch.items()} for batch in BATCHES]
    for name, value in fields.items():
        batches[BAD][name][1] = value
    return batches


# Where it first shows: the network, the optimizer, the loss, and what spoils a batch.
FAULTS = {
    "loss": (
        lambda: jaxnn.mlp([4], 1), optax.adam(0.1), jaxnn.regression(), {"labels": np.nan},
    ),
    # A root has no slope at 0: the loss is finite.
    "params": (
        lambda: jaxnn.serial(
            jaxnn.linear(4, bias=False), jaxnn.activation(root), jaxnn.linear(1)
        ),
        optax.sgd(0.1), jaxnn.regression(), {"inputs": 0.0},
    ),
    # Nothing reads these statistics, whose variance overflows.
    "state": (
        lambda: jaxnn.serial(
            jaxnn.parallel(jaxnn.activation(jnp.tanh), jaxnn.batch_norm(), combine=first),
            jaxnn.linear(1),
        ),
        optax.sgd(0.1), jaxnn.regression(), {"inputs": 1e30},
    ),
    # Adam squares gradients: the parameters stay finite, and for ever as they are.
    "opt_state": (
        lambda: jaxnn.linear(1), optax.adam(0.1), jaxnn.regression(jaxnn.absolute_error),
        {"inputs": 1e25},
    ),
}  # fmt: skip


def made(fault):
    network, optimizer, objective, fields = FAULTS[fault]
    return jaxnn.learner(network(), objective, optimizer), spoilt(**fields)


def begin(learner):
    return learner.init(jax.random.key(0), {}, BATCHES[0])


def after(learner, batches, left_out=()):
    """Returns the state, and the window, after a step with each batch that is not left out."""
    step, state, window = jax.jit(learner.step), begin(learner), []
    for number, batch in enumerate(batches):
        if number in left_out:
            state = state._replace(step=state.step + 1)
        else:
            state, metrics = step(state, batch)
            window.append(metrics)
    total = window[0]
    for metrics in window[1:]:
        total = measures.merge(total, metrics)
    return state, total


def is_finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_spoils_is_left_out(fault):
    plain, batches = made(fault)
    state, window = after(guarded(plain), batches)
    wanted, measured = after(guarded(plain), batches, left_out={BAD})
    assert_same_bits(state._replace(extra={}), wanted._replace(extra={}))
    assert int(state.step) == len(BATCHES) and int(state.extra["skipped"]) == 1
    assert int(wanted.extra["skipped"]) == 0
    # The metrics are those of the steps that were done, but for the share of those that were not.
    assert window.pop("skipped").sums == (1, len(BATCHES))
    assert measured.pop("skipped").sums == (0, len(BATCHES) - 1)
    assert_same_bits(window, measured)


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_the_learner_otherwise(fault):
    """Without a guard the batch spoils what its name says, and nothing that would show before."""
    plain, batches = made(fault)
    state, window = after(plain, batches[: BAD + 1])
    places = {"loss": window["loss"].sums, **state._asdict()}
    assert is_finite(places["loss"]) == (fault != "loss")
    assert fault == next(place for place in FAULTS if not is_finite(places[place]))
    state, window = after(guarded(plain), batches)
    wanted, measured = after(plain, batches, left_out={BAD})
    assert_close(state._replace(extra={}), wanted)
    assert_close({name: window[name] for name in measured}, measured)


def test_what_was_infinite_before_does_not_count():
    plateau = optax.contrib.reduce_on_plateau(accumulation_size=3)  # infinite for 3 steps
    optimizer = optax.chain(optax.sgd(0.1), plateau)
    learner = guarded(jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optimizer))
    assert not is_finite(begin(learner).opt_state)
    state, _ = after(learner, spoilt(labels=np.nan))
    assert int(state.extra["skipped"]) == 1 and is_finite((state.params, state.opt_state))
    assert int(after(learner, BATCHES)[0].extra["skipped"]) == 0


def test_what_is_finite_but_large_does_not_count():
    """The sum of such numbers overflows, and is not what decides."""
    learner = guarded(jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1)))
    state = begin(learner)
    state = state._replace(extra=state.extra | {"large": jnp.full(4, 3e38)})
    state, _ = jax.jit(learner.step)(state, BATCHES[0])
    assert int(state.extra["skipped"]) == 0


def test_a_run_goes_on_past_steps_that_are_skipped():
    """An example whose loss is NaN, and nothing else: the steps that read it are skipped."""

    def loss(outputs, batch):
        errors = jnp.abs(outputs - batch["labels"]).mean(-1)
        return jnp.where(batch["index"] == 5, jnp.nan, errors)

    data = jaxnn.resident({"inputs": real(16, 3), "labels": real(16, 1, seed=1)}, batch_size=4)
    plain = jaxnn.learner(jaxnn.linear(1), jaxnn.objective(loss), optax.sgd(0.1))
    options = {"steps": 12, "key": jax.random.key(0), "every": 4}
    reports = [progress.metrics for progress in jaxnn.train(guarded(plain), data, **options)]
    assert [float(report["train/skipped"]) for report in reports] == [0.25] * 3  # once in an epoch
    assert is_finite([report["train/loss"] for report in reports])
    (*_, last) = jaxnn.train(plain, data, **options)
    assert not is_finite(last.metrics["train/loss"])


def test_the_same_learner_is_guarded_by_the_same():
    plain, _ = made("loss")
    assert guarded(plain) is guarded(plain)
    assert guarded(plain) is not guarded(made("loss")[0])


def test_a_learner_with_another_state_is_refused(compilations):
    data, key = gan_data(), jax.random.key(0)
    case = (
        lambda: jaxnn.train(guarded(gan_learner()), data, steps=3, key=key),
        InvalidType, "guarded: the state of the learner is of another kind. Got a GanState;",
        r"Return a TrainState from init, or choose in a step of your own",
    )  # fmt: skip
    judge(case, compilations)
