"""Evaluating a network on data whose last batch is not full.

All contenders have the same weights, so all must compute the same loss. The last batch has 272 of
512 examples, and is padded, weighted or smaller. A round is ten evaluations of the 10,000 test
images of MNIST.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportArgumentType=false

from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from experiments.benchmarks import classifiers


class Given(NamedTuple):
    """The network and data to evaluate.

    Attributes:
      weights: the `(weight, bias)` of each layer of the network 784-256-256-10.
      inputs: the test images, `[10000, 784]`.
      labels: the test labels, `[10000]`.
      batch_size: the number of examples in a batch.
      steps: the number of evaluations in a round.
    """

    weights: list[tuple[np.ndarray, np.ndarray]]
    inputs: np.ndarray
    labels: np.ndarray
    batch_size: int
    steps: int


def given(quick: bool) -> Given:
    """Returns the MNIST test images, and a network with a last layer fitted to training images."""
    data, draw = classifiers.mnist(quick=True), np.random.default_rng(0)
    import jaxnn

    _, test = jaxnn.datasets.mnist()
    weights, x = [], data.inputs
    for before, after in data.layers()[:-1]:
        weight = draw.normal(0, (2 / before) ** 0.5, (before, after)).astype(np.float32)
        weights.append((weight, np.zeros(after, np.float32)))
        x = np.maximum(x @ weight, 0)
    last = np.linalg.lstsq(x, 5 * np.eye(10)[data.labels], rcond=None)[0].astype(np.float32)
    weights.append((last, np.zeros(10, np.float32)))
    inputs = ((test["inputs"].reshape(-1, 784) - 33.3) / 78.6).astype(np.float32)
    return Given(weights, inputs, test["labels"].astype(np.int32), 512, 2 if quick else 10)


def ours(given: Given):
    """jaxnn: `evaluate` of resident data."""
    import jax
    import jax.numpy as jnp
    import optax

    import jaxnn

    network = jaxnn.mlp((256, 256), 10)
    learner = jaxnn.learner(network, jaxnn.classification(), optax.sgd(0.1))
    examples = {"inputs": given.inputs, "labels": given.labels}
    data = jaxnn.resident(examples, batch_size=given.batch_size)
    state = jax.jit(learner.init)(jax.random.key(0), {}, data.batch(jnp.int32(0)))
    names = [name for name, layer in state.params.items() if layer]
    layers = {name: {"weight": w, "bias": b} for name, (w, b) in zip(names, given.weights)}
    state = state._replace(params=state.params | jax.device_put(layers))
    metrics = {}

    def train():
        nonlocal metrics
        for _ in range(given.steps):
            metrics = jaxnn.evaluate(learner, state, data)

    return train, lambda: metrics["loss"], f"jax {version('jax')}"


def _by_hand(given: Given):
    """Returns the weights and a function for the metric sums of a batch, in plain JAX."""
    import jax
    import jax.numpy as jnp
    import optax

    def sums(weights, x, y, counts):
        *hidden, (last, bias) = weights
        for weight, own_bias in hidden:
            x = jax.nn.relu(x @ weight + own_bias)
        logits = x @ last + bias
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.stack([(losses * counts).sum(), ((logits.argmax(-1) == y) * counts).sum()])

    return jax.device_put(given.weights), sums


def scan(given: Given):
    """Plain JAX: one program over padded batches with weights."""
    import jax
    import jax.numpy as jnp

    weights, sums = _by_hand(given)
    count, size = len(given.labels), given.batch_size
    batches = -(-count // size)
    place = np.arange(batches * size)
    index = np.minimum(place, count - 1)
    arrays = given.inputs[index], given.labels[index], (place < count).astype(np.float32)
    data = jax.device_put([x.reshape(batches, size, *x.shape[1:]) for x in arrays])
    loss = 0.0

    @jax.jit
    def evaluate(weights, data):
        def add(total, batch):
            return total + sums(weights, *batch), None

        return jax.lax.scan(add, jnp.zeros(2), data)[0] / count

    def train():
        nonlocal loss
        for _ in range(given.steps):
            loss, _ = map(float, evaluate(weights, data))

    return train, lambda: loss, f"jax {version('jax')}"


def jitted(given: Given):
    """Plain JAX: a jitted function per batch in a loop; the last batch is smaller."""
    import jax
    import jax.numpy as jnp

    weights, sums = _by_hand(given)
    inputs, labels, loss = jnp.asarray(given.inputs), jnp.asarray(given.labels), 0.0
    one = jax.jit(partial(sums, counts=1.0))

    def train():
        nonlocal loss
        for _ in range(given.steps):
            starts = range(0, len(labels), given.batch_size)
            parts = [slice(start, start + given.batch_size) for start in starts]
            sums_of = [one(weights, inputs[part], labels[part]) for part in parts]
            loss = float(sum(own[0] for own in sums_of)) / len(labels)

    return train, lambda: loss, f"jax {version('jax')}"


def torch(given: Given, *, compiled: bool = False):
    """PyTorch: `inference_mode` and a loop over batches; the last batch is smaller."""
    import torch
    from torch import nn

    parts: list[nn.Module] = []
    for weight, bias in given.weights:
        layer = nn.Linear(*weight.shape)
        layer.load_state_dict({"weight": torch.tensor(weight.T), "bias": torch.tensor(bias)})
        parts += [layer, nn.ReLU()]
    model = nn.Sequential(*parts[:-1]).eval()
    if compiled:
        model = torch.compile(model)
    inputs, labels = torch.from_numpy(given.inputs), torch.from_numpy(given.labels).long()
    add, loss = nn.CrossEntropyLoss(reduction="sum"), 0.0

    @torch.inference_mode()
    def train():
        nonlocal loss
        for _ in range(given.steps):
            total, right = torch.zeros(()), torch.zeros((), dtype=torch.long)
            size = given.batch_size
            for x, y in zip(inputs.split(size), labels.split(size)):
                logits = model(x)
                total += add(logits, y)
                right += (logits.argmax(-1) == y).sum()
            loss = float(total) / len(labels)

    return train, lambda: loss, f"torch {version('torch')}"


def keras(given: Given):
    """Keras on JAX: `model.evaluate`."""
    import keras
    from keras import layers

    hidden = [layers.Dense(len(bias), activation="relu") for _, bias in given.weights[:-1]]
    model = keras.Sequential([layers.Input((784,)), *hidden, layers.Dense(10)])
    model.set_weights([array for pair in given.weights for array in pair])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"], steps_per_execution=10)
    reached = 0.0

    def train():
        nonlocal reached
        for _ in range(given.steps):
            options = {"batch_size": given.batch_size, "verbose": 0}
            reached = model.evaluate(given.inputs, given.labels, **options)[0]

    return train, lambda: reached, f"keras {version('keras')} on JAX"
