"""Annotations are enforced in the default tests, and not in the slow ones."""

import os

import jax.numpy as jnp
import jaxtyping
import pytest

import jaxnn

pytestmark = pytest.mark.skipif("JAXTYPING_DISABLE" in os.environ, reason="turned off")


@pytest.mark.parametrize("given", ["8", 8.0, None])
def test_an_argument_of_another_type_is_refused(given):
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'features'"):
        jaxnn.linear(given)


def test_an_argument_of_another_shape_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'weights'"):
        jaxnn.metrics.accuracy(jnp.zeros((4, 3)), jnp.zeros(4, int), jnp.zeros(5))
