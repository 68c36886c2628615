"""Populations: many runs as one program, each of which has the bits of its single run."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn.data._resident import Resident
from jaxnn.loop._population import population
from jaxnn.loop._run import run
from jaxnn.loop.statuses import EMPTY, RUNNING
from tests.populations import ALL, KEYS, RATES, at, classifier, fit, points, train
from tests.trees import assert_close, assert_same_bits, numbers

pytestmark = pytest.mark.usefixtures("optimized")


ROOT = Path(jaxnn.__file__).parents[1]


@cache
def alone(member):
    return fit(member)


@cache
def together(devices=1):
    return fit(devices=jax.devices()[:devices])


# --- A transform of `run` ----------------------------------------------------------------------


def started(members=4):
    """Returns states, and the data with the order of each, before training."""
    trials = train(ALL[:members]).trials(np.arange(members, dtype=np.int32))
    return trials.state, points().shuffled(trials.order)


@cache
def compiled(width):
    return jax.jit(population(run, width), static_argnums=0)


@cache
def in_a_loop(n):
    """Returns states and windows of the members one by one, in Python."""
    states, data = started()
    one = jax.jit(run, static_argnums=0)
    runs = [one(classifier(), at(states, i), data.shuffled(data.key[i]), n) for i in range(4)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *map(numbers, runs))


@pytest.mark.parametrize("width", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_population_is_a_loop_over_runs(width):
    states, data = started()
    after = compiled(width)(classifier(), states, data, 7)
    (assert_same_bits if width == 1 else assert_close)(numbers(after), in_a_loop(7))
    assert not any(x.is_deleted() for x in jax.tree.leaves((states, data)))  # it is pure


def test_windows_of_a_population_go_on_where_they_were():
    states, data = started()
    middle = compiled(1)(classifier(), states, data, 3)
    after = compiled(1)(classifier(), middle[0], data, 4, middle[1])
    assert_same_bits(numbers(after), in_a_loop(7))


@pytest.mark.parametrize("width", [1, 4])
def test_a_population_lowers_for_every_platform(width):
    def program(seeds, arrays, n):
        keys = jax.vmap(jax.random.key)(seeds)
        rate, data = {"learning_rate": jnp.float32(0.1)}, Resident(arrays, keys, 12)
        first = data.shuffled(keys[0]).batch(jnp.int32(0))
        states = jax.vmap(lambda key: classifier().init(key, rate, first))(keys)
        return population(run, width)(classifier(), states, data, n)[1]["loss"].sums

    arguments = jax.ShapeDtypeStruct((4,), jnp.uint32), points().arrays, jnp.int32(3)
    exported = jax.export.export(jax.jit(program), platforms=["cpu", "cuda", "tpu"])(*arguments)
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize("width", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_inactive_members_keep_every_bit(width):
    states, data = started()
    states, windows = compiled(width)(classifier(), states, data, 3)
    active = jnp.array([False, True, False, False])
    after = compiled(width)(classifier(), states, data, 4, windows, active)
    for member in (0, 2, 3):
        assert_same_bits(at(after, member), at((states, windows), member))
    compare = assert_same_bits if width == 1 else assert_close
    compare(numbers(at(after, 1)), at(in_a_loop(7), 1))


def test_a_width_that_does_not_divide_the_members_is_refused():
    states, data = started()
    with pytest.raises(jaxnn.InvalidValue, match="members=4 and width=3"):
        population(run, 3)(classifier(), states, data, 1)


# --- Devices -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_members_are_the_same_on_one_device_and_on_two():
    one, two = together(1), together(2)
    assert_same_bits((one.state, one.best), (two.state, two.best))
    timing = {"seconds"}
    assert {k: v for k, v in one.result.items() if k not in timing} == {
        k: v for k, v in two.result.items() if k not in timing
    }


@pytest.mark.nightly
@pytest.mark.parametrize("members", [ALL[[6, 0, 1]]], ids=str)
def test_devices_that_are_not_full_change_nothing(members):
    """Three members on two devices: an empty slot is never seen."""
    some = fit(members, devices=jax.devices()[:2], steps=20)
    assert len(some.result["status"]) == len(some.result["steps"]) == len(members)
    for place, member in enumerate(members):
        own = fit(member, steps=20)
        assert_same_bits(at((some.state, some.best), place), (own.state, own.best))
        assert some.result["status"][place] == own.result["status"]


@pytest.mark.slow
def test_an_empty_slot_does_nothing():
    *_, progress = train(ALL[:3], devices=jax.devices()[:2], steps=8)
    last = progress.placed.parts[1]
    assert last.status.tolist() == [RUNNING, EMPTY] and last.state.step.tolist() == [8, 0]
    assert progress.trial.member.tolist() == [0, 1, 2]


SCRIPT = """
import jax

