"""Cold starts: the time from the start of a process to a trained network, including compilation.

`first_epoch` starts with data in memory and ends after an epoch of MNIST; it has the contenders of
`mlp`, in a new process each time. `digits` is a complete call of `python -m experiments.digits`,
with its report and plot, next to the same training in Keras without them.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportArgumentType=false

import contextlib
import io
import os
import tempfile
from importlib.metadata import version
from typing import Any

from experiments.benchmarks.classifiers import Given, jaxnn_learner


def first_epoch(given: Given):
    """jaxnn: one epoch of `fit`."""
    import jax

    import jaxnn

    learner, data = jaxnn_learner(given)
    run: Any = None

    def train():
        nonlocal run
        run = jaxnn.fit(learner, data, steps=given.steps, key=jax.random.key(0), quiet=True)
        jax.block_until_ready(run.state)

    def test():
        held_out = {"inputs": given.test_inputs, "labels": given.test_labels}
        rest = jaxnn.resident(held_out, batch_size=1000)
        return float(jaxnn.evaluate(learner, run.state, rest)["accuracy"])

    return train, test, f"jax {version('jax')}"


def epochs(quick: bool) -> int:
    """Returns the number of epochs on the digits."""
    return 2 if quick else 40


def digits(epochs: int):
    """jaxnn: the experiment `digits`, with its run directory, report and plot."""
    import jaxnn
    from experiments import digits

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        jaxnn.compile_cache()
    config = digits.Config(epochs=epochs)
    run: Any = None

    def train():
        nonlocal run
        out = jaxnn.Directory(tempfile.mkdtemp(), config=config)
        with contextlib.redirect_stdout(io.StringIO()):
            run = digits.main(config, out, quiet=True)

    return train, lambda: run.result["test/accuracy"], f"jax {version('jax')}"


def keras(epochs: int):
    """Keras on JAX: the same network, dropout, schedule and evaluations as `digits`."""
    import keras
    from keras import layers
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    keras.utils.set_random_seed(0)
    inputs, labels = load_digits(return_X_y=True)
    parts = train_test_split(inputs, labels, test_size=0.2, stratify=labels, random_state=0)
    inputs, test_inputs, labels, test_labels = parts
    hidden = [layers.Dense(64, activation="relu"), layers.Dropout(0.1)]
    hidden += [layers.Dense(64, activation="relu"), layers.Dropout(0.1)]
    scale = layers.Rescaling(1 / 6.02, -4.88 / 6.02)
    model = keras.Sequential([layers.Input((64,)), scale, *hidden, layers.Dense(10)])
    steps = epochs * -(-len(labels) // 64)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=23,
    )
    history: Any = None

    def train():
        nonlocal history
        options = {"batch_size": 64, "epochs": epochs, "verbose": 0}
        options["validation_freq"] = max(1, epochs // 20)  # as often as the experiment evaluates
        options["validation_data"] = test_inputs, test_labels
        history = model.fit(inputs, labels, **options)

    return train, lambda: history.history["val_accuracy"][-1], f"keras {version('keras')} on JAX"
