"""The growth of the time of a step with the width, the depth, the data and the number of runs.

Each contender is jaxnn with one of these four times as large, in turn with the original size.
"""

from importlib.metadata import version
from typing import NamedTuple

import numpy as np


class Size(NamedTuple):
    """The size of a workload.

    Attributes:
      width: the number of nodes in each hidden layer.
      depth: the number of hidden layers.
      examples: the number of examples in the data.
      runs: the number of runs that train at once.
    """

    width: int = 128
    depth: int = 1
    examples: int = 2048
    runs: int = 1


class Given(NamedTuple):
    """The task of all contenders.

    Attributes:
      features: the number of features of an example.
      batch_size: the number of examples in a step.
      steps: the number of steps in a round.
    """

    features: int
    batch_size: int
    steps: int


def given(quick: bool) -> Given:
    """Returns the task; a smaller one if `quick`."""
    return Given(64, 64, 20 if quick else 500)


def ours(given: Given, size: Size):
    """jaxnn: a compiled `run` of one network or a population."""
    import jax
    import jax.numpy as jnp
    import optax

    import jaxnn

    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(size.examples, given.features)).astype(np.float32)
    examples = {"inputs": inputs, "labels": (inputs[:, 0] > 0).astype(np.int32)}
    network = jaxnn.mlp([size.width] * size.depth, 2)
    learner = jaxnn.learner(network, jaxnn.classification(), optax.adam(1e-3))
    data = jaxnn.resident(examples, batch_size=given.batch_size)

    key = jax.random.key(0)
    init, run = learner.init, jaxnn.run
    if size.runs > 1:
        key = jax.random.split(key, size.runs)
        init, run = jax.vmap(init, (0, None, None)), jaxnn.population(jaxnn.run)
    state = jax.jit(init)(key, {}, data.batch(jnp.int32(0)))
    data, metrics = data.shuffled(key), {}
    steps = jax.jit(run, static_argnums=0, donate_argnums=1)

    def train():
        nonlocal state, metrics
        state, metrics = jax.block_until_ready(steps(learner, state, data, given.steps))

    def test():
        value = metrics["accuracy"].value
        return float(np.mean(value()))

    return train, test, f"jax {version('jax')}"
