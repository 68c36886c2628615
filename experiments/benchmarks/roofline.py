"""The parts of a training step, each in a compiled loop, as lower bounds on the time of a step.

The step trains the network 784-256-256-10 on MNIST batches of 128. Its parts are the matrix
products of the forward pass and the gradient, Adam, and the gather of a batch. `peak` does the same
number of operations in products of 1024 x 1024 matrices, at which the cores are most efficient.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from experiments.benchmarks.classifiers import RATE, Given


def operations(given: Given) -> int:
    """Returns the number of floating-point operations in the matrix products of a step."""
    (first, *others), size = given.layers(), given.batch_size
    sizes = [2 * size * before * after for before, after in (first, *others)]
    return 3 * sum(sizes) - sizes[0]  # the inputs of the first layer have no gradient


def products(given: Given):
    """The matrix products of a step: forward, and the gradients of weights and hidden nodes."""

    def start(draw):
        return [0.01 * draw(*pair) for pair in given.layers()], draw(given.batch_size, 784)

    def body(weights, x):
        values = [x]
        for weight in weights:
            values.append(values[-1] @ weight)
        grads, new = values.pop(), []
        for number in reversed(range(len(weights))):
            new.append(weights[number] + 1e-9 * values[number].T @ grads)
            grads = grads @ weights[number].T if number else grads
        return new[::-1]

    return _looped(given, start, body, given.steps)


def adam(given: Given):
    """The update of Adam, for given gradients."""
    import jax
    import optax

    tx = optax.adam(RATE)

    def start(draw):
        arrays = [array for pair in given.layers() for array in (draw(*pair), draw(pair[1]))]
        return (arrays, tx.init(arrays)), jax.tree.map(lambda x: 1e-3 * x, arrays)

    def body(carry, grads):
        params, memory = carry
        updates, memory = tx.update(grads, memory, params)
        return optax.apply_updates(params, updates), memory

    return _looped(given, start, body, given.steps)


def gather(given: Given):
    """The gather of a batch from random rows of the data."""
    import jax.numpy as jnp

    def start(draw):
        batch, number = jnp.zeros((given.batch_size, 784)), jnp.int32(0)
        return (batch, number), (jnp.asarray(given.inputs), jnp.asarray(given.order(0)))

    def body(carry, data):
        (_, number), (inputs, order) = carry, data
        return inputs[order[number]], (number + 1) % len(order)

    return _looped(given, start, body, given.steps)


def peak(given: Given):
    """Products of square matrices, with as many operations as the steps of a round have."""

    def start(draw):
        return 0.01 * draw(1024, 1024), 0.01 * draw(1024, 1024)

    count = round(given.steps * operations(given) / (2 * 1024**3))
    return _looped(given, start, lambda x, weight: x @ weight, count)


def _looped(given: Given, start: Callable, body: Callable, count: int):
    """Returns a contender that runs `body(carry, constants)` `count` times in one program."""
    import jax
    import jax.numpy as jnp

    numbers = np.random.default_rng(0)
    carry, constants = start(lambda *shape: jnp.asarray(numbers.normal(size=shape), jnp.float32))

    @partial(jax.jit, donate_argnums=0)
    def loop(carry, constants):
        return jax.lax.fori_loop(0, count, lambda _, carry: body(carry, constants), carry)

    def train():
        nonlocal carry
        carry = jax.block_until_ready(loop(carry, constants))

    rate = f"{operations(given) / 1e6:.0f} million operations in products a step"
    return train, lambda: float("nan"), rate
