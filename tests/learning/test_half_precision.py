"""Parameters in half precision: what is summed over many examples or steps stays in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn

KEY = jax.random.key(0)
HALF = [jnp.bfloat16, jnp.float16]


def narrow(dtype, slope=1.0):
    """Returns a learner with a weight of 1 in half precision, whose gradient is `slope`."""
    network = jaxnn.Network(
        lambda key, inputs: ({"weight": jnp.ones((), dtype)}, {}),
        lambda params, state, inputs, *, key=None: (inputs * params["weight"], state),
    )
    linear = jaxnn.objective(lambda outputs, batch: slope * outputs[:, 0].astype(jnp.float32))
    return jaxnn.learner(network, linear, optax.sgd(0.25))


def stepped(learner, dtype, examples=4):
    batch = {"inputs": jnp.ones((examples, 1), dtype)}
    state = learner.init(KEY, {}, batch)
    state, metrics = jax.jit(learner.step)(state, batch)
    assert state.params["weight"].dtype == dtype
    return state, metrics


@pytest.mark.parametrize("dtype", HALF)
def test_an_average_is_kept_in_float32(dtype):
    state, _ = stepped(jaxnn.average(narrow(dtype)), dtype)
    assert state.extra["average"]["weight"].dtype == jnp.float32


@pytest.mark.parametrize("dtype", HALF)
def test_the_gradient_of_many_parts_is_that_of_the_batch(dtype):
    """4,096 parts of the gradient 1: sums in bfloat16 end at 256, in float16 at 2,048."""
    whole, _ = stepped(narrow(dtype), dtype, 4096)
    parts, _ = stepped(jaxnn.accumulate(narrow(dtype), 4096), dtype, 4096)
    np.testing.assert_array_equal(parts.params["weight"], whole.params["weight"])
    assert float(parts.params["weight"]) == 0.75


@pytest.mark.parametrize("dtype", HALF)
def test_a_gradient_whose_square_half_precision_cannot_hold_is_no_reason_to_skip(dtype):
    _, metrics = stepped(jaxnn.guard(narrow(dtype, 1024.0)), dtype)
    assert float(metrics["skipped"].value()) == 0.0
