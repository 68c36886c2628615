"""The law of members, over every learner in the registry: each is its single run.

One after another (`width=1`) bit for bit, whatever the others are; side by side but for rounding.
"""

from contextlib import contextmanager
from functools import cache

import jax
import numpy as np
import pytest

import jaxnn
from tests.cases import held
from tests.registry import BATCH, LEARNERS
from tests.trees import assert_close, assert_same_bits, numbers

# Of one learner the same is in `test_population.py`.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("optimized")]

# Learners like others in what populations do with them.
SELDOM = {"accumulate", "averaged", "convnet", "embedding", "gan", "linen", "nnx", "regression"}

STEPS, EVERY = 11, 4  # reports at 4, 8 and 11; 132 examples: 4 epochs of 32 and a part
MEMBERS = np.arange(3)
KEYS = jax.random.split(jax.random.key(5), len(MEMBERS))
FACTORS = np.float32([1.0, 0.5, 2.0])

# Adam makes steps of full size out of the rounding in a gradient that is 0, as that of a bias is
# before batch normalization: such a learner agrees in what it reports, but not in its state.
UNDETERMINED = {"nnx"}


@contextmanager
def unoptimized():
    """Compiles faster a program whose bits are not compared with those of another."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def trained(case, members, **options):
    """Returns the metrics at each report, and the state at the end, of a run or a population.

    Members differ in key and in all hyper-parameters.
    """
    data = jaxnn.resident(case.data, batch_size=BATCH)
    given = {
        name: value * FACTORS[members] for name, value in case.facts.get("hparams", {}).items()
    }
    options |= {} if np.ndim(members) == 0 else {"devices": jax.devices()[:1]}
    reports = []
    for progress in jaxnn.train(
        case.thing, data, steps=STEPS, every=EVERY, key=KEYS[members], hparams=given,
        evaluate=data, execution=jaxnn.Execution(**options),
    ):  # fmt: skip
        reports.append(numbers(progress.metrics))
    return reports, numbers(progress.state)


@cache
def alone(case, member, **options):
    return trained(case, member, **options)


def assert_each(compare, population, case, members=MEMBERS, **options):
    """Compares each member with its single run."""
    for place, member in enumerate(members):
        own = jax.tree.map(lambda x, place=place: x[place], population)
        compare(own, alone(case, member, **options))


@held(LEARNERS, "member", seldom=SELDOM)
def test_member(case):
    """In any order a member has the bits of its single run: metrics, evaluations and state."""
    members = MEMBERS[[2, 0, 1]]
    assert_each(assert_same_bits, trained(case, members), case, members)


@held(
    [case for case in LEARNERS if case.name in ("dropout", "nnx")], "stepped_member", seldom={"nnx"}
)
def test_stepped_member(case):
    """The same holds where steps are dispatched one by one."""
    assert_each(assert_same_bits, trained(case, MEMBERS, form="stepped"), case, form="stepped")


@held(LEARNERS, "side_by_side", seldom=SELDOM | {"batch_norm", "convolutions", "guarded"})
def test_side_by_side(case):
    """Side by side, members agree with their single runs but for rounding."""

    def close(left, right):
        if case.name in UNDETERMINED:
            assert_close(left[0], right[0], 0.05)
        else:
            assert_close(left, right, 1e-4)

    for member in MEMBERS:
        alone(case, member)  # optimized, as in the other tests, whichever comes first
    with unoptimized():
        population = trained(case, MEMBERS, width=3)
    assert_each(close, population, case)
