"""The convolutional network: blocks of convolution and pooling, then a hidden and an output layer.

>>> convnet([32, 64], 128, 10).parts.children[1][0]
'conv_1'
"""

from collections.abc import Sequence

import jax

from jaxnn.layers import activation as activation_layer
from jaxnn.layers import conv, flatten, linear, max_pool
from jaxnn.layers import dropout as dropout_layer
from jaxnn.network import Network, describe, serial, stateless
from jaxnn.typing import Any, Callable, Number


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
