"""A guarded learner: which steps it leaves out, and that it goes on as if they had not been."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidType
from jaxnn import metrics as measures
from jaxnn.learning import guard, no_gradients
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
        lambda: jaxnn.linear(1), optax.adam(0.1), jaxnn.regression(jaxnn.objectives.absolute_error),
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
    state, window = after(guard(plain), batches)
    wanted, measured = after(guard(plain), batches, left_out={BAD})
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
    state, window = after(guard(plain), batches)
    wanted, measured = after(plain, batches, left_out={BAD})
    assert_close(state._replace(extra={}), wanted)
    assert_close({name: window[name] for name in measured}, measured)


@pytest.mark.parametrize("decay", [0.75, 1.0])
@pytest.mark.parametrize("outer", [guard, lambda learner: learner], ids=["after", "before"])
@pytest.mark.parametrize("first", [0, BAD])
def test_an_average_is_of_the_steps_that_were_taken(outer, decay, first):
    plain, _ = made("loss")
    inner = plain if outer is guard else guard(plain)
    learner = outer(jaxnn.average(inner, decay=decay))
    batches = [*BATCHES[:first], spoilt(labels=np.nan)[BAD], *BATCHES[first:]]
    state, _ = after(learner, batches)
    wanted, _ = after(jaxnn.average(plain, decay=decay), BATCHES)
    assert int(state.extra["skipped"]) == 1
    assert_close(state.extra["average"], wanted.extra["average"])


def test_what_the_optimizer_keeps_may_be_infinite():
    plateau = optax.contrib.reduce_on_plateau(accumulation_size=3)  # infinite for 3 steps
    optimizer = optax.chain(optax.sgd(0.1), plateau)
    learner = guard(jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optimizer))
    assert not is_finite(begin(learner).opt_state)
    state, _ = after(learner, spoilt(labels=np.nan))
    assert int(state.extra["skipped"]) == 1 and is_finite((state.params, state.opt_state))
    assert int(after(learner, BATCHES)[0].extra["skipped"]) == 0


def test_a_spike_is_left_out_once_there_is_something_to_compare_it_with():
    """A batch with labels far away: early it counts, later it is a spike; slow drift is none."""

    def run(learner, far, steps=200):
        def one(state, number):
            scale = jnp.where(number == far, 50.0, 1.0 + number / 1000)
            noise = jax.random.normal(jax.random.fold_in(jax.random.key(7), number), (6, 1))
            batch = {"inputs": BATCHES[0]["inputs"], "labels": scale * noise}
            state, metrics = learner.step(state, batch)
            return state, (metrics["skipped"].sums[0], state.params["weight"])

        return jax.jit(lambda state: jax.lax.scan(one, state, jnp.arange(steps)))(begin(learner))

    plain = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.01))
    for far, skipped in ((20, 0), (150, 1)):
        state, (when, weights) = run(guard(plain, spike=6.0), far)
        assert int(state.extra["skipped"]) == skipped == int(when.sum())
        assert bool(when[far]) == bool(skipped)
        assert np.array_equal(weights[far], weights[far - 1]) == bool(skipped)
        assert int(state.extra["loss"]["count"]) == 200 - skipped
    assert int(run(guard(plain), 150)[0].extra["skipped"]) == 0


def test_the_mean_and_deviation_of_late_are_those_of_the_losses():
    learner = guard(jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1)), spike=6.0)
    state, losses = begin(learner), []
    for batch in BATCHES:
        state, metrics = jax.jit(learner.step)(state, batch)
        losses.append(float(metrics["loss"].value()))
    late = state.extra["loss"]
    assert_close((late["mean"], late["variance"]), (np.mean(losses), np.var(losses)))


def test_a_run_goes_on_past_steps_that_are_skipped():
    """An example whose loss is NaN, and nothing else: the steps that read it are skipped."""

    def loss(outputs, batch):
        errors = jnp.abs(outputs - batch["labels"]).mean(-1)
        return jnp.where(batch["index"] == 5, jnp.nan, errors)

    data = jaxnn.resident({"inputs": real(16, 3), "labels": real(16, 1, seed=1)}, batch_size=4)
    plain = jaxnn.learner(jaxnn.linear(1), jaxnn.objective(loss), optax.sgd(0.1))
    options = {"steps": 12, "key": jax.random.key(0), "every": 4}
    reports = [progress.metrics for progress in jaxnn.train(guard(plain), data, **options)]
    assert [float(report["train/skipped"]) for report in reports] == [0.25] * 3  # once in an epoch
    assert is_finite([report["train/loss"] for report in reports])
    (*_, last) = jaxnn.train(plain, data, **options)
    assert not is_finite(last.metrics["train/loss"])


def test_what_is_guarded_is_not_guarded_twice():
    once = guard(made("loss")[0], spike=6.0)
    assert guard(once) is once
    with pytest.raises(jaxnn.InvalidValue, match="guarded, but without this spike threshold"):
        guard(once, spike=3.0)


def test_guards_of_one_learner_are_equal_and_compile_once(compilations):
    plain, batches = made("loss")
    assert guard(plain) == guard(plain) != guard(plain, spike=6.0)
    assert guard(plain, spike=jnp.float32(6)) == guard(plain, spike=6.0)
    data = jaxnn.resident(batches[0], batch_size=3)
    options = {"steps": 2, "key": jax.random.key(0), "quiet": True, "not_finite": "skip"}
    jaxnn.fit(plain, data, **options)
    compilations.clear()
    jaxnn.fit(plain, data, **options)
    assert not compilations


def test_a_batch_that_counts_for_nothing_is_no_loss_of_late():
    learner = guard(jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1)), spike=6.0)
    nothing = BATCHES[0] | {"weights": np.zeros(6, np.float32)}
    state, _ = jax.jit(learner.step)(begin(learner), nothing)
    assert int(state.extra["skipped"]) == 0
    assert state.extra["loss"] == {"mean": 0.0, "variance": 0.0, "count": 0.0}


def test_a_learner_whose_step_is_one_piece_is_refused(compilations):
    plain, batches = made("loss")
    one_piece = plain._replace(gradients=no_gradients)
    data, key = jaxnn.resident(batches[0], batch_size=3), jax.random.key(0)
    case = (
        lambda: jaxnn.train(guard(one_piece), data, steps=3, key=key),
        InvalidType, "guard: this learner computes no gradients. Got a Learner whose gradients",
        r"Return Gradients\(values, state, loss, metrics\) .* or implement guard in update",
    )  # fmt: skip
    judge(case, compilations)
