"""Members stop on their own account: what they keep, and who continues."""

import math

import jax
import jax.export
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.driver import chunks as driver
from jaxnn.loop.statuses import RUNNING
from tests.populations import ALL, EVERY, KEYS, RATES, STEPS, at, explosive, fit, train
from tests.trees import assert_same_bits, numbers

# --- Stopping, and the best ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 2])
def test_a_stopped_member_keeps_every_bit_while_the_others_are_dealt_anew(width):
    members = ALL[[2, 4, 3, 5, 0, 6, 1, 4]] if width == 2 else ALL  # one to stop in each block
    final, moved, before = {}, False, None
    for progress in train(members, width=width, devices=jax.devices()[:2], steps=40):
        now = numbers((progress.trial, progress.metrics))
        running = np.asarray(progress.status) == RUNNING
        for place in np.flatnonzero(~running):
            assert_same_bits(at(now, place), final.setdefault(place, at(now, place)))
        for place in np.flatnonzero(running):
            assert now[0].state.step[place] == progress.step
            weights = [each[0].state.params["output"]["weight"] for each in (now, before or now)]
            assert before is None or not np.array_equal(*at(weights, place))
        moved |= not np.array_equal(progress.placed.slot, ALL)
        before = now
    assert moved and len(final) == 6 and running.sum() == 2


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
    result = fit(ALL[:3], rates=explosive(1), watch=None, steps=12, **options).result
    assert result["status"] == ["done", "diverged", "done"] and result["steps"] == [12, EVERY, 12]
    if "evaluate" not in options:
        assert math.isnan(result["test/loss"][1]) and math.isfinite(result["test/loss"][0])


def test_a_run_ends_when_all_members_have_diverged():
    run = fit(ALL[:3], rates=RATES * 1e32, watch=None, steps=4000)
    assert run.result["status"] == ["diverged"] * 3 and run.result["steps"] == [EVERY] * 3
