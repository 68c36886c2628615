"""Small model files as older versions of jax wrote them, which every later version has to open.

    python -m tests.golden.make_models

writes `models/KIND-jax-VERSION.jaxnn` with the installed jax, once for each version and never
again.
"""

from pathlib import Path

import jax
import numpy as np
import optax

import jaxnn

FOLDER = Path(__file__).parent / "models"
TABLE = {
    "size": [1.0, 2.0, 3.0, None, 5.0, 6.0],
    "city": ["Ulm", "Bonn", "Ulm", "Köln", "Bonn", "Ulm"],
    "dear": ["no", "no", "yes", "no", "yes", "yes"],
}


def image(path: Path) -> None:
    """Writes a convnet that reads bytes, with statistics in its state."""
    network = jaxnn.serial(
        jaxnn.standardize(4.0, 2.0), jaxnn.conv(2, 3), jaxnn.batch_norm(), jaxnn.max_pool(2),
        jaxnn.flatten(), jaxnn.linear(3),
    )  # fmt: skip
    inputs = np.random.default_rng(0).integers(0, 9, (2, 8, 8, 1)).astype(np.uint8)
    params, state = network.init(jax.random.key(0), inputs)
    jaxnn.export((network, params, state), path, inputs=inputs, classes=["a", "b", "c"])


def text(path: Path) -> None:
    """Writes a transformer whose length is free, with its characters."""
    network = jaxnn.gpt(4, layers=1, heads=2, features=8, positions=6)
    inputs = np.array([[0, 1, 2], [3, 2, 1]], np.int32)
    params, state = network.init(jax.random.key(0), inputs)
    jaxnn.export((network, params, state), path, inputs=inputs, tokenizer=jaxnn.Characters("abcd"))


def table(path: Path) -> None:
    """Writes what a few steps learn of a table with a category and a missing number."""
    columns = jaxnn.fit_columns(TABLE, labels="dear")
    data = jaxnn.resident(columns.encode(TABLE), batch_size=6)
    learner = jaxnn.learner(columns.network([4]), columns.objective(), optax.adam(0.1))
    run = jaxnn.fit(learner, data, steps=5, key=jax.random.key(0), quiet=True)
    jaxnn.export(run, path, name="dear")


KINDS = {"image": image, "text": text, "table": table}

if __name__ == "__main__":
    for kind, write in KINDS.items():
        write(FOLDER / f"{kind}-jax-{jax.__version__}.jaxnn")
