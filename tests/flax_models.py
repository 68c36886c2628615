"""Two small Flax models that hold everything the bridge must carry: what the laws are held over."""

import jax.numpy as jnp
from flax import linen, nnx

import jaxnn


class NnxModel(nnx.Module):
    """A convolution with jaxnn's gradient rule, statistics of the batch, and dropout."""

    def __init__(self, outputs: int, *, rngs: nnx.Rngs):
        rule = {"conv_general_dilated": jaxnn.layers.conv_general_dilated}
        self.conv = nnx.Conv(1, 3, (3, 3), strides=2, rngs=rngs, **rule)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.output = nnx.Linear(27, outputs, rngs=rngs)

    def __call__(self, images):
        x = jnp.tanh(self.norm(self.conv(images)))
        return self.output(self.dropout(x.reshape(x.shape[0], -1)))


class LinenModel(linen.Module):
    """The same kinds of things in Linen: parameters, statistics and randomness."""

    outputs: int

    @linen.compact
    def __call__(self, inputs, train: bool):
        x = linen.Dense(8)(inputs)
        x = jnp.tanh(linen.BatchNorm(use_running_average=not train)(x))
        return linen.Dense(self.outputs)(linen.Dropout(0.1, deterministic=not train)(x))
