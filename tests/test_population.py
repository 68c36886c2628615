"""Populations: many runs as one program, where each stops on its own account."""

import json
import math
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax._src.array import ArrayImpl

import jaxnn
from jaxnn.data.resident import Resident
from jaxnn.run import fit as fitting
from jaxnn.run import training as driver
from jaxnn.run.advance import looped
from jaxnn.run.population import population
from jaxnn.run.run import run
from jaxnn.run.trial import EMPTY, RUNNING
from jaxnn.scale.layout import Layout
from jaxnn.scale.memory import needed, size
from tests.registry import LEARNERS
from tests.trees import assert_close, assert_same_bits, numbers

pytestmark = pytest.mark.usefixtures("optimized")

ROOT = Path(jaxnn.__file__).parents[1]
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
    return {**defaults, **given, **others}


def fit(*members, out=None, **others):
    return jaxnn.fit(classifier(), points(), out=out, quiet=True, **settings(*members, **others))


def train(*members, **others):
    return jaxnn.train(classifier(), points(), **settings(*members, **others))


@cache
def alone(member):
    return fit(member)


@cache
def together(devices=1):
    return fit(devices=jax.devices()[:devices])


def at(tree, member):
    return jax.tree.map(lambda x: x[member], tree)


# --- A transform of `run` ----------------------------------------------------------------------


def started(members=4):
    """Returns states, and the data with the order of each, of a population that has not begun."""
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


@pytest.mark.parametrize("width", [1, 2])
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


@pytest.mark.parametrize("width", [1, 2])
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
    with pytest.raises(jaxnn.InvalidValue, match="width=3 and 4 members"):
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
from tests.test_population import ALL, at, fit, jax
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


# --- Stopping, and the best ---------------------------------------------------------------------


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
@pytest.mark.parametrize("width", [1, 2])
def test_a_stopped_member_keeps_every_bit_while_the_others_are_dealt_anew(width):
    members = ALL[[2, 4, 3, 5, 0, 6, 1, 4]] if width == 2 else ALL  # one to stop in each block
    kept, moved, before = {}, False, None
    for progress in train(members, width=width, devices=jax.devices()[:2], steps=40):
        now = numbers((progress.trial, progress.metrics))
        running = np.asarray(progress.status) == RUNNING
        for place in np.flatnonzero(~running):
            assert_same_bits(at(now, place), kept.setdefault(place, at(now, place)))
        for place in np.flatnonzero(running):
            assert now[0].state.step[place] == progress.step
            weights = [each[0].state.params["output"]["weight"] for each in (now, before or now)]
            assert before is None or not np.array_equal(*at(weights, place))
        moved |= not np.array_equal(progress.placed.slot, ALL)
        before = now
    assert moved and len(kept) == 6 and running.sum() == 2


@pytest.mark.slow
def test_those_who_go_on_are_shared_out_evenly():
    busy = []
    for progress in train(devices=jax.devices()[:2], steps=40):
        busy.append([int((part.status == RUNNING).sum()) for part in progress.placed.parts])
    assert busy[0] == [4, 4] and [4, 1] in busy
    assert max(busy[-1]) <= math.ceil(sum(busy[-1]) / 2) < 4


@pytest.mark.slow
def test_a_run_ends_when_all_members_have_stopped(monkeypatch):
    """However chunks fall: the last row is that of the report at which the last one stopped."""
    for seconds, devices in ((0.0, 1), (1e9, 1), (1e9, 2)):
        monkeypatch.setattr(driver, "CHUNK_SECONDS", seconds)
        run = fit(ALL[4:7], steps=4000, devices=jax.devices()[:devices])
        assert run.result["steps"] == [12, 12, 12] and run.result["status"] == ["stopped"] * 3
        assert [row["step"] for row in run.history] == [4, 8, 12]
        assert run.result["test/loss"] == run.history[-1]["test/loss"]


@pytest.mark.slow
def test_nothing_is_dispatched_after_all_members_have_stopped(monkeypatch):
    steps = []
    advance = driver.advance

    def counted(learner, state, data, n, *arguments, **options):
        steps.append(n)
        return advance(learner, state, data, n, *arguments, **options)

    monkeypatch.setattr(driver, "advance", counted)
    fit(ALL[4:7], steps=4000)
    assert sum(steps) <= 12 + EVERY  # what was under way when the host heard of it


