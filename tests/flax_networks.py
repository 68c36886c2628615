"""Networks of Flax with all that they can have: state, randomness, lists of layers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

KEY = jax.random.key(0)
LIST = getattr(nnx, "List", list)  # Flax 0.12 has a type of its own for lists of layers


class Block(nnx.Module):
    def __init__(self, before, after, *, rngs, **options):
        self.conv = nnx.Conv(before, after, (3, 3), rngs=rngs, **options)
        self.norm = nnx.BatchNorm(after, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(nnx.relu(self.norm(self.conv(x))))


class CNN(nnx.Module):
    def __init__(self, features, *, rngs, **options):
        self.blocks = LIST([Block(1, features, rngs=rngs, **options)])
        self.blocks.append(Block(features, features, rngs=rngs, **options))
        self.scale = jnp.arange(1.0, features + 1.0)[None]  # a bare array: a constant
        self.shift = np.ones((1, features), np.float32)
        self.steps = nnx.Variable(0)
        self.output = nnx.Linear(features, 3, rngs=rngs)

    def __call__(self, x):
        self.seen = nnx.Intermediate(x)  # what sow does
        for block in self.blocks:
            x = block(x)
        if not self.blocks[0].dropout.deterministic:
            self.steps = nnx.Variable(jax.tree.leaves(self.steps)[0] + 1)
        return self.output(x.mean((1, 2)) * self.scale + self.shift)


IMAGES = jax.random.normal(jax.random.key(7), (4, 6, 6, 1))
ROWS = jax.random.normal(jax.random.key(8), (4, 5))
