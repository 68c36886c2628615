"""Residual networks, in which each block adds its outputs to its inputs.

There are two forms, for small images and for ImageNet:

    resnet([3, 3, 3], 10)                                       # ResNet-20 for small images
    resnet([2, 2, 2, 2], 1000, form="imagenet")                 # ResNet-18
    resnet([3, 4, 6, 3], 1000, form="imagenet")                 # ResNet-34
    resnet([3, 4, 6, 3], 1000, form="imagenet", bottleneck=True)  # ResNet-50

>>> resnet([1, 1], 10).parts.children[4][0]
'stage_1'
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidValue, choice, positive_integer, rate
from jaxnn.layers import activation as activation_layer
from jaxnn.layers import batch_norm, conv, linear, max_pool, stochastic_depth
from jaxnn.layers._dropout import is_zero
from jaxnn.models.feedforward import image_channels
from jaxnn.network import Network, describe, residual, serial, stateless
from jaxnn.typing import Any, Callable, Number

_WIDTHS = {"cifar": 16, "imagenet": 64}


def resnet(
    blocks: Sequence[int],
    outputs: int,
    *,
    form: str = "cifar",
    width: int | None = None,
    bottleneck: bool = False,
    activation: Callable[[Any], Any] = jax.nn.relu,
    drop: Number = 0.0,
) -> Network:
    """Returns a residual network: `[batch, height, width, channels] -> [batch, outputs]`.

    It consists of stages of residual blocks, the mean over space and an output layer. Each stage
    after the first has half the height and width, and twice the channels. Grey images may be
    `[batch, height, width]`. Batch normalization averages over about the last ten batches
    (`momentum=0.9`, as in torchvision and Flax's ImageNet example): with 0.99, the running
    statistics lag for the first hundreds of steps.

    Args:
      blocks: the number of blocks of each stage.
      outputs: the number of output nodes.
      form: `"cifar"` begins with a 3x3 convolution; shortcuts between stages subsample pixels and
        pad channels with zeros. `"imagenet"` begins with a 7x7 convolution and max pooling, which
        reduce height and width to a fourth; shortcuts between stages are 1x1 convolutions.
      width: the channels of the first stage; by default 16 (`"cifar"`) or 64 (`"imagenet"`).
      bottleneck: whether a block consists of three convolutions, 1x1, 3x3 and 1x1, the last with
        four times the channels, instead of two 3x3 convolutions. The 3x3 one has the strides.
      activation: the activation after normalizations and sums.
      drop: the stochastic depth rate of the last block; the rates of the blocks before it increase
        linearly up to it. May be traced.

    Raises:
      InvalidValue: if a size is not positive, `form` is unknown, or `drop` is outside [0, 1).

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, sections 3.3 and
    4.2, https://arxiv.org/abs/1512.03385.
    """
    choice("resnet", "form", form, _WIDTHS)
    width = _WIDTHS[form] if width is None else width
    positive_integer("resnet", "width", width)
    rate("resnet", "drop", drop)
    if not isinstance(blocks, Sequence) or not blocks:
        raise InvalidValue(
            "resnet",
            "blocks are not a number for each stage",
            got=f"blocks={blocks!r}",
            expected="the number of blocks of each stage, of at least one stage",
            fix="Pass, say, blocks=[2, 2, 2, 2], which is ResNet-18",
        )
    for count in blocks:
        positive_integer("resnet", "blocks", count)
    parts: list[tuple[str, Network]] = [
        ("channels", image_channels()),
        ("conv", _conv(width, 3) if form == "cifar" else _conv(width, 7, 2)),
        ("norm", _norm()),
        ("activation", activation_layer(activation)),
    ]
    if form == "imagenet":
        parts.append(("pool", max_pool(3, strides=2, padding=[(1, 1)] * 2)))
    channels, number, total = width, 0, sum(blocks)
    for stage, count in enumerate(blocks):
        inside = width * 2**stage
        features = inside * (4 if bottleneck else 1)
        members: list[tuple[str, Network]] = []
        for place in range(count):
            number += 1
            strides = 2 if stage and not place else 1
            branch = _branch(inside, features, strides, bottleneck, activation)
            if not is_zero(drop):
                branch.append(("drop", stochastic_depth(drop * (number / total))))
            shortcut = None
            if strides > 1 or channels != features:
                projected = serial(("conv", _conv(features, 1, strides)), ("norm", _norm()))
                shortcut = _padded(features, strides) if form == "cifar" else projected
            block = serial(
                ("sum", residual(serial(*branch), shortcut)),
                ("activation", activation_layer(activation)),
            )
            members.append((f"block_{place + 1}", block))
            channels = features
        parts.append((f"stage_{stage + 1}", serial(*members)))
    mean = stateless(lambda params, images: images.mean((1, 2)))
    parts += [("mean", describe(mean, "mean_over_space")), ("output", linear(outputs))]
    return describe(serial(*parts), "resnet", blocks=tuple(blocks), outputs=outputs, form=form)


def _branch(
    inside: int, features: int, strides: int, bottleneck: bool, activation: Callable[[Any], Any]
) -> list[tuple[str, Network]]:
    if bottleneck:
        convolutions = [_conv(inside, 1), _conv(inside, 3, strides), _conv(features, 1)]
    else:
        convolutions = [_conv(inside, 3, strides), _conv(features, 3)]
    parts: list[tuple[str, Network]] = []
    for number, convolution in enumerate(convolutions, start=1):
        parts += [
            (f"conv_{number}", convolution),
            (f"norm_{number}", _norm()),
            (f"activation_{number}", activation_layer(activation)),
        ]
    return parts[:-1]  # the last activation is after the sum


def _conv(features: int, window: int, strides: int = 1) -> Network:
    # Symmetric padding; with strides, "SAME" pads more at the end.
    padding = [(window // 2, window // 2)] * 2
    return conv(features, window, strides=strides, padding=padding, bias=False, scale=2.0**0.5)


def _norm() -> Network:
    return batch_norm(momentum=0.9)


def _padded(features: int, strides: int) -> Network:
    """Returns a shortcut without parameters: it subsamples pixels and appends channels of zeros."""

    def apply(params, images):
        more = features - images.shape[-1]
        return jnp.pad(images[:, ::strides, ::strides], ((0, 0), (0, 0), (0, 0), (0, more)))

    return describe(stateless(apply), "padded", features=features, strides=strides)
