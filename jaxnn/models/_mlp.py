"""The multi-layer perceptron: hidden layers of nodes, then an output layer.

>>> mlp([64, 32], 10)
mlp(hidden=(64, 32), outputs=10)
  flatten: flatten()
  hidden_1: linear(features=64)
  activation_1: activation(function=relu)
  hidden_2: linear(features=32)
  activation_2: activation(function=relu)
  output: linear(features=10)
"""

from collections.abc import Sequence

import jax

from jaxnn.layers import activation as activation_layer
from jaxnn.layers import dropout as dropout_layer
from jaxnn.layers import flatten, linear
from jaxnn.layers._dropout import is_zero
from jaxnn.network import Network, describe, serial
from jaxnn.typing import Any, Callable, Number


def mlp(
    hidden: Sequence[int],
    outputs: int,
    *,
    activation: Callable[[Any], Any] = jax.nn.relu,
    dropout: Number = 0.0,
    scale: Number = 1.0,
) -> Network:
    """Makes hidden layers, each `linear` and an activation, and an output layer of raw outputs.

    Args:
      hidden: the number of nodes of each hidden layer; none makes a linear model.
      outputs: the number of output nodes: classes, or numbers to predict.
      activation: what follows the sum of every hidden node.
      dropout: the rate of dropout after every hidden layer; may be traced.
      scale: multiplies the initial weights; may be traced.

    Raises:
      InvalidValue: if a number of nodes is not positive, or a rate is outside [0, 1).
    """
    parts: list[tuple[str, Network]] = [("flatten", flatten())]
    for number, features in enumerate(hidden, start=1):
        parts.append((f"hidden_{number}", linear(features, scale=scale)))
        parts.append((f"activation_{number}", activation_layer(activation)))
        if not is_zero(dropout):
            parts.append((f"dropout_{number}", dropout_layer(dropout)))
    parts.append(("output", linear(outputs, scale=scale)))
    return describe(serial(*parts), "mlp", hidden=tuple(hidden), outputs=outputs)
