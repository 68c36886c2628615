"""An unmodified Flax convolutional network is trained on MNIST by jaxnn.

    python -m experiments.flax_mnist

The class `CNN` is plain Flax NNX code: two blocks of convolution, batch normalization and pooling,
followed by a hidden layer with dropout. `from_flax` converts it to a network, including its batch
statistics and random streams, and `to_flax` converts the trained network back.

On GPU and TPU the model runs at full speed. On CPU, XLA computes the gradient of a Flax convolution
up to 25 times slower inside a compiled loop, so jaxnn dispatches such a model step by step. Pass
`conv_general_dilated=jaxnn.layers.conv_general_dilated` to `nnx.Conv` to use a compiled loop again.
"""

from dataclasses import dataclass

import numpy as np
import optax
from flax import nnx

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams
from jaxnn.models.flax import from_flax, to_flax


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    channels: tuple[int, int] = (32, 64)  # output channels of the two convolutions
    hidden: int = 128  # nodes of the hidden layer
    dropout: float = 0.3  # probability of dropping a hidden node's output
    learning_rate: Hparam = 2e-3  # peak step size of Adam
    batch_size: int = 128  # examples per training step
    epochs: float = 3  # passes over the training data
    seed: int = 0  # random seed for initialization, order of the data and dropout


class CNN(nnx.Module):
    """An ordinary Flax network."""

    def __init__(self, channels: tuple[int, int], hidden: int, dropout: float, *, rngs: nnx.Rngs):
        self.conv_1 = nnx.Conv(1, channels[0], kernel_size=(3, 3), rngs=rngs)
        self.norm_1 = nnx.BatchNorm(channels[0], rngs=rngs)
        self.conv_2 = nnx.Conv(channels[0], channels[1], kernel_size=(3, 3), rngs=rngs)
        self.norm_2 = nnx.BatchNorm(channels[1], rngs=rngs)
        self.hidden = nnx.Linear(7 * 7 * channels[1], hidden, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.output = nnx.Linear(hidden, 10, rngs=rngs)

    def __call__(self, images):
        """Returns raw outputs `[batch, 10]` for bytes `[batch, 28, 28]`."""
        x = images[..., None] / 255.0
        x = nnx.avg_pool(nnx.relu(self.norm_1(self.conv_1(x))), (2, 2), strides=(2, 2))
        x = nnx.avg_pool(nnx.relu(self.norm_2(self.conv_2(x))), (2, 2), strides=(2, 2))
        x = nnx.relu(self.hidden(x.reshape(x.shape[0], -1)))
        return self.output(self.dropout(x))


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains the Flax model on the training images, and tests it."""
    train, test = jaxnn.datasets.mnist()
    data = jaxnn.resident(train, batch_size=config.batch_size)
    steps = jaxnn.data.steps_of(f"{config.epochs} epochs", data)
    decay = optax.cosine_decay_schedule(1.0, steps)
    sizes = {name: getattr(config, name) for name in ("channels", "hidden", "dropout")}
    learner = jaxnn.learner(
        from_flax(CNN, **sizes),
        jaxnn.classification(),
        lambda hparams: optax.adam(lambda step: hparams["learning_rate"] * decay(step)),
    )
    run = jaxnn.fit(
        learner,
        data,
        steps=steps,
        key=jaxnn.keys(config.seed),
        hparams=hparams(config),
        evaluate=jaxnn.resident(test, batch_size=1000),
        out=out,
        **options,
    )
    if not run.members:
        show(test, run, sizes)
    return run


def show(test, run: jaxnn.Run, sizes) -> None:
    """Converts the trained model back to Flax, and prints its predictions."""
    model = to_flax(CNN, run.state.params, run.state.state, **sizes)
    images, labels = test["inputs"][:20], test["labels"][:20]
    print("the Flax model reads", *np.asarray(model(images).argmax(-1)))
    print("          and it was", *labels)


if __name__ == "__main__":
    command(Config, main)
