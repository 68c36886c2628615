"""Profiles: the time of each part of a network, from a trace of some steps."""

import gzip
import json

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.planning.parts import flops_by_scope, part_of
from jaxnn.planning.profiling import BETWEEN, IDLE, profile_of
from jaxnn.planning.trace import Event, Times, events, times


def data():
    draws = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    return jaxnn.resident({"inputs": draws, "labels": draws[:, :3].argmax(-1)}, batch_size=16)


LEARNER = jaxnn.learner(jaxnn.mlp([16], 3), jaxnn.classification(), optax.adam(1e-2))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = jaxnn.Directory(tmp_path_factory.mktemp("runs") / "profiled", report=True)
    options = {"steps": 40, "every": 10, "key": jax.random.key(0), "quiet": True}
    return jaxnn.fit(LEARNER, data(), out=out, profile="15:32", **options)


def test_the_times_of_the_parts_add_up_to_the_step(run):
    profile = json.loads((run.out / "profile.json").read_text())
    *parts, total = profile["parts"]
    assert (profile["first"], profile["last"]) == (15, 32)
    assert sum(each["seconds"] for each in parts) == pytest.approx(profile["step_seconds"], rel=0.1)
    assert total["seconds"] == pytest.approx(profile["step_seconds"], rel=0.1)
    names = {each["part"] for each in parts}
    assert {"hidden_1", "output", "optimizer", BETWEEN, IDLE} <= names
    flops = {each["part"]: each["flops"] for each in parts}
    assert flops["hidden_1"] == 2 * 2 * 16 * 8 * 16 and flops["output"] == 3 * 2 * 16 * 16 * 3
    assert total["flops"] == flops["hidden_1"] + flops["output"]
    assert total["bytes"] == sum(each["bytes"] for each in parts) > 0


def test_a_profile_is_a_trace_and_a_table_of_the_page(run):
    assert list((run.out / "profile").rglob("*.xplane.pb"))
    page = (run.out / "report.html").read_text()
    assert "Time of each part in a step" in page and "Steps 16 to 32" in page


def test_a_profile_changes_nothing_of_the_run(run):
    options = {"steps": 40, "every": 10, "key": jax.random.key(0), "quiet": True}
    alone = jaxnn.fit(LEARNER, data(), **options)
    jax.tree.map(np.testing.assert_array_equal, alone.state.params, run.state.params)
    assert [row["train/loss"] for row in alone.history] == [
        row["train/loss"] for row in run.history
    ]


@pytest.mark.parametrize("text", ["50:60", "5", "20:10", "10:10", "a:b", "-1:5", "30:41"])
def test_a_range_outside_of_the_run_is_an_error(text, tmp_path):
    with pytest.raises(jaxnn.InvalidValue, match="not steps of the run.*Pass profile='20:40'"):
        jaxnn.fit(
            LEARNER, data(), steps=40, key=jax.random.key(0), out=tmp_path / "run", profile=text,
            quiet=True,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_profile_needs_a_directory_and_a_single_run(tmp_path):
    options = {"steps": 40, "profile": "1:2", "quiet": True}
    with pytest.raises(jaxnn.InvalidValue, match="Pass out="):
        jaxnn.fit(LEARNER, data(), key=jax.random.key(0), **options)
    with pytest.raises(jaxnn.InvalidValue, match="2 members.*Pass key="):
        jaxnn.fit(LEARNER, data(), key=jaxnn.keys(range(2)), out=tmp_path / "run", **options)


def test_operations_that_overlap_share_a_moment():
    done = [Event("a", 0, 0, 4e6, "1"), Event("b", 1, 2e6, 6e6, "1"), Event("c", 0, 8e6, 9e6, "2")]
    summed = times(done)
    assert summed.operations == {"a": 3.0, "b": 3.0, "c": 1.0}
    assert (summed.total, summed.idle) == (7.0, 0.0)  # between two calls it does not count


def test_a_trace_without_the_program_is_empty(tmp_path):
    with gzip.open(tmp_path / "vm.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": [{"ph": "X", "name": "dot", "ts": 1, "dur": 2}]}, file)
    assert events(tmp_path, "jit_looped") == []
    assert times([]) == Times({}, 0.0)


def test_deep_networks_are_shown_at_a_depth_that_one_can_read():
    names = {f"op{i}": f"jit(looped)/while/body/jvp(body)/block_{i}/norm/mul" for i in range(40)}
    done = Times(dict.fromkeys(names, 1.0), 40.0)
    profile = profile_of(done, [], {}, names, (0, 10), 1e9)
    assert [each.part for each in profile.parts] == ["body", IDLE, "total"]
    assert profile.step_seconds == 4.0 and "100 %" in str(profile)


def test_the_flops_of_a_loop_are_those_of_its_turns():
    network = jaxnn.gpt(16, layers=3, heads=2, features=8, positions=4, stacked=True)
    learner = jaxnn.learner(network, jaxnn.next_token(), optax.sgd(0.1))
    batch = {"inputs": jax.numpy.zeros((2, 5), "int32")}
    state = jax.eval_shape(learner.init, jax.random.key(0), {}, batch)
    program = jax.make_jaxpr(learner.gradients)(state, batch)
    sums = {}
    for name, number in flops_by_scope(program.jaxpr):
        part = part_of(name)
        sums[part] = sums.get(part, 0) + number
    hidden = 2 * 3 * (2 * 4) * 8 * 32
    assert sums["body/blocks/mlp/branch/hidden"] == hidden
    assert sums["gradient of body/blocks/mlp/branch/hidden"] == 2 * hidden
