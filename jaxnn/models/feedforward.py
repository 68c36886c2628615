"""Networks without loops: the multi-layer perceptron, and the convolutional network.

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


def convnet(
    channels: Sequence[int],
    hidden: int,
    outputs: int,
    *,
    activation: Callable[[Any], Any] = jax.nn.relu,
    dropout: Number = 0.0,
    scale: Number = 1.0,
) -> Network:
    """Makes a block of 3x3 convolution, activation and 2x2 max-pooling for each of `channels`.

    Args:
      channels: the features of each block's convolution.
      hidden: the number of nodes of the hidden layer after the blocks.
      outputs: the number of output nodes.
      activation: what follows every convolution and the hidden layer.
      dropout: the rate of dropout before the hidden layer and before the output; may be traced.
      scale: multiplies the initial weights; may be traced.

    Takes images `[batch, height, width, channels]`, or grey ones `[batch, height, width]`.

    Raises:
      InvalidValue: if a size is not positive, or a rate is outside [0, 1).
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
    """Gives grey images `[batch, height, width]` an axis of one channel; others have theirs."""
    return describe(
        stateless(lambda params, images: images[..., None] if images.ndim == 3 else images),
        "channels",
    )
