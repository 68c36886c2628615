"""The platform law: a program is the same wherever it is traced, and lowers for every platform.

What suits a device is decided where a program is lowered: the default backend decides nothing.
"""

import re

import jax
import jax.export
import jax.numpy as jnp
import pytest

import jaxnn
from jaxnn import metrics as measures
from jaxnn.data._resident import Resident, resident
from jaxnn.loop._evaluate import evaluation
from jaxnn.loop._run import run
from tests.cases import held
from tests.registry import BATCH, LEARNERS, NETWORKS

PLATFORMS = ["cpu", "cuda", "tpu"]


@pytest.fixture
def another_backend(monkeypatch):
    """Returns `on(platform)`, which pretends that jax runs there by default."""

    def on(platform):
        monkeypatch.setattr(jax, "default_backend", lambda: platform)

    return on


def text(program):
    """Returns a traced program, as a text that is the same for the same computation."""
    return re.sub("0x[0-9a-f]+", "", str(program))


def gradient_of(network, inputs):
    """Returns a function of keys that trains a network a little, and what it predicts."""

    def program(seed, inputs):
        params, state = network.init(jax.random.key(seed), inputs)

        def loss(params):
            outputs, after = network.apply(params, state, inputs, key=jax.random.key(seed + 1))
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(outputs)), after

        return jax.grad(loss, has_aux=True)(params), network.apply(params, state, inputs)[0]

    return program, (jax.ShapeDtypeStruct((), jnp.int32), inputs)


def run_of(learner, case):
    """Returns a whole run, from a seed to metrics and outputs, and its arguments."""
    hparams = {k: jnp.float32(v) for k, v in case.facts.get("hparams", {}).items()}

    def program(seed, arrays, n):
        data = Resident(arrays, jax.random.key(seed), BATCH)
        state = learner.init(jax.random.key(seed), hparams, data.batch(jnp.int32(0)))
        state, window = run(learner, state, data, n)
        outputs = learner.predict(state, data.in_order(jnp.int32(0))["inputs"])
        return measures.values(window), evaluation(learner, state, data), outputs

    arrays = resident(case.data, batch_size=BATCH).arrays
    return program, (jax.ShapeDtypeStruct((), jnp.int32), arrays, jnp.int32(3))


def assert_platform_law(make, another_backend):
    traced = []
    for backend in ("cpu", "tpu"):
        another_backend(backend)
        program, arguments = make()  # anew, so that nothing traced before is found again
        traced.append(text(jax.make_jaxpr(program)(*arguments)))
    assert traced[0] == traced[1]
    exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(*arguments)
    assert exported.platforms == tuple(PLATFORMS)


@held(NETWORKS, "platforms")
def test_platforms_of_networks(case, another_backend):
    """A network's gradients and outputs are one program, which lowers for CPU, GPU and TPU."""
    assert_platform_law(lambda: gradient_of(case.make(), case.data), another_backend)


@held(LEARNERS, "platforms")
def test_platforms_of_learners(case, another_backend):
    """So is a whole run, with its evaluation and its predictions."""
    assert_platform_law(lambda: run_of(case.make(), case), another_backend)


def test_the_compiled_program_has_no_condition_on_the_platform():
    """Not in loops, side by side, nor under gradients of gradients either."""
    network = jaxnn.max_pool(2)
    images = jnp.ones((3, 2, 4, 4, 1))

    def loss(images):
        def body(total, each):
            return total + jnp.sum(jnp.sin(network.apply({}, {}, each)[0])), None

        return jax.lax.scan(body, 0.0, images)[0]

    def along_its_slope(images):
        return jnp.sum(jax.grad(loss)(images) ** 2)

    program = jax.jit(jax.vmap(jax.grad(along_its_slope))).lower(images[None])
    assert "reduce_window" not in program.as_text()
    assert "conditional" not in program.compile().as_text()
