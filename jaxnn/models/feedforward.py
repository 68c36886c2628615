"""Feedforward networks: the multilayer perceptron, and a small convolutional network.

>>> mlp([64, 32], 10)
mlp(hidden=(64, 32), outputs=10)
  flatten: flatten()
  hidden_1: linear(features=64)
  activation_1: activation(function=relu)
  hidden_2: linear(features=32)
  activation_2: activation(function=relu)
  output: linear(features=10)
>>> convnet([32, 64], 128, 10).parts.children[1][0]
'conv_1'
"""

from collections.abc import Sequence

import jax

from jaxnn.layers import activation as activation_layer
from jaxnn.layers import conv, flatten, linear, max_pool
from jaxnn.layers import dropout as dropout_layer
from jaxnn.layers._dropout import is_zero
from jaxnn.network import Network, describe, serial, stateless
from jaxnn.typing import Any, Callable, Number


def mlp(
    hidden: Sequence[int],
    outputs: int,
    *,
    activation: Callable[[Any], Any] = jax.nn.relu,
    dropout: Number = 0.0,
    scale: Number = 1.0,
) -> Network:
    """Returns a multilayer perceptron: `[batch, ...] -> [batch, outputs]`.

    It consists of hidden layers, each `linear` followed by an activation, and an output layer whose
    raw outputs have no activation.

    Args:
      hidden: the number of nodes of each hidden layer; `[]` for a linear model.
      outputs: the number of output nodes: classes, or numbers to predict.
      activation: the activation of every hidden layer.
      dropout: the dropout rate after every hidden layer; may be traced.
      scale: multiplies the initial weights; may be traced.

    Raises:
      InvalidValue: if a number of nodes is not positive, or `dropout` is outside [0, 1).
    """
    parts: list[tuple[str, Network]] = [("flatten", flatten())]
    for number, features in enumerate(hidden, start=1):
        parts.append((f"hidden_{number}", linear(features, scale=scale)))
        parts.append((f"activation_{number}", activation_layer(activation)))
        if not is_zero(dropout):
            parts.append((f"dropout_{number}", dropout_layer(dropout)))
    parts.append(("output", linear(outputs, scale=scale)))
    return describe(serial(*parts), "mlp", hidden=tuple(hidden), outputs=outputs)


def convnet(
    channels: Sequence[int],
    hidden: int,
    outputs: int,
    *,
    activation: Callable[[Any], Any] = jax.nn.relu,
    dropout: Number = 0.0,
    scale: Number = 1.0,
) -> Network:
    """Returns a convolutional network: `[batch, height, width, channels] -> [batch, outputs]`.

    It has one block of 3x3 convolution, activation and 2x2 max pooling for each of `channels`, then
    a hidden layer and an output layer. Grey images may be `[batch, height, width]`.

    Args:
      channels: the number of output channels of the convolution of each block.
      hidden: the number of nodes of the hidden layer.
      outputs: the number of output nodes.
      activation: the activation of every convolution and of the hidden layer.
      dropout: the dropout rate before the hidden layer and before the output layer; may be traced.
      scale: multiplies the initial weights; may be traced.

    Raises:
      InvalidValue: if a size is not positive, or `dropout` is outside [0, 1).
    """
    parts: list[tuple[str, Network]] = [("channels", image_channels())]
    for number, features in enumerate(channels, start=1):
        parts += [
            (f"conv_{number}", conv(features, 3, scale=scale)),
            (f"activation_{number}", activation_layer(activation)),
            (f"pool_{number}", max_pool(2)),
        ]
    parts += [
        ("flatten", flatten()),
        ("dropout_1", dropout_layer(dropout)),
        ("hidden", linear(hidden, scale=scale)),
        ("activation", activation_layer(activation)),
        ("dropout_2", dropout_layer(dropout)),
        ("output", linear(outputs, scale=scale)),
    ]
    return describe(serial(*parts), "convnet", channels=tuple(channels), outputs=outputs)


def image_channels() -> Network:
    """Returns a layer that adds a channel axis to grey images `[batch, height, width]`."""
    return describe(
        stateless(lambda params, images: images[..., None] if images.ndim == 3 else images),
        "channels",
    )