def test_rows_keep_the_last_values_of_a_stopped_member():
    run = together()
    names = [name for name in run.history[0] if "/" in name]
    assert {"train/loss", "test/loss", "test/accuracy"} <= set(names)
    for member in ALL:
        last = run.result["steps"][member]
        (kept,) = [row for row in run.history if row["step"] == last]
        for row in run.history:
            same = all(row[name][member] == kept[name][member] for name in names)
            assert same == (row["step"] >= last), (member, row["step"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "watch",
    [
        jaxnn.Watch("test/accuracy"),
        jaxnn.Watch("train/loss"),
        jaxnn.Watch("test/loss", better="higher"),
        jaxnn.Watch("test/loss", better="lower", margin=0.05),
        jaxnn.Watch("test/accuracy", better="higher", margin=0.1, patience=3),
    ],
    ids=str,
)
def test_the_best_and_the_end_are_those_that_history_tells(watch):
    run = fit(ALL[:3], watch=watch, steps=40, rates=RATES * 3)
    for member in range(3):
        sign = -1.0 if watch.better == "lower" or watch.metric == "train/loss" else 1.0
        best, step, waited, ended = -np.inf, 0, 0, STEPS
        for row in run.history:
            value = np.float32(sign * row[watch.metric][member])
            waited += 1
            if value > np.float32(best) + np.float32(watch.margin):
                best, step, waited = value, row["step"], 0
            if watch.patience and waited == watch.patience:
                ended = row["step"]
                break
        assert run.result["best/step"][member] == step
        assert run.result[f"best/{watch.metric}"][member] == sign * best
        assert run.result["steps"][member] == min(ended, 40)
        assert int(at(run.best, member).step) == step


def test_without_a_watch_the_best_is_the_last():
    run = fit(ALL[:3], watch=None, steps=8)
    assert_same_bits(run.best, run.state)
    assert not [name for name in run.result if name.startswith("best/")]


# --- Divergence --------------------------------------------------------------------------------


def explosive(member):
    return np.where(ALL == member, np.float32(1e30), RATES)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 2])
def test_a_diverged_member_freezes_and_touches_nobody(width):
    run = fit(ALL[:4], rates=explosive(1), width=width)
    calm = fit(ALL[:4], width=width)
    assert run.result["status"][1] == "diverged" and run.result["steps"][1] == EVERY
    assert not math.isfinite(run.result["train/loss"][1])
    for member in (0, 2, 3):
        assert_same_bits(at((run.state, run.best), member), at((calm.state, calm.best), member))
        assert run.result["status"][member] == calm.result["status"][member] != "diverged"


@pytest.mark.slow
def test_where_a_member_diverges_its_single_run_is_refused():
    with pytest.raises(jaxnn.NotFinite, match=f"at step {EVERY}"):
        fit(1, rates=explosive(1))


def test_a_single_run_that_nothing_stops_reports_what_it_does_after_an_infinite_loss():
    data = {"inputs": np.ones((4, 1)), "labels": np.float32([[1e25], [0], [0], [0]])}
    learner = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(1e-30))
    data = jaxnn.resident(data, batch_size=1)
    reports = jaxnn.train(learner, data, steps=8, every=1, key=KEYS[0])
    finite = [math.isfinite(progress.metrics["train/loss"]) for progress in reports]
    assert finite.count(False) == 2 and finite.index(False) < 4


def test_a_diverged_state_is_never_the_best():
    run = fit(ALL[:3], rates=explosive(1), watch="test/accuracy", steps=8)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(run.best.params))
    assert run.result["best/step"][1] == 0


@pytest.mark.parametrize("options", [{"evaluate": None}, {"evaluate_every": 12}], ids=str)
def test_divergence_is_seen_without_evaluations_and_between_them(options):
    found = fit(ALL[:3], rates=explosive(1), watch=None, steps=12, **options).result
    assert found["status"] == ["done", "diverged", "done"] and found["steps"] == [12, EVERY, 12]
    if "evaluate" not in options:
        assert math.isnan(found["test/loss"][1]) and math.isfinite(found["test/loss"][0])


def test_a_run_ends_when_all_members_have_diverged():
    run = fit(ALL[:3], rates=RATES * 1e32, watch=None, steps=4000)
    assert run.result["status"] == ["diverged"] * 3 and run.result["steps"] == [EVERY] * 3


