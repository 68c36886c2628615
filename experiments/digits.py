"""A network learns to read handwritten digits, in seconds and with no download.

    python -m experiments.digits

The data are 1,797 grey images of 8x8 pixels (UCI, from 13 writers). A fifth is held out, stratified
by digit. The network has two hidden layers of 64 nodes with dropout, and trains with Adam and a
cosine schedule. `network.png` shows the trained network; `report.html` has a training timeline.
"""

from dataclasses import dataclass

import optax

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters: values that you set, while training sets the weights."""

    hidden: tuple[int, ...] = (64, 64)  # nodes of each hidden layer
    dropout: Hparam = 0.1  # probability of dropping a hidden node's output
    learning_rate: Hparam = 3e-3  # peak step size of Adam
    batch_size: int = 64  # examples per training step
    epochs: float = 40  # passes over the training data
    seed: int = 0  # random seed for initialization, order of the data and dropout


def network(config: Config, hparams) -> jaxnn.Network:
    """Standardizes pixels from 0 to 16, then applies the hidden and output layers."""
    layers = jaxnn.mlp(config.hidden, 10, dropout=hparams["dropout"])
    return jaxnn.serial(("pixels", jaxnn.standardize(4.88, 6.02)), ("layers", layers))


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains the network, and shows some of its predictions."""
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
        if jaxnn.scale.is_first():  # only one process writes
            figure.savefig(f"{run.out}/network.png")
        print(f"Picture of the trained network: {run.out}/network.png")
    return run


def show(test, run: jaxnn.Run, count: int = 4) -> None:
    """Prints held-out images with the predicted digit below each."""
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
