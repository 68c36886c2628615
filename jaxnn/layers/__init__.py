"""Layers: the smallest networks, each tested against the corresponding Flax layer.

Each layer is one function that returns a `Network`. A textbook layer of nodes is `linear`, which
computes the weighted sums and adds the biases, followed by `activation`. The other layers stand
between these.
"""

from jaxnn.layers._activation import activation, flatten
from jaxnn.layers._attention import attention
from jaxnn.layers._convolve import conv_general_dilated
from jaxnn.layers._dropout import dropout, stochastic_depth
from jaxnn.layers._embedding import embedding, positions
from jaxnn.layers._linear import linear
from jaxnn.layers._rotary import Rotary
from jaxnn.layers.convolution import conv, conv_transpose, depthwise_conv
from jaxnn.layers.normalization import batch_norm, group_norm, layer_norm, rms_norm, standardize
from jaxnn.layers.pooling import avg_pool, max_pool, over_time
from jaxnn.layers.recurrent import gru, lstm

__all__ = [
    "Rotary",
    "activation",
    "attention",
    "avg_pool",
    "batch_norm",
    "conv",
    "conv_general_dilated",
    "conv_transpose",
    "depthwise_conv",
    "dropout",
    "embedding",
    "flatten",
    "group_norm",
    "gru",
    "layer_norm",
    "linear",
    "lstm",
    "max_pool",
    "over_time",
    "positions",
    "rms_norm",
    "standardize",
    "stochastic_depth",
]
