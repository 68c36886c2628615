"""The network of `classifiers.py` in other libraries.

Each program follows the documentation of its library, in the fastest form that is shown there: a
compiled step, a fused optimizer, a cached graph, or many steps per execution.
"""

# Some of these packages may not be installed, and some annotate their arguments too narrowly.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportPrivateImportUsage=false

from functools import partial
from importlib.metadata import version
from typing import Any

from experiments.benchmarks.classifiers import RATE, Given


def linen_step():
    """Returns the training step of a `TrainState`: jitted, with donation."""
    import jax
    import optax

    @partial(jax.jit, donate_argnums=0)
    def step(state, inputs, labels, index):
        def loss(params):
            logits = state.apply_fn({"params": params}, inputs[index])
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels[index])
            return losses.mean()

        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    return step


def linen(given: Given):
    """Flax Linen: a `TrainState` created in a jitted function, and a jitted step with donation."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen
    from flax.training.train_state import TrainState

    class Classifier(linen.Module):
        @linen.compact
        def __call__(self, x):
            for channels in given.channels:
                x = linen.relu(linen.Conv(channels, (3, 3))(x))
                x = linen.max_pool(x, (2, 2), (2, 2))
            x = x.reshape(len(x), -1)
            for nodes in given.hidden:
                x = linen.relu(linen.Dense(nodes)(x))
            return linen.Dense(given.classes)(x)

    model = Classifier()
    inputs, labels, number = jnp.asarray(given.inputs), jnp.asarray(given.labels), 0

    @jax.jit
    def create(key):
        params = model.init(key, jnp.zeros_like(inputs[:1]))["params"]
        return TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(RATE))

    step = linen_step()

    state: Any = create(jax.random.key(0))

    def train():
        nonlocal state, number
        for index in given.order(number):
            state = step(state, inputs, labels, index)
        jax.block_until_ready(state)
        number += 1

    def test():
        logits = jax.jit(model.apply)({"params": state.params}, given.test_inputs)
        return float((logits.argmax(-1) == given.test_labels).mean())

    return train, test, f"flax {version('flax')}"


def nnx(given: Given):
    """Flax NNX: a jitted step with `cached_partial`, as its performance guide recommends."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    class Classifier(nnx.Module):
        def __init__(self, rngs):
            convolutions = [nnx.Conv(*pair, (3, 3), rngs=rngs) for pair in given.convolutions()]
            self.convolutions = nnx.List(convolutions)
            self.layers = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in given.layers()])

        def __call__(self, x):
            for convolution in self.convolutions:
                x = nnx.max_pool(nnx.relu(convolution(x)), (2, 2), (2, 2))
            x = x.reshape(len(x), -1)
            for layer in self.layers[:-1]:
                x = nnx.relu(layer(x))
            return self.layers[-1](x)

    model = Classifier(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)
    inputs, labels, number = jnp.asarray(given.inputs), jnp.asarray(given.labels), 0

    @nnx.jit
    def step(model, optimizer, inputs, labels, index):
        def loss(model):
            logits, y = model(inputs[index]), labels[index]
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        optimizer.update(model, nnx.grad(loss)(model))

    cached = nnx.cached_partial(step, model, optimizer)

    def train():
        nonlocal number
        for index in given.order(number):
            cached(inputs, labels, index)
        jax.block_until_ready(nnx.state(model))
        number += 1

    def test():
        logits = nnx.jit(lambda model, x: model(x))(model, given.test_inputs)
        return float((logits.argmax(-1) == given.test_labels).mean())

    return train, test, f"flax {version('flax')}"


