"""Layers: the smallest networks, each checked against the same Flax layer.

A node weighs its inputs, sums them and adds a bias; an activation makes its output of that sum.
`linear` is a layer of nodes up to the sum, `activation` is the rest; the other files hold what
stands between such layers. A layer is one function that returns a `Network`.
"""

from jaxnn.layers._activation import activation, flatten
from jaxnn.layers._attention import attention
from jaxnn.layers._convolve import conv_general_dilated
from jaxnn.layers._dropout import dropout, stochastic_depth
from jaxnn.layers._embedding import embedding, positions
from jaxnn.layers._linear import linear
from jaxnn.layers.convolution import conv, conv_transpose, depthwise_conv
from jaxnn.layers.normalization import batch_norm, group_norm, layer_norm, rms_norm, standardize
from jaxnn.layers.pooling import avg_pool, max_pool
from jaxnn.layers.recurrent import gru, lstm

__all__ = [
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
    "positions",
    "rms_norm",
    "standardize",
    "stochastic_depth",
]
