"""A variational autoencoder learns to draw digits, from 60,000 examples and no labels.

    python -m experiments.vae_mnist

The encoder and the decoder have one hidden layer of 500 nodes each, with 20 latent variables
between them, as in Kingma and Welling (ICLR 2014, section 5). The test loss is the negative
evidence lower bound in nats per image, with pixels as probabilities; latent variables are sampled
during testing too. `samples.png` in the run directory shows images that the decoder generates from
random noise.
"""

from dataclasses import dataclass

import jax
import optax

import jaxnn
from experiments.command import command
from experiments.fields import Hparam, hparams
from jaxnn.pictures.images import image_grid


@dataclass(frozen=True, kw_only=True)
class Config:
    """The hyper-parameters."""

    hidden: int = 500  # nodes of the hidden layer in the encoder and the decoder
    latent: int = 20  # latent variables
    beta: Hparam = 1.0  # factor of the KL divergence; 1 gives the evidence lower bound
    learning_rate: Hparam = 2e-3  # peak step size of Adam
    batch_size: int = 128  # images per training step
    epochs: float = 20  # passes over the training data
    seed: int = 0  # random seed for initialization, order of the data and samples


def decoder(config: Config) -> jaxnn.Network:
    """Returns the decoder, from latent variables to pixel logits."""
    return jaxnn.mlp([config.hidden], 28 * 28)


def network(config: Config) -> jaxnn.Network:
    """Scales bytes to the range from 0 to 1, then applies encoder and decoder."""
    autoencoder = jaxnn.vae(jaxnn.mlp([config.hidden], 2 * config.latent), decoder(config))
    return jaxnn.serial(("pixels", jaxnn.standardize(0, 255)), ("layers", autoencoder))


def drawing(network: jaxnn.Network) -> jaxnn.Network:
    """Samples latent variables in testing too, with a fixed key: the bound is a mean over them."""

    def apply(params, state, inputs, *, key=None):
        return network.apply(params, state, inputs, key=jax.random.key(0) if key is None else key)

    return network._replace(apply=apply)


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains on the training images, evaluates on the test images, and samples new images."""
    train, test = ({"inputs": part["inputs"]} for part in jaxnn.datasets.mnist())
    data = jaxnn.resident(train, batch_size=config.batch_size)
    steps = jaxnn.data.steps_of(f"{config.epochs} epochs", data)
    decay = optax.cosine_decay_schedule(1.0, steps)
    learner = jaxnn.learner(
        drawing(network(config)),
        lambda hparams: jaxnn.objectives.elbo(
            beta=hparams["beta"], targets=lambda pixels: pixels / 255.0
        ),
        lambda hparams: optax.adam(lambda step: hparams["learning_rate"] * decay(step)),
    )
    run = jaxnn.fit(
        learner,
        data,
        steps=steps,
        key=jaxnn.keys(config.seed),
        hparams=hparams(config),
        every="5%",
        evaluate=jaxnn.resident(test, batch_size=1000),
        out=out,
        **options,
    )
    if not run.members and run.out is not None:
        images = image_grid(samples(config, run.state.params["layers"]["decoder"]))
        if jaxnn.scale.is_first():  # only one process writes
            images.savefig(run.out / "samples.png")
    return run


def samples(config: Config, params, count: int = 100):
    """Returns pixels `[count, 28, 28]` from 0 to 1, which the decoder generates from noise."""
    noise = jax.random.normal(jax.random.key(config.seed), (count, config.latent))
    logits, _ = jax.jit(decoder(config).apply)(params, {}, noise)
    return jax.nn.sigmoid(logits).reshape(count, 28, 28)


if __name__ == "__main__":
    command(Config, main)
