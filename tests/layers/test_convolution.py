"""The gradient rule of convolution against the gradients that JAX derives by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jaxnn
from jaxnn.layers._convolve import convolve
from jaxnn.loop._run import best_form, trace_step
from tests.registry import real
from tests.trees import assert_close

pytestmark = pytest.mark.usefixtures("strict")

CASES = [
    # inputs, weight, strides, padding, input dilation, dilation, groups
    ((2, 7, 3), (3, 3, 4), (1,), ((1, 1),), (1,), (1,), 1),
    ((2, 8, 4), (3, 2, 6), (2,), ((2, 0),), (1,), (2,), 2),
    ((2, 6, 7, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1), 1),
    ((2, 7, 8, 3), (3, 2, 3, 4), (2, 3), ((0, 0), (0, 0)), (1, 1), (1, 1), 1),
    ((2, 8, 6, 2), (2, 2, 2, 3), (3, 2), ((0, 1), (2, 0)), (1, 1), (1, 2), 1),
    ((2, 6, 6, 4), (3, 3, 1, 8), (1, 2), ((1, 1), (0, 1)), (1, 1), (2, 1), 4),
    ((2, 4, 5, 4), (2, 3, 2, 2), (1, 2), ((3, 2), (1, 4)), (2, 3), (1, 2), 2),
    ((2, 5, 5, 2), (1, 1, 2, 3), (2, 2), ((0, 0), (0, 0)), (1, 1), (1, 1), 1),
    ((2, 6, 6, 2), (3, 3, 2, 2), (1, 1), ((-1, 0), (0, -1)), (1, 1), (1, 1), 1),
    ((1, 4, 3, 5, 2), (2, 2, 3, 1, 4), (2, 1, 1), ((1, 0), (1, 1), (0, 2)), (1,) * 3, (1, 1, 2), 2),
]  # fmt: skip


def native(inputs, weight, strides, padding, input_dilation, dilation, groups):
    letters = "DHW"[-(inputs.ndim - 2) :]
    return lax.conv_general_dilated(
        inputs, weight, strides, padding, input_dilation, dilation,
        (f"N{letters}C", f"{letters}IO", f"N{letters}C"), groups,
    )  # fmt: skip


@pytest.mark.parametrize("inputs, weight, strides, padding, spread, dilation, groups", CASES)
def test_gradients_are_the_native_ones(inputs, weight, strides, padding, spread, dilation, groups):
    """Outputs, gradients by both operands, and the gradients of a function of those gradients."""
    settings = (strides, padding, spread, dilation, groups)
    place = real(*inputs), real(*weight, seed=1)
    directions = real(*inputs, seed=2), real(*weight, seed=3)

    def orders(convolution):
        def loss(inputs, weight):
            outputs = convolution(inputs, weight, *settings)
            return jnp.sum(outputs * jnp.cos(outputs)), outputs

        def slope(inputs, weight):
            grads, _ = jax.grad(loss, (0, 1), has_aux=True)(inputs, weight)
            return sum(jnp.vdot(g, d) for g, d in zip(grads, directions))

        def both(inputs, weight):
            first = jax.grad(loss, (0, 1), has_aux=True)(inputs, weight)
            return first, jax.grad(slope, (0, 1))(inputs, weight)

        return jax.jit(both)(*place)

    assert_close(orders(convolve), orders(native), 2e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"padding": "VALID", "window_strides": (2, 1)},
        {"padding": "same_lower"},
        {"padding": [(1, 0), (0, 2)], "rhs_dilation": (2, 1), "lhs_dilation": (1, 2)},
        {"feature_group_count": 2},
        {"batch_group_count": 2},
        {"precision": "highest"},
        {"preferred_element_type": jnp.float32},
        {"out_sharding": None},
        {"dimension_numbers": ("NHWC", "OHWI", "NHWC")},
    ],
    ids=str,
)
def test_general_convolution_is_that_of_lax(changes):
    """It takes whatever `lax.conv_general_dilated` takes, and gives the same."""
    arguments = {
        "window_strides": (1, 1),
        "padding": "SAME",
        "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
        **changes,
    }
    channels = 2 // arguments.get("feature_group_count", 1)
    shape = (2, 3, channels, 4) if "HWIO" in arguments["dimension_numbers"] else (4, 2, 3, channels)
    inputs, weight = real(4, 5, 6, 2), real(*shape, seed=1)

    def gradients(convolution):
        def loss(inputs, weight):
            return jnp.sum(jnp.sin(convolution(inputs, weight, **arguments)))

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(inputs, weight)

    ours, theirs = gradients(jaxnn.layers.conv_general_dilated), gradients(lax.conv_general_dilated)
    assert_close(ours, theirs, 1e-4)


def test_string_padding_of_dilated_inputs_is_refused_as_by_lax():
    for convolution in (jaxnn.layers.conv_general_dilated, lax.conv_general_dilated):
        with pytest.raises(ValueError, match="[Pp]adding"):
            convolution(
                real(1, 5, 5, 2), real(3, 3, 2, 2), (1, 1), "SAME", lhs_dilation=(2, 2),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )  # fmt: skip


def test_flax_takes_it_and_the_loop_is_then_the_form_to_run_in():
    """A native convolution is stepped on CPU, where its gradient is slow in a loop; ours is not."""
    import optax

    data = jaxnn.resident({"inputs": real(8, 5, 5, 2), "labels": np.arange(8) % 2}, batch_size=4)

    def forms(**options):
        def model(rngs):
            convolution = nnx.Conv(2, 3, (3, 3), rngs=rngs, **options)
            return nnx.Sequential(
                convolution, lambda x: x.mean((1, 2)), nnx.Linear(3, 2, rngs=rngs)
            )

        network = jaxnn.from_flax(model)
        learner = jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.1))
        state = jax.eval_shape(
            lambda key, d: learner.init(key, {}, d.batch(jnp.int32(0))), jax.random.key(0), data
        )
        program, _ = trace_step(learner, state, data)
        return {platform: best_form(program, platform) for platform in ("cpu", "gpu", "tpu")}

    looped = dict.fromkeys(("cpu", "gpu", "tpu"), "looped")
    assert forms(conv_general_dilated=jaxnn.layers.conv_general_dilated) == looped
    assert forms() == looped | {"cpu": "stepped"}
