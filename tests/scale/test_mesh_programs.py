"""What XLA makes of a run on eight devices: its messages, its memory, its compilations."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import scale
from tests.cases import real, whole
from tests.scale.simulated import collectives, on_devices

pytestmark = pytest.mark.slow


def compiled(learner, batch, *, optimized=True):
    """Returns the program of a step, compiled without arrays, and the bytes of the state."""
    jax.config.update("jax_disable_most_optimizations", not optimized)
    state = jax.eval_shape(learner.init, jax.random.key(0), {}, batch)
    if learner.placement is not None:
        state = jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            state, learner.placement.shardings(state),
        )  # fmt: skip
    program = jax.jit(learner.step, donate_argnums=0).lower(state, batch).compile()
    return program, sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))


def gpt_learner(vocabulary, **options):
    network = jaxnn.gpt(vocabulary, stacked=True, **options)
    return jaxnn.learner(network, jaxnn.next_token(), optax.adamw(1e-3))


def tokens(batch, time):
    return {"inputs": jax.ShapeDtypeStruct((batch, time), np.uint16)}


def messages(program):
    return list(collectives(program.as_text()))


def gpt2():
    """GPT-2 124M, fully sharded: arguments of a device, and the largest messages."""
    sharded = scale.shard(gpt_learner(50304, remat="nothing"), scale.mesh(), scale.fsdp)
    program, total = compiled(sharded, tokens(64, 1025))
    memory = program.memory_analysis()
    shapes = [shape for _, shapes in messages(program) for shape in shapes]
    return {
        "share": memory.argument_size_in_bytes * 8 / total,
        "temporary": memory.temp_size_in_bytes,
        "activations": [shape for shape in shapes if 1024 in shape and len(shape) > 2],
        "largest": max(int(np.prod(shape)) for shape in shapes),
    }


def test_gpt2_is_split_and_its_activations_stay(tmp_path):
    result = on_devices(8, gpt2, tmp_path)
    assert result["share"] <= 1.05
    assert result["activations"] == []
    assert result["largest"] <= 50304 * 768  # the table of tokens; activations have 8 * 1024 * 768
    assert result["temporary"] <= 5e9


def small_gpt():
    """A small stacked GPT: memory and messages with the rows of parts held, without, and alone."""
    learner = gpt_learner(65, layers=3, heads=4, features=64, positions=64, dropout=0.1)
    everything = {"*": scale.largest("data", at_least=0)}
    sharded = scale.shard(learner, scale.mesh(), everything)
    program, _ = compiled(sharded, tokens(16, 65))
    alone, _ = compiled(learner, tokens(16, 65))
    parts = scale.shard(jaxnn.accumulate(learner, 4), scale.mesh(), everything)
    in_parts, _ = compiled(parts, tokens(64, 65))
    weights, programs = {64, 65, 256, 3, 1}, (program, alone, in_parts)
    return {
        "temporary": [each.memory_analysis().temp_size_in_bytes for each in programs],
        "others": [
            (kind, shape)
            for kind, shapes in messages(program) + messages(in_parts)
            for shape in shapes
            if not set(shape) <= weights
        ],
    }


def test_weights_are_collected_layer_by_layer(tmp_path):
    result = on_devices(8, small_gpt, tmp_path)
    assert result["others"] == [], "only weights, their gradients and sums travel"
    sharded, alone, in_parts = result["temporary"]
    assert sharded <= alone / 3 and in_parts <= 1.3 * sharded


def images():
    """A convolutional network, data parallel."""
    learner = jaxnn.learner(jaxnn.convnet([8, 16], 32, 10), jaxnn.classification(), optax.adam(0.1))
    batch = {
        "inputs": jax.ShapeDtypeStruct((64, 28, 28), jnp.float32),
        "labels": jax.ShapeDtypeStruct((64,), jnp.int32),
    }
    program, _ = compiled(scale.shard(learner, scale.mesh()), batch)
    return [[kind, len(shapes)] for kind, shapes in messages(program)]


def test_gradients_of_a_convnet_are_added_up_in_one_message(tmp_path):
    ((kind, arrays),) = on_devices(8, images, tmp_path)
    assert kind == "all-reduce" and arrays >= 8


NETWORKS = {
    "mlp": lambda: (jaxnn.mlp([8], 3, dropout=0.1), jaxnn.classification(), real(16, 4)),
    "resnet": lambda: (jaxnn.resnet([1], 3, width=4), jaxnn.classification(), real(16, 8, 8, 1)),
    "gpt": lambda: (
        jaxnn.gpt(32, layers=2, heads=2, features=16, positions=8, dropout=0.1, stacked=True),
        jaxnn.next_token(),
        whole(32, 16, 9, dtype=np.uint16),
    ),
}


def operations(name):
    """The number of operations of a program without a mesh, and what differs on one device."""
    jax.config.update("jax_disable_most_optimizations", False)
    network, objective, inputs = NETWORKS[name]()
    learner = jaxnn.learner(network, objective, optax.adam(0.1))
    data = jaxnn.resident({"inputs": inputs, "labels": whole(3, 16)}, batch_size=8)

    def counts(**options):
        training = jaxnn.train(learner, data, steps=8, key=jax.random.key(0), **options)
        text = training.lowered().compile().as_text()
        return Counter(" ".join(pair) for pair in re.findall(r"= (.+?) ([\w-]+)\(", text))

    alone, one = counts(), scale.mesh(1)
    meshes = [counts(mesh=one, rules=rules) for rules in (scale.replicated, scale.fsdp)]
    return alone.total(), [[*(alone - each), *(each - alone)] for each in meshes]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_mesh_of_one_device_has_the_same_program(name, tmp_path):
    """So it costs no time on the device."""
    total, different = on_devices(1, operations, tmp_path, name)
    assert total > 300 and different == [[], []]
