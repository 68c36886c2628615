"""What would fit: changes that are tried, and the largest batch."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.planning import _propose, find_batch_size, propose
from jaxnn.planning._propose import remat_blocks
from jaxnn.planning.figures import Memory
from jaxnn.programs import operations

BATCH = {"inputs": jax.ShapeDtypeStruct((32, 9), np.int32)}
NETWORK = jaxnn.gpt(16, layers=2, heads=2, features=16, positions=8)
LEARNER = jaxnn.learner(NETWORK, jaxnn.next_token(), optax.sgd(0.1))


@cache
def planned():
    return jaxnn.plan(LEARNER, BATCH)


@pytest.fixture
def sizes(monkeypatch):
    """Makes plans without compiling, whose memory is 1,000 bytes and 10 for each example."""
    real, tried = planned(), []

    def plan(learner, data, hardware="cpu", *, rules=None, fast=False):
        size = _propose.as_data(data).batch_size
        tried.append(size)
        peak = (200 if rules else 1000) + (10 if learner is LEARNER else 4) * size
        chip = replace(real.chip, usable=float(plan.usable))
        return replace(real, chip=chip, batch_size=size, memory=Memory(0, 0, 0, peak))

    plan.usable = 1100
    monkeypatch.setattr(_propose, "plan", plan)
    plan.tried = tried
    return plan


def test_what_fits_needs_no_change(sizes):
    sizes.usable = 10_000
    assert propose(LEARNER, BATCH) == ()


def test_remat_and_a_smaller_batch_are_proposed(sizes):
    sizes.usable = 1130
    assert [each.change for each in propose(LEARNER, BATCH)] == [
        "remat of each block",
        "batch_size=13",
    ]


def test_sharding_is_proposed_for_several_devices(sizes):
    changes = [each.change for each in propose(LEARNER, BATCH, "v5e-8")]
    assert changes[0] == "rules=jaxnn.scale.fsdp" and changes[-1] == "batch_size=8"


@pytest.mark.parametrize("usable, most", [(1320, 32), (1100, 10), (9400, 840), (1012, 1)])
def test_the_largest_batch_nearly_fills_the_memory(sizes, usable, most):
    sizes.usable = usable
    assert 0.95 * most <= find_batch_size(LEARNER, BATCH, "cpu") <= most
    assert len(sizes.tried) <= _propose.TRIES


def test_the_largest_batch_is_at_most_what_was_asked_for(sizes):
    sizes.usable = 9000
    assert find_batch_size(LEARNER, BATCH, "cpu", at_most=50) == 50


def test_where_no_batch_fits_it_says_so(sizes):
    sizes.usable = 900
    with pytest.raises(jaxnn.InvalidValue, match="no batch fits.*rules=jaxnn.scale.fsdp"):
        find_batch_size(LEARNER, BATCH, "cpu")
    assert propose(LEARNER, BATCH) == ()


def test_blocks_that_are_computed_again_have_the_same_gradients():
    batch = {"inputs": jax.numpy.arange(36).reshape(4, 9) % 16}
    state = jax.jit(lambda: LEARNER.init(jax.random.key(0), {}, batch))()
    again = remat_blocks(LEARNER)
    program = jax.make_jaxpr(again.gradients)(state, batch)
    names = [equation.primitive.name for equation, _ in operations(program.jaxpr)]
    assert sum(name.startswith(("remat", "checkpoint")) for name in names) >= 2 * 2
    left, right = (jax.jit(each.gradients)(state, batch).values for each in (LEARNER, again))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), left, right)
