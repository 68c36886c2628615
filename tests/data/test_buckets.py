"""Buckets of padded sequences: the numbers of `resident`, with less padding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidValue
from jaxnn.data._buckets import at_width
from tests.trees import assert_close, assert_same_bits

KEY = jax.random.key(0)
DRAWS = np.random.default_rng(3)
LENGTHS = [*DRAWS.integers(1, 6, 25), *DRAWS.integers(20, 31, 12)]
SEQUENCES = [DRAWS.normal(size=(n, 2)).astype(np.float32) for n in LENGTHS]
FIELDS = jaxnn.pad({"inputs": SEQUENCES, "labels": DRAWS.integers(0, 3, len(LENGTHS))}, 32)
TAGS = jaxnn.pad({"inputs": SEQUENCES, "labels": [np.int32(x[:, 0] > 0) for x in SEQUENCES]}, 32)


def data_of(fields=FIELDS, **options):
    return jaxnn.buckets(fields, **({"batch_size": 4, "count": 3} | options)).shuffled(KEY)


def test_each_epoch_has_each_example_and_each_batch_is_of_one_bucket():
    data = data_of()
    assert data.num_examples == 37 and data.num_batches == 10
    orders = []
    for epoch in range(2):
        steps = jnp.arange(10 * epoch, 10 * (epoch + 1), dtype=jnp.int32)
        batches = jax.jit(jax.vmap(data.batch))(steps)
        index = np.asarray(batches["index"])
        assert set(index.ravel().tolist()) == set(range(37))
        assert np.bincount(index.ravel(), minlength=37).max() <= 4
        spans = np.ptp(np.searchsorted(data.starts, index, side="right"), axis=1)
        assert (spans > 0).sum() <= 1  # the batch that is filled up
        orders.append(index.tolist())
    assert orders[0] != orders[1]


def test_few_widths_leave_little_padding():
    data = data_of(count=2)
    assert len(data.widths) == 2 and data.widths[0] <= 8 and data.widths[-1] == 32
    assert data_of(count=1).widths == (32,)
    widths = [int(at_width(data, data.in_order(i), lambda b: jnp.int32(b["inputs"].shape[1])))
              for i in range(data.num_batches)]  # fmt: skip
    longest = [int(data.in_order(i)["lengths"].max()) for i in range(data.num_batches)]
    assert all(w >= n for w, n in zip(widths, longest)) and set(widths) == {*data.widths}


@pytest.mark.parametrize(
    ("network", "fields"),
    [
        (lambda: jaxnn.rnn([4], 3), FIELDS),
        (lambda: jaxnn.serial(jaxnn.layers.gru(4), jaxnn.linear(2)), TAGS),
    ],
    ids=["sequences", "places"],
)
def test_steps_and_evaluations_give_what_they_give_without_buckets(network, fields):
    data, plain = data_of(fields), jaxnn.resident(fields, batch_size=37)
    learner = jaxnn.learner(network(), jaxnn.classification(), optax.adam(0.01))
    state = jax.jit(lambda: learner.init(KEY, {}, plain.in_order(0)))()
    measured, wanted = (jaxnn.evaluate(learner, state, x) for x in (data, plain))
    assert measured == pytest.approx(wanted, rel=1e-5)
    after, _ = jaxnn.run(learner, state, data, 3)
    alone = state
    step = jax.jit(learner.step)
    for number in range(3):
        alone, _ = step(alone, data.batch(jnp.int32(number)))
    assert_close(after.params, alone.params, 1e-5)


def test_a_run_trains_in_buckets_and_a_population_too():
    learner = jaxnn.learner(jaxnn.rnn([4], 3), jaxnn.classification(), optax.adam(0.01))
    data = data_of(count=2)
    options = {"steps": 3, "evaluate": data}
    *_, single = jaxnn.train(learner, data, key=KEY, **options)
    keys = jnp.stack([jax.random.key(1), KEY])
    *_, both = jaxnn.train(learner, data, key=keys, **options)
    assert np.isfinite(float(single.metrics["test/loss"]))
    assert_close(jax.tree.map(lambda x: x[1], both.state.params), single.state.params, 1e-5)
    assert_same_bits(data.shuffled(KEY).arrays, data.arrays)


def test_data_without_lengths_are_refused():
    with pytest.raises(InvalidValue, match="buckets: there are no lengths.*pad"):
        jaxnn.buckets({"inputs": np.ones((2, 3))}, batch_size=1)
