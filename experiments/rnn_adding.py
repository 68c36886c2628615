"""The adding problem: a network must remember two numbers over two hundred time steps.

    python -m experiments.rnn_adding
    python -m experiments.rnn_adding --cell lstm

Each time step has a number from 0 to 1 and a mark. One mark is in the first half of the sequence
and one in the second, and the target is the sum of the two marked numbers. A constant prediction of
1 has a squared error of 1/6 = 0.167, and a network without memory cannot do better (Hochreiter and
Schmidhuber, Neural Computation 1997, section 5.4; as in Arjovsky et al., ICML 2016, section 5.2).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import optax

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    cell: Literal["gru", "lstm"] = "gru"  # type of the recurrent cell
    hidden: int = 64  # recurrent units
    length: int = 200  # time steps per sequence
    sequences: int = 50_000  # training sequences; a tenth as many for testing
    learning_rate: Hparam = 5e-3  # peak step size of Adam
    clip: float = 1.0  # maximum global norm of the gradient
    batch_size: int = 100  # sequences per training step
    steps: int = 2000  # training steps; 500 are one pass over the training data
    seed: int = 0  # random seed for sequences, their order and initialization


def sequences(count: int, length: int, seed: int) -> dict[str, np.ndarray]:
    """Returns random sequences `[count, length, 2]` of numbers and marks, and sums `[count, 1]`."""
    draws = np.random.default_rng(seed)
    numbers = draws.random((count, length), np.float32)
    half = length // 2
    marked = np.stack([draws.integers(0, half, count), draws.integers(half, length, count)], axis=1)
    marks = np.zeros((count, length), np.float32)
    np.put_along_axis(marks, marked, 1.0, axis=1)
    sums = np.take_along_axis(numbers, marked, axis=1).sum(1, keepdims=True)
    return {"inputs": np.stack([numbers, marks], axis=-1), "labels": sums}


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains on some sequences, and evaluates on others."""
    first_seed = int(np.min(config.seed))  # the runs of a sweep share their sequences
    train = sequences(config.sequences, config.length, first_seed)
    test = sequences(config.sequences // 10, config.length, 1_000_000 + first_seed)
    data = jaxnn.resident(train, batch_size=config.batch_size)
    decay = optax.cosine_decay_schedule(1.0, config.steps)
    learner = jaxnn.learner(
        jaxnn.rnn([config.hidden], 1, cell=config.cell),
        jaxnn.regression(),
        lambda hparams: optax.chain(
            optax.clip_by_global_norm(config.clip),
            optax.adam(lambda step: hparams["learning_rate"] * decay(step)),
        ),
    )
    return jaxnn.fit(
        learner,
        data,
        steps=config.steps,
        key=jaxnn.keys(config.seed),
        hparams=hparams(config),
        every="5%",
        evaluate=jaxnn.resident(test, batch_size=500),
        out=out,
        **options,
    )


if __name__ == "__main__":
    command(Config, main)
