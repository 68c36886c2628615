"""A residual network learns from a folder of images, which are decoded during training.

    python -m experiments.images --data FOLDER        # FOLDER/train/CLASS/*.jpg, FOLDER/val/...
    python -m experiments.images                      # CIFAR-10, in its original files (160 MB)
    python -m experiments.images --data mnist --size 28 --no-mirror     # MNIST, as 70,000 PNG files
    python -m experiments.images --data FOLDER --size 224 --blocks 3 4 6 3 --width 64   # ResNet-34

Threads read and decode images ahead of training. The device shifts and mirrors each image at
random. The optimizer is SGD with momentum and a cosine schedule; the network is that of He et al.
2016, https://arxiv.org/abs/1512.03385.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams
from jaxnn.streams.source import Rows

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
DIGEST = "md5:c32a1d4ab5d03f1284b67883e8d87530"  # as published on the data set's page


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    data: str | None = None  # folder with train/CLASS and val/CLASS, or mnist (default: CIFAR-10)
    size: int = 32  # height and width of the resized images
    blocks: tuple[int, ...] = (3, 3, 3)  # residual blocks per stage
    width: int = 16  # channels of the first stage
    learning_rate: Hparam = 0.1  # peak step size
    weight_decay: Hparam = 5e-4  # weight decay, added to the gradient
    batch_size: int = 128  # images per training step
    epochs: float = 30  # passes over the training images
    shift: int = 4  # largest shift of a training image in pixels
    mirror: bool = True  # whether half of the training images are mirrored
    workers: int = 8  # decoding threads
    seed: int = 0  # random seed for initialization, data order and augmentation


class Cifar(Rows):
    """A CIFAR-10 file: one byte for the class of each image, then 32 x 32 bytes per colour."""

    def __init__(self, path: Path):
        self.records = np.memmap(path, np.uint8, "r").reshape(-1, 3073)
        self.path = path

    def __len__(self) -> int:
        return len(self.records)

    def rows(self, index):
        """Returns the images at these indices, and their classes."""
        records = self.records[index]
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return {"inputs": images, "labels": records[:, 0].astype(np.int32)}

    def place(self, index: int) -> str:
        """Returns where an image is stored."""
        return f"image {index} of {self.path}"


def write_mnist(folder: Path) -> Path:
    """Writes MNIST as a folder of PNG files."""
    from PIL import Image  # only needed for images

    for part, arrays in zip(("train", "val"), jaxnn.datasets.mnist()):
        for number, (pixels, label) in enumerate(zip(arrays["inputs"], arrays["labels"])):
            path = folder / part / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


def sources(config: Config, written: Path):
    """Returns the training images, the test images, and the number of classes."""
    if config.data is not None:
        folder = write_mnist(written) if config.data == "mnist" else Path(config.data)
        train = jaxnn.streams.images(folder / "train", config.size)
        val = jaxnn.streams.images(folder / "val", config.size, names=train.names)
        return train, val, len(train.names)
    import pooch  # only needed for a download

    paths = sorted(map(Path, pooch.retrieve(URL, DIGEST, processor=pooch.Untar())))
    train = [Cifar(path) for path in paths if path.match("data_batch_*.bin")]
    (val,) = (Cifar(path) for path in paths if path.name == "test_batch.bin")
    return jaxnn.streams.concatenate(train), val, 10


def moved(most: int, mirror: bool):
    """Returns an augmentation that shifts by up to `most` pixels and mirrors half of the images."""

    def move(key, image):
        corner = jax.random.randint(key, (2,), 0, 2 * most + 1)
        padded = jnp.pad(image, [(most, most), (most, most), (0, 0)])
        image = lax.dynamic_slice(padded, (*corner, 0), image.shape)
        flip = mirror & jax.random.bernoulli(jax.random.fold_in(key, 1))
        return jnp.where(flip, image[:, ::-1], image)

    return move


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains on the training images and evaluates on the test images."""
    with tempfile.TemporaryDirectory() as written:
        return trained(config, out, *sources(config, Path(written)), **options)


def trained(config: Config, out, train, val, classes: int, **options) -> jaxnn.Run:
    """Trains on a source of images, and evaluates on another one."""
    data = jaxnn.stream(train, batch_size=config.batch_size, block=8, workers=config.workers)
    test = jaxnn.stream(val, batch_size=min(256, len(val)), block=4, workers=config.workers)
    decay = optax.cosine_decay_schedule(1.0, jaxnn.data.steps_of(f"{config.epochs} epochs", data))
    form = "cifar" if config.size <= 64 else "imagenet"
    layers = jaxnn.resnet(list(config.blocks), classes, form=form, width=config.width)
    learner = jaxnn.learner(
        jaxnn.serial(("pixels", jaxnn.standardize(120.0, 64.0)), ("layers", layers)),
        jaxnn.objectives.augment(jaxnn.classification(), moved(config.shift, config.mirror)),
        lambda h: optax.chain(
            optax.add_decayed_weights(h["weight_decay"]),
            optax.sgd(lambda step: h["learning_rate"] * decay(step), 0.9, nesterov=True),
        ),
    )
    return jaxnn.fit(
        learner, data, steps=f"{config.epochs} epochs", key=jaxnn.keys(config.seed),
        hparams=hparams(config), evaluate=test, out=out, **options,
    )  # fmt: skip


if __name__ == "__main__":
    command(Config, main)
