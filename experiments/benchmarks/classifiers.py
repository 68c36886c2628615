"""An MLP that learns to classify, by jaxnn, by hand and by other libraries.

Each is written as its own documentation writes it, with the fastest form that it shows: one
program for many steps where there is one, a compiled step, a fused optimizer. All have the same
network, Adam and batches of the same size; a round is some steps.
"""

# Not all of them are installed everywhere, and some of them type their arguments too narrowly.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportPrivateImportUsage=false

import os
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

RATE = 1e-3


class Work(NamedTuple):
    """What everyone does.

    Attributes:
      hidden: nodes of each hidden layer.
      classes: the number of labels.
      batch_size: examples in a step.
      steps: of a round.
      inputs: `[examples, features]`, of mean 0 and deviation 1.
      labels: of each example.
      test_inputs: those held out.
      test_labels: their labels.
    """

    hidden: tuple[int, ...]
    classes: int
    batch_size: int
    steps: int
    inputs: np.ndarray
    labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray

    def order(self, round_: int) -> np.ndarray:
        """Returns the examples of each step of a round, `[steps, batch_size]`."""
        draw, count = np.random.default_rng(round_), len(self.labels)
        wanted = self.steps * self.batch_size
        epochs = [draw.permutation(count) for _ in range(-(-wanted // count))]
        return np.concatenate(epochs)[:wanted].reshape(self.steps, self.batch_size)


def ours(work: Work):
    """jaxnn: chunks of steps as one program, as `fit` dispatches them."""
    import jax
    import jax.numpy as jnp
    import optax

    import jaxnn
    from jaxnn.loop._advance import advance
    from jaxnn.loop._run import empty_window, trace_step

    network = jaxnn.mlp([*work.hidden], work.classes)
    learner = jaxnn.learner(network, jaxnn.classification(), optax.adam(RATE))
    data = jaxnn.resident(
        {"inputs": work.inputs, "labels": work.labels}, batch_size=work.batch_size
    ).shuffled(jax.random.key(1))
    state = jax.jit(learner.init)(jax.random.key(0), {}, data.batch(jnp.int32(0)))
    empty = trace_step(learner, state, data)[1][1]

    def train():
        nonlocal state
        state, _, token = advance(learner, state, data, work.steps, empty_window(empty), "looped")
        jax.block_until_ready(token)

    def test():
        held_out = {"inputs": work.test_inputs, "labels": work.test_labels}
        rest = jaxnn.resident(held_out, batch_size=len(work.test_labels))
        return float(jaxnn.evaluate(learner, state, rest)["accuracy"])

    return train, test, f"jax {version('jax')}"


def _layers(work: Work) -> list[tuple[int, int]]:
    sizes = [work.inputs.shape[1], *work.hidden, work.classes]
    return [*zip(sizes, sizes[1:])]


def _by_hand(work: Work):
    """Returns parameters, a forward pass, a loss and Adam, as one writes them in JAX."""
    import jax
    import jax.numpy as jnp
    import optax

    keys = jax.random.split(jax.random.key(0), len(_layers(work)))
    params = [
        (jax.random.normal(key, pair) * (2 / pair[0]) ** 0.5, jnp.zeros(pair[1]))
        for key, pair in zip(keys, _layers(work))
    ]

    def forward(params, x):
        for weight, bias in params[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        return x @ params[-1][0] + params[-1][1]

    def loss(params, x, y):
        logits = forward(params, x)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return params, forward, loss, optax.adam(RATE)


def scan(work: Work):
    """JAX by hand: all steps of a round in one `lax.scan`."""
    import jax
    import jax.numpy as jnp
    import optax

    params, forward, loss, tx = _by_hand(work)
    inputs, labels = jnp.asarray(work.inputs), jnp.asarray(work.labels)
    carry, number = (params, tx.init(params)), 0

    @partial(jax.jit, donate_argnums=0)
    def steps(carry, order, inputs, labels):
        def step(carry, index):
            params, memory = carry
            grads = jax.grad(loss)(params, inputs[index], labels[index])
            updates, memory = tx.update(grads, memory, params)
            return (optax.apply_updates(params, updates), memory), None

        return jax.lax.scan(step, carry, order)[0]

    def train():
        nonlocal carry, number
        carry = jax.block_until_ready(steps(carry, work.order(number), inputs, labels))
        number += 1

    def test():
        predicted = forward(carry[0], work.test_inputs).argmax(-1)
        return float((predicted == work.test_labels).mean())

    return train, test, f"jax {version('jax')}"


def jitted(work: Work):
    """JAX by hand: a jitted step in a Python loop."""
    import jax
    import jax.numpy as jnp
    import optax

    params, forward, loss, tx = _by_hand(work)
    inputs, labels = jnp.asarray(work.inputs), jnp.asarray(work.labels)
    carry, number = (params, tx.init(params)), 0

    @partial(jax.jit, donate_argnums=0)
    def step(carry, index, inputs, labels):
        params, memory = carry
        grads = jax.grad(loss)(params, inputs[index], labels[index])
        updates, memory = tx.update(grads, memory, params)
        return optax.apply_updates(params, updates), memory

    def train():
        nonlocal carry, number
        for index in work.order(number):
            carry = step(carry, index, inputs, labels)
        jax.block_until_ready(carry)
        number += 1

    def test():
        predicted = forward(carry[0], work.test_inputs).argmax(-1)
        return float((predicted == work.test_labels).mean())

    return train, test, f"jax {version('jax')}"


def nnx(work: Work):
    """Flax NNX, a jitted step with `cached_partial`, as its performance guide advises."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    class Classifier(nnx.Module):
        def __init__(self, rngs):
            pairs = _layers(work)
            self.layers = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairs])

        def __call__(self, x):
            for layer in self.layers[:-1]:
                x = nnx.relu(layer(x))
            return self.layers[-1](x)

    model = Classifier(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)
    inputs, labels, number = jnp.asarray(work.inputs), jnp.asarray(work.labels), 0

    @nnx.jit
    def step(model, optimizer, inputs, labels, index):
        def loss(model):
            logits, y = model(inputs[index]), labels[index]
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        optimizer.update(model, nnx.grad(loss)(model))

    cached = nnx.cached_partial(step, model, optimizer)

    def train():
        nonlocal number
        for index in work.order(number):
            cached(inputs, labels, index)
        jax.block_until_ready(nnx.state(model))
        number += 1

    def test():
        return float((model(jnp.asarray(work.test_inputs)).argmax(-1) == work.test_labels).mean())

    return train, test, f"flax {version('flax')}"


def equinox(work: Work):
    """Equinox: `eqx.nn.MLP` and a `filter_jit` step that donates."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    model = eqx.nn.MLP(
        work.inputs.shape[1], work.classes, work.hidden[0], len(work.hidden), key=jax.random.key(0)
    )
    tx = optax.adam(RATE)
    memory = tx.init(eqx.filter(model, eqx.is_array))
    inputs, labels, number = jnp.asarray(work.inputs), jnp.asarray(work.labels), 0

    @eqx.filter_jit
    def step(model, memory, inputs, labels, index):
        def loss(model):
            logits, y = jax.vmap(model)(inputs[index]), labels[index]
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        grads = eqx.filter_grad(loss)(model)
        updates, memory = tx.update(grads, memory, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), memory

    def train():
        nonlocal model, memory, number
        for index in work.order(number):
            model, memory = step(model, memory, inputs, labels, index)
        jax.block_until_ready(eqx.filter(model, eqx.is_array))
        number += 1

    def test():
        logits = jax.vmap(model)(jnp.asarray(work.test_inputs))
        return float((logits.argmax(-1) == work.test_labels).mean())

    return train, test, f"equinox {version('equinox')}"


def torch(work: Work):
    """PyTorch, eager, with the fused Adam."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    modules = [module for pair in _layers(work) for module in (nn.Linear(*pair), nn.ReLU())]
    model = nn.Sequential(*modules[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    inputs, labels = torch.from_numpy(work.inputs), torch.from_numpy(work.labels).long()
    loss, number = nn.CrossEntropyLoss(), 0

    def train():
        nonlocal number
        for index in torch.from_numpy(work.order(number)):
            optimizer.zero_grad()
            loss(model(inputs[index]), labels[index]).backward()
            optimizer.step()
        number += 1

    def test():
        with torch.no_grad():
            predicted = model(torch.from_numpy(work.test_inputs)).argmax(-1).numpy()
        return float((predicted == work.test_labels).mean())

    return train, test, f"torch {version('torch')}, {torch.get_num_threads()} threads"


def keras(work: Work):
    """Keras on JAX: `model.fit` with `steps_per_execution`."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(nodes, activation="relu") for nodes in work.hidden]
    model = keras.Sequential(
        [layers.Input(work.inputs.shape[1:]), *hidden, layers.Dense(work.classes)]
    )
    model.compile(
        keras.optimizers.Adam(RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=min(32, work.steps),
    )
    number = 0

    def train():
        nonlocal number
        index = work.order(number).ravel()
        model.fit(
            work.inputs[index], work.labels[index], batch_size=work.batch_size, verbose=0,
            shuffle=False,
        )  # fmt: skip
        number += 1

    def test():
        logits = model.predict(work.test_inputs, batch_size=len(work.test_labels), verbose=0)
        return float((logits.argmax(-1) == work.test_labels).mean())

    return train, test, f"keras {version('keras')} on JAX"


CONTENDERS = {
    "jaxnn": (ours, "jaxnn"),
    "JAX by hand, one scan": (scan, "jax"),
    "JAX by hand, jitted step": (jitted, "jax"),
    "Flax NNX": (nnx, "flax"),
    "Equinox": (equinox, "equinox"),
    "PyTorch, fused": (torch, "torch"),
    "Keras": (keras, "keras"),
}


def mlp(steps: int = 468) -> Work:
    """Returns MNIST for an MLP 784-256-256-10, an epoch a round."""
    import jaxnn

    parts = []
    for part in jaxnn.datasets.mnist():
        pixels = part["inputs"].reshape(len(part["labels"]), -1)
        parts += [((pixels - 33.3) / 78.6).astype(np.float32), part["labels"].astype(np.int32)]
    return Work((256, 256), 10, 128, steps, *parts)


def tiny(steps: int = 2000) -> Work:
    """Returns two classes inside and outside of a circle, for a network 2-16-2."""
    draws = np.random.default_rng(0).normal(size=(2048, 2)).astype(np.float32)
    labels = (np.square(draws).sum(-1) > 1.4).astype(np.int32)
    return Work((16,), 2, 32, steps, draws[:1024], labels[:1024], draws[1024:], labels[1024:])
