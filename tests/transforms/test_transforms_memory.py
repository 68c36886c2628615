"""What transforms are for: less to compile, and less to hold, by the figures of the compiler."""

import jax
import jax.numpy as jnp
import pytest

import jaxnn

pytestmark = pytest.mark.usefixtures("optimized")

ROWS, WIDTH, LAYERS = 256, 32, 12
# XLA for CPU has no bfloat16, and widens what a loop has stored of all layers at once, before the
# loop that goes back through them: a pass that a GPU or a TPU has no use for here.
STAY = {"xla_disable_hlo_passes": "while-loop-invariant-code-motion"}


def block(width=WIDTH):
    inside = jaxnn.linear(4 * width), jaxnn.activation(jnp.tanh), jaxnn.linear(width)
    return jaxnn.residual(jaxnn.serial(*inside))


def deep_block():
    """As in a transformer, but for attention."""
    inside = jaxnn.linear(512), jaxnn.activation(jax.nn.gelu), jaxnn.dropout(0.1), jaxnn.linear(128)
    return jaxnn.residual(jaxnn.serial(jaxnn.layer_norm(), *inside))


def lowered(network, width=WIDTH):
    """Returns the program of a gradient in training."""

    def loss(params, state, inputs, key):
        outputs, _ = network.apply(params, state, inputs, key=key)
        return jnp.square(outputs).sum()

    inputs, key = jax.ShapeDtypeStruct((ROWS, width), jnp.float32), jax.random.key(0)
    params, state = jax.eval_shape(network.init, key, inputs)
    return jax.jit(jax.grad(loss)).lower(params, state, inputs, key)


def memory(network, **options):
    """Returns the bytes that the gradient needs beside what goes in and out."""
    compiled = lowered(network).compile(compiler_options=options)
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module")
def plain():
    return memory(jaxnn.repeat(block(), LAYERS), **STAY)


@pytest.mark.slow
def test_remat_keeps_the_inputs_of_layers_alone(plain):
    """[rows, width] each, and what the gradient of one layer takes."""
    each = ROWS * WIDTH * 4
    stored = memory(jaxnn.repeat(jaxnn.remat(block()), LAYERS))
    assert LAYERS * each < stored < (LAYERS + 16) * each < 0.5 * plain
    products = memory(jaxnn.repeat(jaxnn.remat(block(), "dots"), LAYERS))
    named = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    assert stored < products == memory(jaxnn.repeat(jaxnn.remat(block(), named), LAYERS))
    assert products < plain * 1.05
    everything = memory(jaxnn.repeat(jaxnn.remat(block(), "everything"), LAYERS), **STAY)
    assert everything >= plain * 0.95


@pytest.mark.slow
@pytest.mark.parametrize("compute", [jnp.bfloat16, jnp.float16])
def test_mixed_precision_halves_activations(compute, plain):
    mixed = memory(jaxnn.mixed_precision(jaxnn.repeat(block(), LAYERS), compute), **STAY)
    assert 0.4 * plain < mixed < 0.65 * plain


def test_48_blocks_are_as_much_to_compile_as_4():
    """The gradient in training and the initialization, in lines of what XLA gets."""

    def lines(times):
        network = jaxnn.repeat(deep_block(), times)
        init = jax.jit(lambda key: network.init(key, jnp.ones((1, 128)))).lower(jax.random.key(0))
        programs = lowered(network, width=128), init
        return sum(program.as_text().count("\n") for program in programs)

    assert lines(48) < 1.1 * lines(4)
