"""The classic: 70,000 handwritten digits of 28x28 pixels, by an MLP or a convolutional network.

    python -m experiments.mnist                     # MLP, 784-256-256-10
    python -m experiments.mnist --model convnet     # two blocks of convolution and pooling
    python -m experiments.mnist --model resnet --learning-rate 3e-3 --epochs 16

The network trains on the 60,000 training images and is evaluated on the official 10,000 test
images. It uses dropout and AdamW with a cosine schedule. The convolutional network also shifts
every training image by up to two pixels. The residual network, with three blocks, shifts, rotates
and scales them.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.scipy.ndimage import map_coordinates

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    model: Literal["mlp", "convnet", "resnet"] = "mlp"  # network to train
    dropout: Hparam = 0.2  # probability of dropping a node's output, or a residual branch
    learning_rate: Hparam = 1e-3  # peak step size of AdamW
    weight_decay: Hparam = 1e-2  # weight decay of AdamW, multiplied by the step size
    batch_size: int = 128  # examples per training step
    epochs: float = 12  # passes over the training data
    shift: int = 2  # largest shift of a training image in pixels (not mlp)
    seed: int = 0  # random seed for initialization, data order, dropout and shifts


def network(config: Config, hparams) -> jaxnn.Network:
    """Standardizes bytes by the mean and deviation of the training images, then applies layers."""
    pixels = ("pixels", jaxnn.standardize(33.3, 78.6))
    if config.model == "resnet":
        layers = ("layers", jaxnn.resnet([1, 1, 1], 10, width=32, drop=hparams["dropout"]))
        return jaxnn.serial(pixels, ("patches", jaxnn.activation(patches)), layers)
    if config.model == "convnet":
        return jaxnn.serial(
            pixels, ("layers", jaxnn.convnet([32, 64], 128, 10, dropout=hparams["dropout"]))
        )
    return jaxnn.serial(pixels, ("layers", jaxnn.mlp([256, 256], 10, dropout=hparams["dropout"])))


def patches(images):
    """Turns 2x2 pixels into four channels, to reduce the cost of the convolutions."""
    return images.reshape(-1, 14, 2, 14, 2).swapaxes(2, 3).reshape(-1, 14, 14, 4)


def shifted(most: int):
    """Returns an augmentation that shifts an image by up to `most` pixels in each direction."""

    def shift(key, image):
        corner = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return lax.dynamic_slice(jnp.pad(image, most), corner, image.shape)

    return shift


def warped(most: float, turn: float = 0.2, zoom: float = 0.15):
    """Returns an augmentation that shifts, rotates (by radians) and scales an image."""

    def warp(key, image):
        draws = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
        angle, size, down, right = draws * jnp.array([turn, zoom, most, most])
        rows, columns = jnp.indices(image.shape) - 13.5  # from the centre
        place = (rows + 1j * columns) * jnp.exp(size + 1j * angle) + (down + 1j * right)
        at = [place.real + 13.5, place.imag + 13.5]
        return map_coordinates(image.astype(jnp.float32), at, order=1)

    return warp


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains on the training images and evaluates on the test images."""
    train, test = jaxnn.datasets.mnist()
    data = jaxnn.resident(train, batch_size=config.batch_size)
    steps = jaxnn.data.steps_of(f"{config.epochs} epochs", data)
    decay = optax.cosine_decay_schedule(1.0, steps)
    objective = jaxnn.classification()
    if config.model != "mlp" and config.shift:
        moved = shifted if config.model == "convnet" else warped
        objective = jaxnn.objectives.augment(objective, moved(config.shift))
    learner = jaxnn.learner(
        lambda hparams: network(config, hparams),
        objective,
        lambda hparams: optax.adamw(
            lambda step: hparams["learning_rate"] * decay(step),
            weight_decay=hparams["weight_decay"],
        ),
    )
    return jaxnn.fit(
        learner,
        data,
        steps=steps,
        key=jaxnn.keys(config.seed),
        hparams=hparams(config),
        evaluate=jaxnn.resident(test, batch_size=1000),
        out=out,
        **options,
    )


if __name__ == "__main__":
    command(Config, main)
