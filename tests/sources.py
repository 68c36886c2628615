"""Parameters to start from, of which no number is by rule."""

import jax
import numpy as np

import jaxnn
from tests.mistakes import INPUTS

KEY = jax.random.key(5)
NETWORK = jaxnn.mlp([8], 3)


def moved(tree):
    """Returns a tree of such shapes and dtypes, as NumPy arrays, of which no number is by rule."""
    draws = np.random.default_rng(3)
    return jax.tree.map(lambda x: draws.normal(size=x.shape).astype(x.dtype), tree)


def source(network, inputs=INPUTS):
    return moved(jax.eval_shape(network.init, KEY, inputs))


PARAMS, _ = source(NETWORK)
WIDER, _ = source(jaxnn.mlp([8], 5))


def normalized(*, first="first"):
    return jaxnn.serial(
        (first, jaxnn.serial(("dense", jaxnn.linear(8)), ("norm", jaxnn.batch_norm()))),
        ("output", jaxnn.linear(3)),
    )
