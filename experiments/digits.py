"""A network learns to read handwritten digits, in seconds and with no download.

    python -m experiments.digits

1,797 grey images of 8x8 pixels (UCI, from 13 writers), a fifth held out with equal shares
of each digit. Two hidden layers of 64 nodes with dropout, Adam with a cosine schedule. The
trained network is drawn in `network.png`; `report.html` has a training timeline.
"""

from dataclasses import dataclass

import optax

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters: what you set, while training sets the weights."""

    hidden: tuple[int, ...] = (64, 64)  # nodes of each hidden layer
    dropout: Hparam = 0.1  # probability of dropping a hidden node's output
    learning_rate: Hparam = 3e-3  # peak step size of Adam
    batch_size: int = 64  # examples in a training step
    epochs: float = 40  # passes over the training data
    seed: int = 0  # decides initialisation, order of the data and dropout


def network(config: Config, hparams) -> jaxnn.Network:
    """Pixels from 0 to 16 come to mean 0 and deviation 1; then hidden and output layers."""
    layers = jaxnn.mlp(config.hidden, 10, dropout=hparams["dropout"])
    return jaxnn.serial(("pixels", jaxnn.standardize(4.88, 6.02)), ("layers", layers))


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains the network, and shows some of its readings."""
    train, test = jaxnn.split(jaxnn.datasets.digits(), 0.2, stratify="labels")
    data = jaxnn.resident(train, batch_size=config.batch_size)
    steps = jaxnn.data.steps_of(f"{config.epochs} epochs", data)
    decay = optax.cosine_decay_schedule(1.0, steps)
    learner = jaxnn.learner(
        lambda hparams: network(config, hparams),
        jaxnn.classification(),
        lambda hparams: optax.adam(lambda step: hparams["learning_rate"] * decay(step)),
    )
    run = jaxnn.fit(
        learner,
        data,
        steps=steps,
        key=jaxnn.keys(config.seed),
        hparams=hparams(config),
        every="5%",
        evaluate=jaxnn.resident(test, batch_size=512),
        out=out,
        **options,
    )
    if not run.members:
        show(test, run)
        drawn = network(config, hparams(config))
        figure = jaxnn.pictures.network(drawn, run.state.params, test["inputs"])
        if jaxnn.scale.is_first():  # of several processes one writes
            figure.savefig(f"{run.out}/network.png")
        print(f"The trained network is drawn in {run.out}/network.png")
    return run


def show(test, run: jaxnn.Run, count: int = 4) -> None:
    """Prints held-out images, and under each the digit that the network reads."""
    shades = " .:-=+*#@"
    images = test["inputs"][:count]
    for row in range(8):
        print(
            "  ".join("".join(2 * shades[pixel // 2] for pixel in image[row]) for image in images)
        )
    read = run.predict(images).argmax(-1)
    marks = [f"{r}" if r == t else f"{r} (is {t})" for r, t in zip(read, test["labels"])]
    print("  ".join(f"{mark:^16}" for mark in marks))


if __name__ == "__main__":
    command(Config, main)
