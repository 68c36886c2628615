"""A variational autoencoder learns to draw digits, from 60,000 examples and no labels.

    python -m experiments.vae_mnist

Encoder and decoder have one hidden layer of 500 nodes, and 20 latent variables between them, as in
Kingma and Welling (ICLR 2014, section 5). The test loss is the negative evidence lower bound, nats
per image, with pixels as probabilities; the latent variables are drawn in testing too.
`samples.png`, in the run directory, shows what the decoder makes of pure noise.
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

    hidden: int = 500  # nodes of the hidden layer, in the encoder and in the decoder
    latent: int = 20  # latent variables
    beta: Hparam = 1.0  # factor of the divergence from the prior; 1 is the bound
    learning_rate: Hparam = 2e-3  # peak step size of Adam
    batch_size: int = 128  # images in a training step
    epochs: float = 20  # passes over the training data
    seed: int = 0  # decides initialisation, order of the data, and what is drawn


def decoder(config: Config) -> jaxnn.Network:
    """Makes logits of pixels of latent variables."""
    return jaxnn.mlp([config.hidden], 28 * 28)


def network(config: Config) -> jaxnn.Network:
    """Bytes come to numbers from 0 to 1; then encoder and decoder."""
    autoencoder = jaxnn.vae(jaxnn.mlp([config.hidden], 2 * config.latent), decoder(config))
    return jaxnn.serial(("pixels", jaxnn.standardize(0, 255)), ("layers", autoencoder))


def drawing(network: jaxnn.Network) -> jaxnn.Network:
    """Draws latent variables in testing too, always alike: the bound is a mean over them."""

    def apply(params, state, inputs, *, key=None):
        return network.apply(params, state, inputs, key=jax.random.key(0) if key is None else key)

    return network._replace(apply=apply)


def main(config: Config, out: jaxnn.Directory, **options) -> jaxnn.Run:
    """Trains on the training images, tests on the test images, and draws new ones."""
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
        if jaxnn.scale.is_first():  # of several processes one writes
            images.savefig(run.out / "samples.png")
    return run


def samples(config: Config, params, count: int = 100):
    """Returns the pixels `[count, 28, 28]` that the decoder makes of noise, from 0 to 1."""
    noise = jax.random.normal(jax.random.key(config.seed), (count, config.latent))
    logits, _ = jax.jit(decoder(config).apply)(params, {}, noise)
    return jax.nn.sigmoid(logits).reshape(count, 28, 28)


if __name__ == "__main__":
    command(Config, main)
