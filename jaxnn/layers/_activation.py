"""Activations, which turn the raw output of a node into its output, and `flatten`.

>>> import jax, jax.numpy as jnp
>>> activation(jax.nn.relu).apply({}, {}, jnp.array([[-1.0, 2.0]]))[0].tolist()
[[0.0, 2.0]]
"""

import math

from jaxnn.checks import InvalidType
from jaxnn.masked import per_place
from jaxnn.network import Network, describe, stateless
from jaxnn.typing import Any, Callable


def activation(function: Callable[[Any], Any]) -> Network:
    """Returns a layer that applies `function` to its inputs, which may have any shape.

    Args:
      function: a function of one array, such as `jax.nn.relu` or `jnp.tanh`.

    Raises:
      InvalidType: if `function` is not callable, or is a `Network`.
    """
    if not callable(function) or isinstance(function, Network):
        raise InvalidType(
            "activation",
            "not a function",
            got=f"{function!r}",
            expected="a function of one array",
            fix="Pass the function itself, activation(jax.nn.relu)",
        )
    name = getattr(function, "__name__", type(function).__name__)
    layer = per_place(stateless(lambda params, inputs: function(inputs)))
    return describe(layer, "activation", function=name)


def flatten() -> Network:
    """Returns a layer that merges all axes but the first: `[batch, ...] -> [batch, features]`."""

    def apply(params, inputs):
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))

    return describe(stateless(apply), "flatten")
