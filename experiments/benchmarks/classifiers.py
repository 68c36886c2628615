"""Training a classifier with jaxnn and in plain JAX.

`libraries.py` contains the same for other libraries. All use the same network, Adam, data in memory
and batch size; a round is a number of training steps.
"""

from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

RATE = 1e-3


class Given(NamedTuple):
    """The task of all contenders.

    Attributes:
      channels: the channels of each block of 3x3 convolution, ReLU and 2x2 max-pooling; empty for
        an MLP.
      hidden: the number of nodes in each hidden layer after the blocks.
      classes: the number of classes.
      batch_size: the number of examples in a step.
      steps: the number of steps in a round.
      inputs: the scaled training inputs, `[examples, features]` or `[examples, 28, 28, 1]`.
      labels: the training labels, `[examples]`.
      test_inputs: the test inputs.
      test_labels: the test labels.
    """

    channels: tuple[int, ...]
    hidden: tuple[int, ...]
    classes: int
    batch_size: int
    steps: int
    inputs: np.ndarray
    labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray

    def order(self, round_: int) -> np.ndarray:
        """Returns the example numbers of each step of a round, `[steps, batch_size]`."""
        draw, count = np.random.default_rng(round_), len(self.labels)
        wanted = self.steps * self.batch_size
        epochs = [draw.permutation(count) for _ in range(-(-wanted // count))]
        return np.concatenate(epochs)[:wanted].reshape(self.steps, self.batch_size)

    def convolutions(self) -> list[tuple[int, int]]:
        """Returns the channels before and after each convolution."""
        sizes = [1, *self.channels]
        return [*zip(sizes, sizes[1:])]

    def layers(self) -> list[tuple[int, int]]:
        """Returns the nodes before and after each linear layer."""
        features = self.inputs[0].size
        if self.channels:
            features = (28 >> len(self.channels)) ** 2 * self.channels[-1]
        sizes = [features, *self.hidden, self.classes]
        return [*zip(sizes, sizes[1:])]


def mnist(
    quick: bool = False,
    *,
    channels: tuple[int, ...] = (),
    hidden: tuple[int, ...] = (256, 256),
    steps: int = 468,
) -> Given:
    """Returns MNIST with rounds of one epoch by default; a tenth of both if `quick`."""
    import jaxnn

    parts: list[np.ndarray] = []
    for part in jaxnn.datasets.mnist():
        count = len(part["labels"]) // (10 if quick else 1)
        pixels = ((part["inputs"][:count] - 33.3) / 78.6).astype(np.float32)
        shape = (count, 28, 28, 1) if channels else (count, 784)
        parts += [pixels.reshape(shape), part["labels"][:count].astype(np.int32)]
    return Given(channels, hidden, 10, 128, steps // (10 if quick else 1), *parts)


def circle(quick: bool = False) -> Given:
    """Returns two classes, inside and outside a circle, for a network 2-16-2."""
    draws = np.random.default_rng(0).normal(size=(2048, 2)).astype(np.float32)
    labels = (np.square(draws).sum(-1) > 1.4).astype(np.int32)
    parts = draws[:1024], labels[:1024], draws[1024:], labels[1024:]
    return Given((), (16,), 2, 32, 200 if quick else 2000, *parts)


def jaxnn_learner(given: Given):
    """Returns the learner of jaxnn and its data."""
    import optax

    import jaxnn

    network = jaxnn.mlp(given.hidden, given.classes)
    if given.channels:
        (hidden,) = given.hidden
        network = jaxnn.convnet(given.channels, hidden, given.classes)
    learner = jaxnn.learner(network, jaxnn.classification(), optax.adam(RATE))
    examples = {"inputs": given.inputs, "labels": given.labels}
    return learner, jaxnn.resident(examples, batch_size=given.batch_size)


def ours(given: Given):
    """jaxnn: a compiled `run`, the function that `train` and `fit` compile."""
    import jax
    import jax.numpy as jnp

    import jaxnn

    learner, data = jaxnn_learner(given)
    data = data.shuffled(jax.random.key(1))
    state = jax.jit(learner.init)(jax.random.key(0), {}, data.batch(jnp.int32(0)))
    steps = jax.jit(jaxnn.run, static_argnums=0, donate_argnums=1)

    def train():
        nonlocal state
        state, _ = jax.block_until_ready(steps(learner, state, data, given.steps))

    def test():
        held_out = {"inputs": given.test_inputs, "labels": given.test_labels}
        rest = jaxnn.resident(held_out, batch_size=1000)
        return float(jaxnn.evaluate(learner, state, rest)["accuracy"])

    return train, test, f"jax {version('jax')}"


def by_hand(given: Given, convolve=None) -> tuple[Any, Any, Any, Any]:
    """Returns parameters, a forward pass, a loss and Adam in plain JAX."""
    import jax
    import jax.numpy as jnp
    import optax
    from jax import lax

    def native(x, weight):
        return lax.conv_general_dilated(
            x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def layer(key, *shape):
        return jax.random.normal(key, shape) * (2 / np.prod(shape[:-1])) ** 0.5, jnp.zeros(
            shape[-1]
        )

    @jax.jit
    def init(key):
        shapes = [*[(3, 3, *pair) for pair in given.convolutions()], *given.layers()]
        keys = jax.random.split(key, len(shapes))
        return [layer(key, *shape) for key, shape in zip(keys, shapes)]

    def forward(params, x):
        *hidden, (last, last_bias) = params
        for weight, bias in hidden[: len(given.channels)]:
            x = jax.nn.relu((convolve or native)(x, weight) + bias)
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = x.reshape(len(x), -1)
        for weight, bias in hidden[len(given.channels) :]:
            x = jax.nn.relu(x @ weight + bias)
        return x @ last + last_bias

    def loss(params, x, y):
        logits = forward(params, x)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return init(jax.random.key(0)), forward, loss, optax.adam(RATE)


def scan(given: Given):
    """Plain JAX: all steps of a round in one `lax.scan`.

    Convolutions use the gradient rule of jaxnn; the default of XLA is many times slower in a loop.
    """
    import jax
    import optax

    convolve = _convolve_in_loops() if given.channels else None
    params, forward, loss, tx = by_hand(given, convolve)

    @partial(jax.jit, donate_argnums=0)
    def steps(carry, order, inputs, labels):
        def step(carry, index):
            params, memory = carry
            value, grads = jax.value_and_grad(loss)(params, inputs[index], labels[index])
            updates, memory = tx.update(grads, memory, params)
            return (optax.apply_updates(params, updates), memory), value

        carry, losses = jax.lax.scan(step, carry, order)
        return carry, losses.mean()

    return _trained(given, (params, tx.init(params)), forward, lambda *rest: steps(*rest)[0])


def _convolve_in_loops():
    from jaxnn.layers._convolve import convolve

    return lambda x, weight: convolve(x, weight, (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1), 1)


def jitted(given: Given):
    """Plain JAX: a jitted step in a Python loop."""
    import jax
    import optax

    params, forward, loss, tx = by_hand(given)

    @partial(jax.jit, donate_argnums=0)
    def step(carry, index, inputs, labels):
        params, memory = carry
        grads = jax.grad(loss)(params, inputs[index], labels[index])
        updates, memory = tx.update(grads, memory, params)
        return optax.apply_updates(params, updates), memory

    def steps(carry, order, inputs, labels):
        for index in order:
            carry = step(carry, index, inputs, labels)
        return carry

    return _trained(given, (params, tx.init(params)), forward, steps)


def _trained(given: Given, carry, forward, steps):
    """Returns the train and test functions of a program in plain JAX."""
    import jax
    import jax.numpy as jnp

    inputs, labels, number = jnp.asarray(given.inputs), jnp.asarray(given.labels), 0

    def train():
        nonlocal carry, number
        carry = jax.block_until_ready(steps(carry, given.order(number), inputs, labels))
        number += 1

    def test():
        predicted = jax.jit(forward)(carry[0], given.test_inputs).argmax(-1)
        return float((predicted == given.test_labels).mean())

    return train, test, f"jax {version('jax')}"