jax.config.update("jax_num_cpu_devices", 8)
from tests.populations import ALL, at, fit
from tests.trees import assert_same_bits

eight = fit(ALL[[0, 1, 2, 3, 4, 5, 6, 7, 3, 2, 1]], devices=jax.devices())
for place, member in enumerate([0, 1, 2, 3, 4, 5, 6, 7, 3, 2, 1]):
    own = fit(member)
    assert_same_bits(at((eight.state, eight.best), place), (own.state, own.best))
    assert eight.result["steps"][place] == own.result["steps"]
print("the same")
"""


@pytest.mark.nightly
def test_members_are_the_same_on_eight_devices():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.strip() == "the same", done.stderr


# --- A member is its single run ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_each_member_stops_and_keeps_its_best_as_its_single_run_does(devices):
    run = together(devices)
    for member in ALL:
        own = alone(member)
        assert_same_bits(at(run.state, member), own.state)
        assert_same_bits(at(run.best, member), own.best)
        for name in ("status", "steps", "best/step", "best/test/loss", "test/loss", "train/loss"):
            assert run.result[name][member] == own.result[name], name
    assert len(set(run.result["steps"])) > 2  # so that it matters who stops when
    assert run.result["status"].count("stopped") >= 3 and "done" in run.result["status"]


@pytest.mark.slow
def test_rows_keep_the_last_values_of_a_stopped_member():
    run = together()
    names = [name for name in run.history[0] if "/" in name]
    assert {"train/loss", "test/loss", "test/accuracy"} <= set(names)
    for member in ALL:
        last = run.result["steps"][member]
        (last_row,) = [row for row in run.history if row["step"] == last]
        for row in run.history:
            same = all(row[name][member] == last_row[name][member] for name in names)
            assert same == (row["step"] >= last), (member, row["step"])


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_predictions_have_an_axis_of_members_before_that_of_examples(devices):
    inputs = np.random.default_rng(3).normal(size=(21, 4)).astype(np.float32)
    outputs = together(devices).predict(inputs, batch_size=8)
    assert isinstance(outputs, np.ndarray) and outputs.shape == (8, 21, 3)
    for member in (0, 5):
        assert_same_bits(outputs[member], alone(member).predict(inputs, batch_size=8))


@pytest.mark.slow
def test_one_key_or_one_number_is_that_of_all_members():
    options = {"steps": 8, "devices": jax.devices()[:1]}
    by_rate = fit(ALL[:3], key=KEYS[0], **options)
    by_seed = fit(ALL[:3], hparams={"learning_rate": 0.1}, **options)
    for member in range(3):
        rate = fit(0, key=KEYS[0], hparams={"learning_rate": RATES[member]}, steps=8)
        seed = fit(0, key=KEYS[member], hparams={"learning_rate": 0.1}, steps=8)
        assert_same_bits(at(by_rate.state, member), rate.state)
        assert_same_bits(at(by_seed.state, member), seed.state)


@pytest.mark.slow
def test_a_population_of_one_has_lists():
    run = fit(ALL[:1], steps=8)
    assert (
        run.members == 1 and run.result["steps"] == [8] and len(run.history[-1]["test/loss"]) == 1
    )
    assert_same_bits(at(run.state, 0), fit(0, steps=8).state)
