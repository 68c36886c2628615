"""One compiled program trains 256 networks at once, and shows which learning rate is best.

    python -m experiments.sweep_digits

A network of 64-64-10 nodes trains with Adam at 32 learning rates, with 8 seeds each. All runs are
one compiled program with the learning rate as an input. The picture has a column for each learning
rate and a row for each seed; the table averages over the seeds.
"""

from dataclasses import dataclass

import optax

import jaxnn
from experiments.command import command


@dataclass(frozen=True, kw_only=True)
class Config:
    """The sweep, and the training of each network."""

    lowest: float = 1e-4  # lowest learning rate of Adam
    highest: float = 1e-1  # highest learning rate of Adam
    rates: int = 32  # number of learning rates, logarithmically spaced
    seeds: int = 8  # runs per learning rate
    hidden: int = 64  # nodes of the hidden layer
    batch_size: int = 64  # examples per training step
    epochs: float = 20  # passes over the training data


def main(config: Config, out: jaxnn.Directory) -> jaxnn.search.Swept:
    """Trains all networks, and ranks the learning rates by their accuracy on held-out digits."""
    train, test = jaxnn.split(jaxnn.datasets.digits(), 0.2, stratify="labels")
    data = jaxnn.resident(train, batch_size=config.batch_size)
    learner = jaxnn.learner(
        jaxnn.serial(jaxnn.standardize(4.88, 6.02), jaxnn.mlp([config.hidden], 10)),
        jaxnn.classification(),
        lambda hparams: optax.adam(hparams["learning_rate"]),
    )

    def fit(values, runs, out):
        return jaxnn.fit(
            learner,
            data,
            steps=f"{config.epochs} epochs",
            key=runs.key,
            hparams=runs.hparams,
            every="25%",
            evaluate=jaxnn.resident(test, batch_size=512),
            out=out,
        )

    rates = jaxnn.log_range(config.lowest, config.highest, config.rates)
    sweep = jaxnn.sweep({"learning_rate": rates}, seeds=config.seeds)
    return jaxnn.fit_sweep(sweep, fit, out=out)


if __name__ == "__main__":
    command(Config, main, sweeps=True)
