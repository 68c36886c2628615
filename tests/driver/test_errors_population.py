"""Mistakes that users make with populations, and what the message says to do instead.

A row is as in `test_errors.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue, Watch
from jaxnn.driver import members
from jaxnn.scale.memory import size
from tests.mistakes import DATA, KEY, RATE, judge, train

KEYS = jax.random.split(KEY, 4)
NO_KEYS = KEYS[:0]
MANY = jax.random.split(KEY, 41)  # a number with which nothing was compiled before
RATES = {"learning_rate": [0.1, 0.2, 0.3]}
TABLE = {"learning_rate": np.full((2, 2), 0.1)}
PARTS = (None, None, lambda h: optax.sgd(h["learning_rate"]))
WIDE = (lambda h: jaxnn.mlp([h["width"]], 3),)
DEEP = (lambda h: jaxnn.serial(*[jaxnn.linear(3)] * h["depth"]),)


def unchanged(key, trials):
    return trials


def longer(key, trials):
    return jax.tree.map(lambda x: jnp.concatenate([x, x]), trials)


def drop_half(key, trials):
    return trials._replace(metrics={k: v.astype(jnp.float16) for k, v in trials.metrics.items()})


def states(key, trials):
    return trials.state


def watching(metric="test/loss", **options):
    return train(evaluate=DATA, watch=Watch(metric, **options))


V, T = InvalidValue, InvalidType
CASES = {
    # Who the members are.
    "more keys than learning rates": (
        lambda: train(key=KEYS, hparams=RATES, parts=PARTS),
        V, r"Got 3 of learning_rate, 4 of key; expected arrays of the same length",
        r"Pass arrays of one length; sweep\(",
    ),
    "hyper-parameters of two lengths": (
        lambda: train(hparams={**RATES, "decay": [0.1, 0.2]}, parts=PARTS),
        V, r"Got 3 of learning_rate, 2 of decay",
        r"Pass arrays of one length",
    ),
    "no keys": (
        lambda: train(key=NO_KEYS), V, r"Got 0 of key", r"Pass arrays of one length",
    ),
    "no learning rates": (
        lambda: train(hparams={"learning_rate": []}, parts=PARTS),
        V, r"Got 0 of learning_rate",
        r"Pass arrays of one length",
    ),
    "hyper-parameters of two axes": (
        lambda: train(hparams=TABLE, parts=PARTS),
        T, r"learning_rate is neither a number nor an array of one axis. Got .* of shape \(",
        r"Pass an array of one axis; sweep\(",
    ),
    "a learning rate of zero among others": (
        lambda: train(hparams={"learning_rate": [0.1, 0.0, 0.2]}, parts=PARTS),
        V, r"learning_rate=0\.0; expected a number above 0",
        r"Pass, say, learning_rate=0\.001",
    ),
    "a learning rate that is not finite among others": (
        lambda: train(hparams={"learning_rate": [0.1, np.nan]}, parts=PARTS),
        V, r"learning_rate=nan; expected a finite number",
        r"Pass, say, learning_rate=0\.001",
    ),
    "a dropout of all among others": (
        lambda: train(
            hparams={"rate": [0.1, 1.0]}, parts=(lambda h: jaxnn.mlp([8], 3, dropout=h["rate"]),)
        ),
        V, r"Got rate=1\.0; expected .* below 1",
        r"Pass, say, rate=0\.5",
    ),
    "a size for each member": (
        lambda: train(hparams={"width": [8, 16]}, parts=WIDE),
        T, r"expected a static int, since shapes cannot depend on a hyper-parameter",
        r"create a learner for each",
    ),
    "a size as a hyper-parameter": (
        lambda: train(hparams={"width": 8}, parts=WIDE),
        T, r"expected a static int, since shapes cannot depend on a hyper-parameter",
        r"create a learner for each",
    ),
    # Where they are.
    "a width for one run": (
        lambda: train(width=2),
        V, r"one run has no members to lay out. Got width=2",
        r"Pass keys or hyper-parameters with an axis of members",
    ),
    "devices for one run": (
        lambda: train(devices=jax.devices()),
        V, r"one run has no members to lay out. Got .*devices=",
        r"Pass keys or hyper-parameters with an axis of members",
    ),
    "a width of none": (
        lambda: train(key=KEYS, width=0),
        V, r"width=0; expected an integer of at least 1",
        r"Pass, say, width=1",
    ),
    "half a member": (
        lambda: train(key=KEYS, width=1.5), V, r"width=1\.5; expected an integer", r"width=1\.$",
    ),
    "no devices": (
        lambda: train(key=KEYS, devices=()),
        V, r"there is no device. Got devices=\(\)",
        r"Leave devices out, or pass jax\.local_devices\(\)",
    ),
    # What is watched.
    "an unknown metric": (
        lambda: watching("test/acuracy"),
        V, r"'test/acuracy'; expected one of .*test/accuracy",
        r"Did you mean 'test/accuracy'\?$",
    ),
    "a metric without the name of the data": (
        lambda: train(evaluate=DATA, watch="accuracy"),
        V, r"'accuracy'; expected one of .*test/accuracy",
        r"Did you mean '\w+/accuracy'\?$",
    ),
    "a metric of data that are not evaluated": (
        lambda: train(watch="test/loss"),
        V, r"'test/loss'; expected one of train/accuracy, train/loss",
        r"Did you mean 'train/loss'\?$",
    ),
    "a patience of none": (
        lambda: watching(patience=0), V, r"patience=0; expected an integer of at least 1",
        r"Pass, say, patience=1",
    ),
    "a patience in part": (
        lambda: watching(patience=2.5), V, r"patience=2\.5; expected an integer", r"patience=1\.$",
    ),
    "an unknown direction": (
        lambda: watching(better="bigger"),
        V, r"better='bigger'; expected one of higher, lower",
        r"Did you mean 'higher'\?$",
    ),
    "a negative margin": (
        lambda: watching(margin=-1.0), V, r"margin=-1\.0; expected a number of at least 0",
        r"Pass, say, margin=",
    ),
    "a watch of the wrong type": (
        lambda: train(evaluate=DATA, watch=3),
        T, r"watch has the wrong type. Got a int; expected a Watch",
        r"Pass watch='test/accuracy' or Watch\(",
    ),
    "a watch for a population on an unknown metric": (
        lambda: train(key=MANY, evaluate=DATA, watch="test/los"),
        V, r"'test/los'; expected one of",
        r"Did you mean 'test/loss'\?$",
    ),
    # What selects.
    "a selection from one run": (
        lambda: train(select=unchanged),
        V, r"a selection needs a population. Got one key",
        r"Pass key=jaxnn\.keys\(range\(16\)\), or leave select out",
    ),
    "a selection that changes the number": (
        lambda: train(key=KEYS, select=longer),
        T, r"the selection changes the form of the trials",
        r"Return trials\._replace\(\.\.\.\)",
    ),
    "a selection that changes a dtype": (
        lambda: train(key=KEYS, select=drop_half),
        T, r"the selection changes the form of the trials",
        r"Return trials\._replace\(\.\.\.\)",
    ),
    "a selection that returns states": (
        lambda: train(key=KEYS, select=states),
        T, r"the selection changes the form of the trials. Got TrainState",
        r"Return trials\._replace\(\.\.\.\)",
    ),
    "evaluation under the name of selection": (
        lambda: train(key=KEYS, evaluate={"select": DATA}),
        V, r"the name select is reserved for the metrics of selection",
        r"Write evaluate=\{'selection': data, \.\.\.\}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)


def test_a_selection_that_keeps_the_form_is_accepted():
    assert train(key=KEYS, select=unchanged).select is unchanged


@pytest.mark.parametrize(
    ("devices", "watched", "fit"), [(1, False, 5), (2, False, 10), (1, True, 5)]
)
def test_a_population_that_memory_does_not_hold_is_told_how_much_fits(
    devices, watched, fit, monkeypatch, compilations
):
    options = {"hparams": RATE, "parts": PARTS, "devices": jax.devices()[:devices]}
    options |= {"evaluate": DATA, "watch": "test/loss"} if watched else {}
    one = size(train(key=KEYS, **options).shapes(1))
    monkeypatch.setattr(members, "available", lambda device: int(11 * one))  # in two copies

    def population(count):
        return lambda: train(key=jax.random.split(KEY, count), **options)

    assert population(fit)().layout.members == fit
    # A number that no other test uses, so that nothing can have been compiled for it.
    count = 43 + devices + 2 * watched
    keys = jax.random.split(KEY, count)
    words = (
        rf"Got {count} members of [\d,]+ bytes on {devices} device.*; expected at most {fit} mem"
    )
    mistake = (
        lambda: train(key=keys, **options), V, words,
        r"Train them in several populations, or on more devices",
    )  # fmt: skip
    judge(mistake, compilations)
