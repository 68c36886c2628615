"""What the tables of mistakes share: data, a learner to spoil, and how an answer is judged."""

import re

import jax
import jaxtyping
import numpy as np
import optax
import pytest

import jaxnn
from tests.options import grouped

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY)
INPUTS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
LABELS = np.arange(12) % 3


def data(labels=LABELS, inputs=INPUTS, batch_size=4, **fields):
    fields = {"inputs": inputs, **({} if labels is None else {"labels": labels}), **fields}
    return jaxnn.resident(fields, batch_size=batch_size)


DATA = data()
WITHOUT_LABELS = data(None)
FLOAT_LABELS = data(LABELS.astype(np.float32))
NEGATIVE = data(np.where(LABELS == 1, -1, LABELS))
ONE_HOT = data(np.eye(3, dtype=np.int32)[LABELS])
COLUMN = data(INPUTS[:, :1])
ROW = data(INPUTS[:, 0])
WRONG_WEIGHTS = data(weights=np.ones((12, 2), np.float32))
FEW = data(batch_size=16)
NARROW = data(inputs=INPUTS[:, :3])
BYTES = data(inputs=np.zeros((12, 4), np.uint8))
IMAGES = data(inputs=np.zeros((12, 6, 6, 3), np.float32))
GREY_IMAGES = data(inputs=np.zeros((12, 6, 6, 1), np.float32))
RATE = {"learning_rate": 0.1}


def learner(network=None, objective=None, optimizer=None):
    return jaxnn.learner(
        network or jaxnn.mlp([8], 3),
        objective or jaxnn.classification(),
        optimizer or optax.sgd(0.1),
    )


def train(on=DATA, parts=(), **settings):
    made = parts if isinstance(parts, jaxnn.Learner) else learner(*parts)
    return jaxnn.train(made, on, **grouped(**{"steps": 3, "key": KEY, **settings}))


def state():
    made = learner()
    return made, jax.eval_shape(made.init, KEY, {}, DATA.arrays)


def judge(case, compilations):
    """Makes the mistake, with annotations not enforced: users meet the messages, not the checker.

    The message must be an `Invalid` that is raised before anything compiles, in the form `where:
    what is wrong. Got ...; expected .... Fix.`; its last part must match the expression `fix`.
    """
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        _judge(case, compilations)
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def _judge(case, compilations):
    bad, kind, words, fix = case
    compilations.clear()
    with pytest.raises(kind) as caught:
        bad()
    assert not compilations
    assert isinstance(caught.value, jaxnn.Invalid)
    text = str(caught.value)
    # `where: what is wrong. Got ...; expected .... Fix.`
    problem, separator, rest = text.partition("; expected ")
    assert separator and re.match(r"[\w., ' ]+: .+\. Got .+", problem, re.S), text
    assert re.search(words, text), text
    found = re.search(fix, rest)
    assert found, text
    assert text.endswith((".", "?")) and not text.endswith(("..", "?.")), text
