"""256 training runs with jaxnn and with other libraries, each in a fast form that users write.

A network 64-64-10 trains on the digits with Adam, at 32 learning rates with 8 seeds each: 20 epochs
in batches of 64. The time starts with data in memory and ends with the test accuracies of all runs.
jaxnn trains them as one population, with a device per core. The others train one after another, or
in parallel processes, and only compile in the first run; the bars exclude this compilation. All see
each example equally often: scikit-learn and Keras split each epoch into 23 batches, the last one
smaller, and therefore do 460 steps instead of 450.
"""

# Some of these packages may not be installed, and some annotate their arguments too narrowly.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false, reportReturnType=false

import os
import statistics
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.libraries import linen_step

EPOCHS, BATCH_SIZE, HIDDEN, CLASSES = 20, 64, 64, 10


class Given(NamedTuple):
    """The task of all contenders: one network per learning rate and seed, on the same digits.

    Attributes:
      runs: the `(learning rate, seed)` of each run.
      inputs: the training images with mean 0 and deviation 1, `[1438, 64]`.
      labels: the training labels, `[1438]`.
      test_inputs: the test images, `[359, 64]`.
      test_labels: the test labels, `[359]`.
    """

    runs: list[tuple[float, int]]
    inputs: np.ndarray
    labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray

    def order(self, seed: int) -> np.ndarray:
        """Returns the example numbers of each step, `[450, 64]`; batches can span two epochs."""
        draw, count = np.random.default_rng(seed), len(self.labels)
        epochs = np.concatenate([draw.permutation(count) for _ in range(EPOCHS + 1)])
        steps = -(-EPOCHS * count // BATCH_SIZE)
        return epochs[: steps * BATCH_SIZE].reshape(steps, BATCH_SIZE)


def digits(runs: list[tuple[float, int]]) -> Given:
    """Returns the task for these runs, with pixels of mean 0 and deviation 1."""
    import jaxnn

    arrays: list[np.ndarray] = []
    for part in jaxnn.split(jaxnn.datasets.digits(), 0.2, stratify="labels"):
        arrays.append(((part["inputs"].reshape(-1, 64) - 4.88) / 6.02).astype(np.float32))
        arrays.append(part["labels"].astype(np.int64))
    return Given(runs, *arrays)


def given(quick: bool) -> Given:
    """Returns the task with 32 learning rates and 8 seeds each, or 4 and 2 if `quick`."""
    rates = np.geomspace(1e-4, 1e-1, 4 if quick else 32).tolist()
    return digits([(rate, seed) for rate in rates for seed in range(2 if quick else 8)])


def ours(given: Given):
    """jaxnn: all runs as one population."""
    import jax
    import jax.numpy as jnp
    import optax

    import jaxnn

    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    learner = jaxnn.learner(
        jaxnn.mlp([HIDDEN], CLASSES),
        jaxnn.classification(),
        lambda hparams: optax.adam(hparams["learning_rate"]),
    )
    train_set = {"inputs": given.inputs, "labels": given.labels}
    test_set = {"inputs": given.test_inputs, "labels": given.test_labels}
    rates, seeds = (np.array(numbers) for numbers in zip(*given.runs))
    run: Any = None
    first = 0

    def train():
        nonlocal run, first
        run = jaxnn.fit(
            learner,
            jaxnn.resident(train_set, batch_size=BATCH_SIZE),
            steps=f"{EPOCHS} epochs",
            key=jax.vmap(jax.random.key)(first + seeds),
            hparams={"learning_rate": jnp.asarray(rates, jnp.float32)},
            every=f"{EPOCHS} epochs",
            evaluate=jaxnn.resident(test_set, batch_size=len(given.test_labels)),
            quiet=True,
        )
        jax.block_until_ready(run.state)
        first += 1000  # new seeds in each round

    def test():
        return statistics.mean(run.result["test/accuracy"])

    return train, test, f"jax {version('jax')}, {os.cpu_count()} devices"


def _in_turn(given: Given, one: Callable[[float, int], float], note: str):
    """Returns a contender that trains one run after another."""
    reached: list[float] = []

    def train():
        reached[:] = [one(rate, seed) for rate, seed in given.runs]

    return train, lambda: statistics.mean(reached), note


def linen(given: Given):
    """Flax Linen: a jitted step in a Python loop; one program, since the state holds the rate."""
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
    inputs, labels, test_inputs, test_labels = map(jnp.asarray, given[1:])

    @jax.jit
    def create(key, rate):
        params = model.init(key, inputs[:1])["params"]
        state = TrainState.create(apply_fn=model.apply, params=params, tx=optimizer)
        state.opt_state.hyperparams["learning_rate"] = rate
        return state

    step = linen_step()

    @jax.jit
    def accuracy(state):
        logits = state.apply_fn({"params": state.params}, test_inputs)
        return (logits.argmax(-1) == test_labels).mean()

    def one(rate, seed):
        state = create(jax.random.key(seed), np.float32(rate))
        for index in given.order(seed):
            state = step(state, inputs, labels, index)
        return float(accuracy(state))

    return _in_turn(given, one, f"flax {version('flax')}")


def scikit_learn(given: Given):
    """scikit-learn: `MLPClassifier` in a process per core, each with one BLAS thread."""
    import joblib
    from joblib.externals.loky import get_reusable_executor
    from sklearn.neural_network import MLPClassifier

    def one(rate, seed):
        classifier = MLPClassifier(
            (HIDDEN,), solver="adam", alpha=0.0, batch_size=BATCH_SIZE, learning_rate_init=rate,
            max_iter=EPOCHS, tol=0.0, n_iter_no_change=EPOCHS, random_state=seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged after these epochs
            classifier.fit(given.inputs, given.labels)
        return float(classifier.score(given.test_inputs, given.test_labels))

    reached: Any = []

    def train():
        nonlocal reached
        with joblib.parallel_config("loky", n_jobs=-1, inner_max_num_threads=1):
            jobs = (joblib.delayed(one)(rate, seed) for rate, seed in given.runs)
            reached = joblib.Parallel()(jobs)

    def test():
        get_reusable_executor().shutdown()  # idle, its processes end after five minutes only
        return statistics.mean(reached)

    return train, test, f"scikit-learn {version('scikit-learn')}, {os.cpu_count()} processes"


def torch(given: Given):
    """PyTorch: an eager loop with the fused Adam; more threads are not faster at this size."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    inputs, labels, test_inputs, test_labels = map(torch.from_numpy, given[1:])
    loss = nn.CrossEntropyLoss()

    def one(rate, seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
        order = torch.from_numpy(given.order(seed))
        for images, digits in zip(inputs[order], labels[order]):
            optimizer.zero_grad()
            loss(model(images), digits).backward()
            optimizer.step()
        with torch.no_grad():
            return (model(test_inputs).argmax(-1) == test_labels).float().mean().item()

    return _in_turn(given, one, f"torch {version('torch')}, 1 thread")


def keras(given: Given):
    """Keras on JAX: `model.fit` of one model, which is reset for each run and compiles once."""
    import keras
    from keras import layers

    def network():
        hidden, output = layers.Dense(HIDDEN, activation="relu"), layers.Dense(CLASSES)
        return keras.Sequential([layers.Input((64,)), hidden, output])

    model, optimizer = network(), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    fresh = [variable.numpy() for variable in optimizer.variables]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, steps_per_execution=23)

    def one(rate, seed):
        keras.utils.set_random_seed(seed)
        model.set_weights(network().get_weights())
        for variable, value in zip(optimizer.variables, fresh):
            variable.assign(value)
        optimizer.learning_rate = rate
        model.fit(given.inputs, given.labels, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)
        logits = model.predict(given.test_inputs, batch_size=len(given.test_inputs), verbose=0)
        return float((logits.argmax(-1) == given.test_labels).mean())

    return _in_turn(given, one, f"keras {version('keras')} on JAX")