def equinox(given: Given):
    """Equinox: layers on single examples with `vmap`, and a `filter_jit` step with donation."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax
    from equinox import nn

    keys = iter(jax.random.split(jax.random.key(0), 16))
    parts: list[Any] = []
    if given.channels:
        parts.append(nn.Lambda(lambda x: jnp.moveaxis(x, -1, 0)))
    for pair in given.convolutions():
        parts.append(nn.Conv2d(*pair, kernel_size=3, padding=1, key=next(keys)))
        parts += [nn.Lambda(jax.nn.relu), nn.MaxPool2d(2, 2)]
    parts.append(nn.Lambda(jnp.ravel))
    for pair in given.layers():
        parts += [nn.Linear(*pair, key=next(keys)), nn.Lambda(jax.nn.relu)]
    model, tx = nn.Sequential(parts[:-1]), optax.adam(RATE)
    memory = tx.init(eqx.filter(model, eqx.is_array))
    inputs, labels, number = jnp.asarray(given.inputs), jnp.asarray(given.labels), 0

    @eqx.filter_jit(donate="all-except-first")
    def step(batch, model, memory):
        inputs, labels, index = batch

        def loss(model):
            logits, y = jax.vmap(model)(inputs[index]), labels[index]
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        grads = eqx.filter_grad(loss)(model)
        updates, memory = tx.update(grads, memory, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), memory

    def train():
        nonlocal model, memory, number
        for index in given.order(number):
            model, memory = step((inputs, labels, index), model, memory)
        jax.block_until_ready(eqx.filter(model, eqx.is_array))
        number += 1

    def test():
        predict = eqx.filter_jit(lambda model, x: jax.vmap(model)(x))
        logits = predict(model, given.test_inputs)
        return float((logits.argmax(-1) == given.test_labels).mean())

    return train, test, f"equinox {version('equinox')}"


def torch(given: Given, *, fused: bool = True, compiled: bool = False):
    """PyTorch: eager or compiled, with the default or the fused Adam."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if given.inputs[0].size < 64:  # more threads are not faster at this size
        torch.set_num_threads(1)
    parts: list[Any] = []
    for pair in given.convolutions():
        parts += [nn.Conv2d(*pair, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    parts.append(nn.Flatten())
    for pair in given.layers():
        parts += [nn.Linear(*pair), nn.ReLU()]
    model, loss = nn.Sequential(*parts[:-1]), nn.CrossEntropyLoss()
    inputs, test_inputs = torch.from_numpy(given.inputs), torch.from_numpy(given.test_inputs)
    if given.channels:  # the memory format that is fastest for convolutions
        inputs, test_inputs = inputs.permute(0, 3, 1, 2), test_inputs.permute(0, 3, 1, 2)
        model = model.to(memory_format=torch.channels_last)
    labels, number = torch.from_numpy(given.labels).long(), 0
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=fused or None)

    def error(inputs, labels):
        return loss(model(inputs), labels)

    if compiled:
        error = torch.compile(error)

    def train():
        nonlocal number
        for index in torch.from_numpy(given.order(number)):
            optimizer.zero_grad()
            error(inputs[index], labels[index]).backward()
            optimizer.step()
        number += 1

    def test():
        with torch.no_grad():
            predicted = model(test_inputs).argmax(-1).numpy()
        return float((predicted == given.test_labels).mean())

    return train, test, f"torch {version('torch')}, {torch.get_num_threads()} threads"


def keras(given: Given):
    """Keras on JAX: `model.fit` with `steps_per_execution`."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    parts: list[Any] = [layers.Input(given.inputs.shape[1:])]
    for channels in given.channels:
        parts.append(layers.Conv2D(channels, 3, padding="same", activation="relu"))
        parts.append(layers.MaxPooling2D(2))
    parts.append(layers.Flatten())
    parts += [layers.Dense(nodes, activation="relu") for nodes in given.hidden]
    model = keras.Sequential([*parts, layers.Dense(given.classes)])
    model.compile(
        keras.optimizers.Adam(RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=min(32, given.steps),
    )
    examples = given.steps * given.batch_size
    repeats = -(-examples // len(given.labels))
    number = 0

    def train():
        nonlocal number
        if repeats == 1:  # one epoch, which Keras shuffles
            data = given.inputs[:examples], given.labels[:examples]
        else:
            index = given.order(number).ravel()
            data = given.inputs[index], given.labels[index]
        model.fit(*data, batch_size=given.batch_size, verbose=0, shuffle=repeats == 1)
        number += 1

    def test():
        logits = model.predict(given.test_inputs, batch_size=1000, verbose=0)
        return float((logits.argmax(-1) == given.test_labels).mean())

    return train, test, f"keras {version('keras')} on JAX"
