"""What `fit` records for a population, and what that costs."""

import json
import math
import signal
from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.array import ArrayImpl

import jaxnn
from jaxnn.driver import chunks as driver
from jaxnn.loop._advance import looped
from jaxnn.runs import _fit as fitting
from jaxnn.scale.layout import Layout
from jaxnn.scale.memory import needed, size
from tests.populations import ALL, explosive, fit, points, train
from tests.registry import LEARNERS
from tests.trees import assert_same_bits, numbers

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


@pytest.mark.parametrize("kind", [list, tuple, np.float64, jnp.array, np.float16])
def test_hyper_parameters_may_be_any_sequence_of_numbers(kind):
    rates = kind([0.5, 0.25, 0.125])
    run = fit(ALL[:3], hparams={"learning_rate": rates}, steps=4)
    assert run.state.hparams["learning_rate"].dtype == jnp.float32
    assert_same_bits(run.state, fit(ALL[:3], rates=np.float32([0.5, 0.25, 0.125]), steps=4).state)


def test_training_twice_gives_the_same_and_leaves_what_was_given():
    keys = jax.random.split(jax.random.key(1), 3)
    training = train(ALL[:3], key=keys, steps=8)
    first, second = ([numbers(p.state) for p in training] for _ in range(2))
    assert_same_bits(first, second)
    assert not any(x.is_deleted() for x in jax.tree.leaves((keys, points(), training.data)))


@pytest.mark.slow
def test_ctrl_c_ends_a_population_with_everything_written(tmp_path, monkeypatch):
    @contextmanager
    def interrupting(steps, **options):
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
    list(training)  # what is created once, such as constants, is created here
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
        return needed(program.compile(), "cpu"), size(used) / members

    (few, one), (many, _) = memory(6), memory(12)
    assert 0.9 * one < (many - few) / 6 < 1.1 * one


@pytest.fixture
def measured(monkeypatch):
    """What programs need; the memory of devices is `limit[0]`."""
    needs, limit = [], [math.inf]
    monkeypatch.setattr(
        driver, "needed", lambda *given: (needs.append(needed(*given)), needs[-1])[1]
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
