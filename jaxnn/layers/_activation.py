"""Activations, which make the output of a node of its sum, and `flatten`.

>>> import jax, jax.numpy as jnp
>>> activation(jax.nn.relu).apply({}, {}, jnp.array([[-1.0, 2.0]]))[0].tolist()
[[0.0, 2.0]]
"""

import math

from jaxnn.checks import InvalidType
from jaxnn.network import Network, describe, stateless
from jaxnn.typing import Any, Callable


def activation(function: Callable[[Any], Any]) -> Network:
    """Applies a function of one array, such as `jax.nn.relu` or `jnp.tanh`, to the inputs.

    Raises:
      InvalidType: if `function` cannot be called.
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
    return describe(stateless(lambda params, inputs: function(inputs)), "activation", function=name)


def flatten() -> Network:
    """Makes one axis of all but the batch's: `[batch, ...] -> [batch, features]`."""

    def apply(params, inputs):
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))

    return describe(stateless(apply), "flatten")
