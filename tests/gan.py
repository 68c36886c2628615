"""A learner written by hand: a GAN, two networks and two optimizers that work against each other.

What does not fit `jaxnn.learner(network, objective, optimizer)` is a `Learner` of your own
functions: `init`, `update`, `evaluate` and `predict`. They may use any state that is a pytree of
arrays with a field `step`; `train`, `fit`, `evaluate` and `predict` ask for nothing else.

The generator makes points of the plane out of noise. The discriminator tells them from real points,
which lie around eight centres on a circle; the generator learns to be mistaken for them.

Source: Goodfellow et al., Generative Adversarial Nets, NeurIPS 2014, algorithm 1, with the loss of
section 3 that does not saturate, https://arxiv.org/abs/1406.2661.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnn
from jaxnn.learning import no_gradients
from jaxnn.metrics import Metric, mean
from jaxnn.objectives import example_keys, weights_of

NOISE = 2  # numbers that the generator makes a point of
DEVIATION = 0.1  # of the real points from their centre, on both axes
CENTRES = np.array([(np.cos(a), np.sin(a)) for a in np.arange(8) * np.pi / 4], np.float32)


class GanState(NamedTuple):
    """All that the run is; `params` and `opt_state` are pairs, the generator's and the other's."""

    step: jax.Array
    params: tuple
    opt_state: tuple
    key: jax.Array


def gan_data(batch_size: int = 128, examples: int = 2048) -> jaxnn.Resident:
    """Returns real points, as many around each of the eight centres."""
    draws = np.random.default_rng(0).normal(size=(examples, 2))
    points = np.resize(CENTRES, (examples, 2)) + DEVIATION * draws
    return jaxnn.resident({"inputs": points}, batch_size=batch_size)


@cache  # the same one for all tests: a learner compiles once
def gan_learner(learning_rate: float = 2e-3) -> jaxnn.Learner:
    """Returns the learner; its quality measure is `modes`, from 0 to 8."""
    generator = jaxnn.mlp([32, 32], 2, activation=jnp.tanh)
    discriminator = jaxnn.mlp([64, 64], 1, scale=2.0**0.5)
    optimizer = optax.adam(learning_rate, b1=0.5)

    def generate(params, noise):
        return generator.apply(params, {}, noise)[0]

    def realness(params, points):  # a logit for each point
        return discriminator.apply(params, {}, points)[0][:, 0]

    def init(key, hparams, batch):
        keys = jax.random.split(jax.random.fold_in(key, 0))
        noise = jax.ShapeDtypeStruct((1, NOISE), jnp.float32)
        params = generator.init(keys[0], noise)[0], discriminator.init(keys[1], batch["inputs"])[0]
        opt_state = optimizer.init(params[0]), optimizer.init(params[1])
        return GanState(jnp.zeros((), jnp.int32), params, opt_state, key)

    def losses(params, batch, key):
        """Returns both losses for each example, and the points that were made."""
        made = generate(params[0], jax.vmap(draw)(example_keys(key, batch)))
        real, fake = realness(params[1], batch["inputs"]), realness(params[1], made)
        # Softplus of minus a logit is the loss of calling it real, of a logit of calling it fake.
        return jax.nn.softplus(-fake), jax.nn.softplus(-real) + jax.nn.softplus(fake), made

    def measured(params, batch, key):
        generator_losses, discriminator_losses, made = losses(params, batch, key)
        weights = weights_of(batch, generator_losses)
        return {
            "generator_loss": mean(generator_losses, weights),
            "discriminator_loss": mean(discriminator_losses, weights),
            "modes": modes(made, weights),
        }

    def update(state, batch, gradients):  # the whole step: each player has a gradient of its own
        # Like all randomness here, that of a step is derived from the run's key and the step.
        key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step)
        params, opt_state = list(state.params), list(state.opt_state)
        for player in (0, 1):

            def loss(own, player=player):
                both = tuple(own if i == player else params[i] for i in (0, 1))
                return losses(both, batch, key)[player].mean()

            grads = jax.grad(loss)(params[player])
            updates, opt_state[player] = optimizer.update(grads, opt_state[player])
            params[player] = optax.apply_updates(params[player], updates)
        state = GanState(state.step + 1, tuple(params), tuple(opt_state), state.key)
        return state, measured(state.params, batch, key)

    def evaluate(state, batch):
        return measured(state.params, batch, None)

    def predict(state, noise):
        return generate(state.params[0], noise)

    return jaxnn.Learner(init, no_gradients, update, evaluate, predict)


def draw(key: jax.Array) -> jax.Array:
    """Returns noise for one point."""
    return jax.random.normal(key, (NOISE,))


def modes(points: jax.Array, weights: jax.Array) -> Metric:
    """How many of the centres are served: 8 when all points lie near them, as many at each.

    A metric is made of sums over examples, here how many points lie within three deviations of each
    centre, and of all points: so it is exact however they were cut into batches.
    """
    distances = jnp.linalg.norm(points[:, None] - CENTRES[None], axis=-1)
    near = (distances < 3 * DEVIATION) * weights[:, None]
    return Metric((near.sum(0), weights.sum()), _served)


def _served(sums):
    """The share of points near a centre, times the exponential of the entropy over the centres."""
    near, total = sums
    shares = near / jnp.maximum(near.sum(), 1.0)
    entropy = -jnp.sum(shares * jnp.log(jnp.where(shares > 0, shares, 1.0)))
    return near.sum() / total * jnp.exp(entropy)
