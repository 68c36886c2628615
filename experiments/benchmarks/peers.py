"""The runs of `sweep` by other libraries, each as its users write it when they want it fast.

A peer takes the work and returns how it trains some runs, with a note on what it is. All of them
keep the data in memory, compile nothing in a run after the first, and see each example as often as
the others: scikit-learn and Keras cut every epoch into 23 batches, the last of them smaller, and so
do 460 steps where the others do 450.
"""

# Not all of them are installed everywhere, and some of them type their arguments too narrowly.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false, reportReturnType=false

import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

EPOCHS, BATCH_SIZE, HIDDEN, CLASSES = 20, 64, 64, 10

Train = Callable[[Sequence[tuple[float, int]]], list[float]]


class Work(NamedTuple):
    """What everyone does: a network for each learning rate and seed, on the same digits.

    Attributes:
      runs: `(learning rate, seed)` of each.
      inputs: pixels of mean 0 and deviation 1, `[1438, 64]`.
      labels: the digits, `[1438]`.
      test_inputs: those held out, `[359, 64]`.
      test_labels: their digits, `[359]`.
    """

    runs: list[tuple[float, int]]
    inputs: np.ndarray
    labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray

    def order(self, seed: int) -> np.ndarray:
        """Returns the examples of each step, `[450, 64]`: batches run on across epochs."""
        draw, count = np.random.default_rng(seed), len(self.labels)
        epochs = np.concatenate([draw.permutation(count) for _ in range(EPOCHS + 1)])
        steps = -(-EPOCHS * count // BATCH_SIZE)
        return epochs[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)


def flax(work: Work) -> tuple[Train, str]:
    """A jitted step in a Python loop: one program for all learning rates, which the state holds."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen
    from flax.training.train_state import TrainState

    class Classifier(linen.Module):
        @linen.compact
        def __call__(self, inputs):
            return linen.Dense(CLASSES)(linen.relu(linen.Dense(HIDDEN)(inputs)))

    model = Classifier()
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)
    inputs, labels, test_inputs, test_labels = map(jnp.asarray, work[1:])

    @jax.jit
    def create(key, rate):
        params = model.init(key, inputs[:1])["params"]
        state = TrainState.create(apply_fn=model.apply, params=params, tx=optimizer)
        state.opt_state.hyperparams["learning_rate"] = rate
        return state

    @partial(jax.jit, donate_argnums=0)
    def step(state, inputs, labels, index):
        def loss(params):
            logits = state.apply_fn({"params": params}, inputs[index])
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels[index])
            return losses.mean()

        value, grads = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=grads), value

    @jax.jit
    def accuracy(state):
        logits = state.apply_fn({"params": state.params}, test_inputs)
        return (logits.argmax(-1) == test_labels).mean()

    def one(rate, seed):
        state = create(jax.random.key(seed), np.float32(rate))
        for index in work.order(seed):
            state, _ = step(state, inputs, labels, index)
        return float(accuracy(state))

    return _in_turn(one), f"linen {version('flax')}"


def scikit_learn(work: Work) -> tuple[Train, str]:
    """`MLPClassifier` in a process for each core, with one thread each for products of matrices."""
    import joblib
    from sklearn.neural_network import MLPClassifier

    def one(rate, seed):
        classifier = MLPClassifier(
            (HIDDEN,), solver="adam", alpha=0.0, batch_size=BATCH_SIZE, learning_rate_init=rate,
            max_iter=EPOCHS, tol=0.0, n_iter_no_change=EPOCHS, random_state=seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged after these epochs
            classifier.fit(work.inputs, work.labels)
        return float(classifier.score(work.test_inputs, work.test_labels))

    def train(runs):
        with joblib.parallel_config("loky", n_jobs=-1, inner_max_num_threads=1):
            return joblib.Parallel()(joblib.delayed(one)(rate, seed) for rate, seed in runs)

    return train, f"{version('scikit-learn')}, {os.cpu_count()} processes"


def torch(work: Work) -> tuple[Train, str]:
    """The usual loop, eager, with the fused Adam; at this size more threads gain nothing."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    inputs, labels, test_inputs, test_labels = map(torch.from_numpy, work[1:])
    loss = nn.CrossEntropyLoss()

    def one(rate, seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
        order = torch.from_numpy(work.order(seed))
        for images, digits in zip(inputs[order], labels[order]):
            optimizer.zero_grad()
            loss(model(images), digits).backward()
            optimizer.step()
        with torch.no_grad():
            return (model(test_inputs).argmax(-1) == test_labels).float().mean().item()

    return _in_turn(one), f"{version('torch')}, 1 thread"


def keras(work: Work) -> tuple[Train, str]:
    """`model.fit` on the JAX backend; one model, begun anew for each run, compiles only once."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras
    from keras import layers

    def network():
        hidden, output = layers.Dense(HIDDEN, activation="relu"), layers.Dense(CLASSES)
        return keras.Sequential([layers.Input((64,)), hidden, output])

    model = network()
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    fresh = [variable.numpy() for variable in optimizer.variables]
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def one(rate, seed):
        keras.utils.set_random_seed(seed)
        model.set_weights(network().get_weights())
        for variable, value in zip(optimizer.variables, fresh):
            variable.assign(value)
        optimizer.learning_rate = rate
        model.fit(work.inputs, work.labels, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)
        logits = model.predict(work.test_inputs, batch_size=len(work.test_inputs), verbose=0)
        return float((logits.argmax(-1) == work.test_labels).mean())

    return _in_turn(one), f"{version('keras')} on JAX {version('jax')}"


def _in_turn(one: Callable[[float, int], float]) -> Train:
    return lambda runs: [one(rate, seed) for rate, seed in runs]
