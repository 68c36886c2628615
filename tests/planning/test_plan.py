"""Plans of small networks for this machine, whose figures are counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn


def gpt(layers, width, time, batch_size, vocabulary, **options):
    network = jaxnn.gpt(
        vocabulary, layers=layers, heads=4, features=width, positions=time, stacked=True, **options
    )
    learner = jaxnn.learner(network, jaxnn.next_token(), optax.adamw(1e-3))
    return learner, {"inputs": jax.ShapeDtypeStruct((batch_size, time + 1), np.int32)}


def flops_by_hand(layers, width, time, batch_size, vocabulary):
    """Two for each product, and the gradient takes twice as many as the network."""
    tokens = batch_size * time
    weights = layers * 12 * width**2 + vocabulary * width
    attention = layers * 2 * time * width  # queries with keys, and weights with values
    return 3 * 2 * tokens * (weights + attention)


def test_flops_are_those_of_a_count_by_hand():
    sizes = 3, 64, 32, 4, 100
    planned = jaxnn.plan(*gpt(*sizes))
    assert planned.flops == pytest.approx(flops_by_hand(*sizes), rel=0.05)
    assert planned.batch_size == 4 and planned.devices == 1


@pytest.mark.slow
def test_flops_of_the_stacked_gpt2_are_those_of_a_count_by_hand():
    sizes = 12, 768, 1024, 2, 50304
    planned = jaxnn.plan(*gpt(*sizes))
    assert planned.flops == pytest.approx(flops_by_hand(*sizes), rel=0.05)
    assert planned.seconds < 60


@pytest.fixture(scope="module")
def planned():
    learner = jaxnn.learner(jaxnn.mlp([64], 10), jaxnn.classification(), optax.adam(1e-3))
    inputs = jax.ShapeDtypeStruct((256, 32), np.float32)
    return jaxnn.plan(learner, {"inputs": inputs, "labels": jnp.zeros(256, jnp.int32)})


def test_arguments_are_the_state_and_the_data(planned):
    params = 32 * 64 + 64 + 64 * 10 + 10
    data = 256 * 32 + 256
    assert 4 * (3 * params + data) <= planned.memory.arguments < 4 * (3 * params + data) + 200
    assert planned.memory.peak >= planned.memory.arguments + planned.memory.temporary
    assert planned.fits and planned.missing == 0


def test_the_largest_arrays_have_names(planned):
    largest = planned.buffers[0]
    assert (largest.name, largest.kind, largest.bytes) == ("hidden_1", "temporary", 4 * 256 * 64)
    assert "data/inputs" in {each.name for each in planned.buffers}
    sizes = [each.bytes for each in planned.buffers]
    assert sizes == sorted(sizes, reverse=True)


def test_a_plan_shows_itself(planned):
    text = str(planned)
    for words in ("Plan for cpu", "FLOPs per step", "temporary", "the bound", "Fits: ", "hidden_1"):
        assert words in text
    assert all(len(line) <= 150 for line in text.splitlines())
    assert "hidden_1" in planned._repr_html_()
    assert planned.as_json()["flops"] == planned.flops == 3 * 2 * 256 * 64 * 10 + 4 * 256 * 32 * 64


def test_a_population_takes_as_much_as_its_members():
    learner, batch = gpt(2, 16, 8, 4, 32)
    alone = jaxnn.plan(learner, batch)
    many = jaxnn.plan(learner, batch, key=jaxnn.keys(range(3)))
    assert many.flops == 3 * alone.flops
    assert many.memory.arguments > 2.5 * (alone.memory.arguments - 4 * 4 * 9)


@pytest.mark.parametrize(
    "batch, words",
    [({}, "the batch has no examples"), ({"inputs": 3.0}, "arrays or jax.ShapeDtypeStructs")],
    ids=["empty", "number"],
)
def test_a_batch_has_examples(batch, words):
    learner, _ = gpt(1, 16, 8, 4, 32)
    with pytest.raises(jaxnn.InvalidType, match=words):
        jaxnn.plan(learner, batch)


def test_a_learner_with_a_mesh_is_refused():
    learner, batch = gpt(1, 16, 8, 4, 32)
    sharded = jaxnn.scale.shard(learner, jaxnn.scale.mesh(1))
    with pytest.raises(jaxnn.InvalidValue, match="the learner already has a mesh"):
        jaxnn.plan(sharded, batch)