# --- `fit` -------------------------------------------------------------------------------------


def strict(text):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.slow
def test_the_record_of_a_population_has_lists_over_members(tmp_path):
    run = fit(ALL[:3], rates=explosive(1), out=tmp_path / "run", steps=12)
    result = strict((tmp_path / "run" / "result.json").read_text())
    rows = [strict(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert run.members == run.result["members"] == result["members"] == 3
    assert len(rows) == len(run.history) == 3
    for table in (result, run.result, *rows, *run.history):
        lists = {name for name in table if "/" in name or name in ("status", "steps")}
        assert all(isinstance(table[name], list) and len(table[name]) == 3 for name in lists)
        others = table.keys() - lists
        assert not any(isinstance(table[name], list) for name in others)
    assert result["train/loss"][1] is None and not math.isfinite(run.result["train/loss"][1])
    assert result["train/loss"][0] == run.result["train/loss"][0]
    assert strict((tmp_path / "run" / "config.json").read_text()) == {
        "learning_rate": [float(rate) for rate in explosive(1)[:3]]
    }


@pytest.mark.parametrize("devices", [1, 2])
def test_predictions_have_an_axis_of_members_before_that_of_examples(devices):
    inputs = np.random.default_rng(3).normal(size=(21, 4)).astype(np.float32)
    outputs = together(devices).predict(inputs, batch_size=8)
    assert isinstance(outputs, np.ndarray) and outputs.shape == (8, 21, 3)
    for member in (0, 5):
        assert_same_bits(outputs[member], alone(member).predict(inputs, batch_size=8))


def test_one_key_or_one_number_is_that_of_all_members():
    options = {"steps": 8, "devices": jax.devices()[:1]}
    by_rate = fit(ALL[:3], key=KEYS[0], **options)
    by_seed = fit(ALL[:3], hparams={"learning_rate": 0.1}, **options)
    for member in range(3):
        rate = fit(0, key=KEYS[0], hparams={"learning_rate": RATES[member]}, steps=8)
        seed = fit(0, key=KEYS[member], hparams={"learning_rate": 0.1}, steps=8)
        assert_same_bits(at(by_rate.state, member), rate.state)
        assert_same_bits(at(by_seed.state, member), seed.state)


@pytest.mark.parametrize("kind", [list, tuple, np.float64, jnp.array, np.float16])
def test_hyper_parameters_may_be_any_sequence_of_numbers(kind):
    rates = kind([0.5, 0.25, 0.125])
    run = fit(ALL[:3], hparams={"learning_rate": rates}, steps=4)
    assert run.state.hparams["learning_rate"].dtype == jnp.float32
    assert_same_bits(run.state, fit(ALL[:3], rates=np.float32([0.5, 0.25, 0.125]), steps=4).state)


@pytest.mark.slow
def test_a_population_of_one_has_lists():
    run = fit(ALL[:1], steps=8)
    assert (
        run.members == 1 and run.result["steps"] == [8] and len(run.history[-1]["test/loss"]) == 1
    )
    assert_same_bits(at(run.state, 0), fit(0, steps=8).state)


def test_training_twice_gives_the_same_and_leaves_what_was_given():
    keys = jax.random.split(jax.random.key(1), 3)
    training = train(ALL[:3], key=keys, steps=8)
    first, second = ([numbers(p.state) for p in training] for _ in range(2))
    assert_same_bits(first, second)
    assert not any(x.is_deleted() for x in jax.tree.leaves((keys, points(), training.data)))


@pytest.mark.slow
def test_ctrl_c_ends_a_population_with_everything_written(tmp_path, monkeypatch):
    @contextmanager
    def interrupting(steps, quiet):
        yield lambda step, row: step == 8 and row and signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(fitting, "shown", interrupting)
    with pytest.raises(KeyboardInterrupt, match="of 4000"):
        fit(ALL[:3], out=tmp_path / "run", steps=4000, watch=None)
    rows = [strict(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows][:2] == [4, 8] and len(rows[-1]["test/loss"]) == 3
    assert not (tmp_path / "run" / "result.json").exists()


# --- What it costs -----------------------------------------------------------------------------


@pytest.mark.nightly
def test_another_population_of_the_same_size_compiles_nothing(compilations):
    def go(seed, width):
        keys = jax.random.split(jax.random.key(seed), 6)
        rates = np.linspace(0.1 * seed, 0.2, 6)
        options = {"devices": jax.devices()[:2], "width": width, "steps": 8 + seed}
        fit(key=keys, hparams={"learning_rate": rates}, **options)

    for width in (1, 3):
        go(1, width)
        compilations.clear()
        go(2, width)
        assert not compilations


@pytest.mark.nightly
def test_a_larger_population_compiles_no_more_programs(compilations):
    counts = []
    for members in (5, 9, 13):  # the first, so that what is compiled once is compiled
        keys = jax.random.split(jax.random.key(0), members)
        compilations.clear()
        fit(key=keys, hparams={"learning_rate": 0.1}, steps=8)
        counts.append(len(compilations))
    assert 0 < counts[1] == counts[2] < 10


def test_of_the_device_only_the_small_status_is_read(monkeypatch):
    reads = []
    value, array = ArrayImpl._value, ArrayImpl.__array__

    def counted(self, *args, **kwargs):
        reads.append((str(self.dtype), self.shape))
        return array(self, *args, **kwargs)

    training = train(devices=jax.devices()[:2], steps=40)
    list(training)  # what is made once, such as constants, is made here
    monkeypatch.setattr(
        ArrayImpl,
        "_value",
        property(lambda x: (reads.append((str(x.dtype), x.shape)), value.fget(x))[1]),
    )
    monkeypatch.setattr(ArrayImpl, "__array__", counted)
    reports = [progress.metrics for progress in training]
    assert len(reports) == 10 and set(reads) <= {("int8", (4,))}
    assert len(reads) <= 2 * 2 * len(reports)  # two parts, each counted twice
    reads.clear()
    assert len(reports[0]["train/loss"].tolist()) == 8 and reads


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutions"])
def test_a_member_more_takes_the_memory_of_its_state(name):
    (case,) = [case for case in LEARNERS if case.name == name]
    data = jaxnn.resident(case.data, batch_size=12)

    def memory(members):
        keys = jax.random.split(jax.random.key(0), members)
        training = jaxnn.train(case.thing, data, steps=1, key=keys, hparams=case.facts["hparams"])
        trials = training.trials(np.arange(members, dtype=np.int32))
        used, data_of = (trials.state, trials.window), training.data.shuffled(trials.order)
        program = looped.lower(case.thing, 1, *used, data_of, trials.status, np.int32(1))
        return needed(program.compile()), size(used) / members

    (few, one), (many, _) = memory(6), memory(12)
    assert 0.9 * one < (many - few) / 6 < 1.1 * one


@pytest.fixture
def measured(monkeypatch):
    """What programs were found to need; the memory of devices is `limit[0]`."""
    needs, limit = [], [math.inf]
    monkeypatch.setattr(
        driver, "needed", lambda program: (needs.append(needed(program)), needs[-1])[1]
    )
    monkeypatch.setattr(driver, "available", lambda device: limit[0])
    return needs, limit


def side_by_side(width, asked):
    layout = Layout(6, tuple(jax.devices()[:1]), width)
    return replace(train(ALL[:6], steps=4, watch=None), layout=layout, width=asked)


@pytest.mark.nightly
def test_no_more_train_side_by_side_than_memory_holds(measured):
    needs, limit = measured
    (progress,) = side_by_side(6, None)
    assert progress.placed.layout.width == 6 and len(needs) == 1
    limit[0] = 0.6 * needs[0]
    (progress,) = side_by_side(6, None)
    assert 1 <= progress.placed.layout.width <= 3
    assert progress.placed.layout.width == 1 or needs[-1] <= limit[0]
    limit[0] = 1  # then one after another, for whose states there was room
    (progress,) = side_by_side(6, None)
    assert progress.placed.layout.width == 1


@pytest.mark.nightly
def test_a_width_that_memory_does_not_hold_is_refused_with_the_one_that_it_does(measured):
    needs, limit = measured
    list(side_by_side(6, 6))
    limit[0] = 0.6 * needs[0]
    (progress,) = side_by_side(6, None)
    fits = progress.placed.layout.width
    with pytest.raises(jaxnn.InvalidValue, match=f"Got width=6; expected width of at most {fits}"):
        list(side_by_side(6, 6))
    (progress,) = side_by_side(fits, fits)
    assert progress.placed.layout.width == fits
