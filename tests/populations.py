"""A small population that tests train, and its members alone."""

from functools import cache

import jax
import numpy as np
import optax

import jaxnn
from tests.options import grouped

# Members 4, 5 and 6 learn nothing and stop at once; of two devices they are all on the second.
RATES = np.float32([0.3, 0.1, 0.03, 0.01, 1e-6, 1e-6, 1e-6, 0.2])
KEYS = jax.vmap(jax.random.key)(np.arange(8))
ALL = np.arange(8)
WATCH = jaxnn.Watch("test/loss", patience=2, margin=1e-3)
STEPS, EVERY = 60, 4


@cache  # one learner compiles once, however many tests run it
def classifier():
    network = jaxnn.mlp([8], 3, dropout=0.1)
    optimizer = lambda h: optax.sgd(h["learning_rate"], momentum=0.9)  # noqa: E731
    return jaxnn.learner(network, jaxnn.classification(), optimizer)


@cache
def points(batch_size=12, examples=40, seed=0):
    draws = np.random.default_rng(seed).normal(size=(examples, 4)).astype(np.float32)
    noise = np.random.default_rng(seed + 1).normal(size=(examples, 3))
    labels = (draws[:, :3] + noise).argmax(-1)
    return jaxnn.resident({"inputs": draws, "labels": labels}, batch_size=batch_size)


def settings(members=ALL, rates=RATES, **others):
    defaults = {"steps": STEPS, "every": EVERY, "evaluate": points(24, seed=7), "watch": WATCH}
    if np.ndim(members):
        defaults["devices"] = jax.devices()[:1]
    given = {"key": KEYS[members], "hparams": {"learning_rate": rates[members]}}
    return grouped(**{**defaults, **given, **others})


def fit(*members, out=None, **others):
    return jaxnn.fit(classifier(), points(), quiet=True, **settings(*members, out=out, **others))


def train(*members, **others):
    return jaxnn.train(classifier(), points(), **settings(*members, **others))


def at(tree, member):
    return jax.tree.map(lambda x: x[member], tree)


def explosive(member):
    return np.where(ALL == member, np.float32(1e30), RATES)
