"""Whatever is trained, recording it tells the truth or steps aside; it never ends a run."""

import json
import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.observing import recorder as recorders
from jaxnn.storage import recording
from tests.options import grouped

pytestmark = pytest.mark.slow
POINTS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
CLASSES = POINTS[:, :3].argmax(-1).astype(np.int32)


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    monkeypatch.setattr(sys.modules["jaxnn.runs.output"], "write_report", lambda path: None)


@cache  # one learner compiles once, however many tests run it
def made(network=None, objective=None, **changes):
    made = jaxnn.learner(
        network or jaxnn.mlp([6], 3), objective or jaxnn.classification(), optax.adam(0.05)
    )
    return made._replace(**changes)


def fit(out, learner, arrays=None, *, steps=6, report=True, **settings):
    data = {"inputs": POINTS, "labels": CLASSES} if arrays is None else arrays
    settings = {"key": jax.random.key(0), "quiet": True, "every": steps} | settings
    settings.setdefault("evaluate", jaxnn.resident(data, batch_size=16))
    data = jaxnn.resident(data, batch_size=10)
    return jaxnn.fit(learner, data, steps=steps, **grouped(out, report=report, **settings))


def recorded(*arguments, **settings):
    run = fit(*arguments, **settings)
    return run, recording.read(run.out)


@pytest.mark.parametrize("place", ["schedule", "plan", "observe_at_once", "final_predictions"])
def test_an_error_of_recording_is_a_caution_and_the_run_ends_well(place, tmp_path, monkeypatch):
    def broken(*arguments):
        raise OSError("no space")

    broken.lower = broken
    monkeypatch.setattr(recorders, place, broken)
    with pytest.warns(jaxnn.Caution, match="continues, but is no longer recorded .*no space"):
        run = fit(tmp_path / "run", made())
    assert (run.out / "result.json").exists() and run.result["steps"] == 6


def test_what_is_drawn_is_what_the_learner_predicts(tmp_path):
    learner = made()
    negated = learner._replace(predict=lambda state, inputs: -learner.predict(state, inputs))
    for name, each, captured in (("own", learner, True), ("negated", negated, False)):
        run, found = recorded(tmp_path / name, each)
        arrays = found.frames[-1].arrays
        expected = run.predict(found.probe["inputs"])
        np.testing.assert_allclose(arrays["outputs"], expected, atol=1e-5)
        assert any(leaf.startswith("activations/") for leaf in arrays) == captured


def test_another_writer_is_an_error_of_the_run(tmp_path, monkeypatch):
    def taken(folder, name, arrays):
        raise jaxnn.DirectoryInUse("run directory", "taken", got="a", expected="b", fix="c")

    monkeypatch.setattr(recording, "write", taken)
    with pytest.raises(jaxnn.DirectoryInUse):
        fit(tmp_path / "run", made())


def test_inputs_of_several_arrays(tmp_path):
    inner = jaxnn.mlp([6], 3)
    both = jaxnn.Network(
        lambda key, inputs: inner.init(key, inputs["a"]),
        lambda params, state, inputs, *, key=None: inner.apply(params, state, inputs["a"]),
    )
    arrays = {"inputs": {"a": POINTS, "b": POINTS}, "labels": CLASSES, "more": {"c": POINTS}}
    run, found = recorded(tmp_path / "run", made(both), arrays)
    assert found.end["confusion"].sum() == 40 and "inputs" not in found.probe
    assert found.frames[-1].arrays["outputs"].shape == (16, 3)


def test_several_outputs_over_two_inputs(tmp_path):
    heads = jaxnn.parallel(jaxnn.linear(1), jaxnn.linear(2))

    def loss(outputs, batch):
        return jnp.square(outputs[0][:, 0]) + jnp.square(outputs[1]).sum(-1)

    _, found = recorded(tmp_path / "run", made(heads, loss), {"inputs": POINTS[:, :2]})
    assert "boundary" not in found.frames[0].arrays and "outputs" not in found.frames[0].arrays
    assert found.about["kind"] == "other" and found.end == {}


def test_an_objective_that_changes_inputs_is_minded_in_the_end_too(tmp_path):
    goal = jaxnn.classification()._replace(
        prepare=lambda key, batch: {**batch, "inputs": -batch["inputs"]}
    )
    run, found = recorded(tmp_path / "run", made(objective=goal), steps=40)
    confusion = found.end["confusion"]
    assert np.trace(confusion) / confusion.sum() == pytest.approx(run.result["test/accuracy"])
    assert run.result["test/accuracy"] > 0.6


def test_a_learner_by_hand_that_reads_weights(tmp_path):
    base = made()

    def evaluate(state, batch):
        kept = batch["weights"]
        return {"loss": jaxnn.metrics.mean(kept, kept)}

    _, found = recorded(tmp_path / "run", base._replace(evaluate=evaluate, parts=None))
    assert found.frames[0].arrays["metrics/loss"] == 1.0


def test_a_state_of_another_kind(tmp_path):
    base = made()
    wrapped = base._replace(
        init=lambda *arguments: Other(base.init(*arguments)),
        gradients=lambda state, batch: None,
        update=lambda state, batch, _: (lambda out: (Other(out[0]), out[1]))(
            base.step(state[0], batch)
        ),
        evaluate=lambda state, batch: base.evaluate(state[0], batch),
        predict=lambda state, inputs: base.predict(state[0], inputs),
        check=lambda hparams, arrays, state, batch: None,
    )
    _, found = recorded(tmp_path / "run", wrapped)
    assert found.about["table"] is None and "metrics/loss" in found.frames[0].arrays


class Other(tuple):
    """A state that holds another."""

    def __new__(cls, inner):
        return super().__new__(cls, (inner,))

    step = property(lambda self: self[0].step)


jax.tree_util.register_pytree_node(
    Other, lambda state: (tuple(state), None), lambda _, parts: Other(*parts)
)


def test_one_class_has_nothing_to_be_taken_for(tmp_path):
    arrays = {"inputs": POINTS, "labels": np.zeros(40, np.int32)}
    _, found = recorded(tmp_path / "run", made(jaxnn.linear(1)), arrays)
    assert found.about["kind"] == "other" and found.end == {}


def test_examples_of_weight_0_do_not_count(tmp_path):
    weights = (np.arange(40) % 2).astype(np.float32)
    labels = np.where(weights > 0, CLASSES, -1).astype(np.int32)
    arrays = {"inputs": POINTS, "labels": labels, "weights": weights}
    run, found = recorded(tmp_path / "run", made(), arrays, steps=30)
    confusion = found.end["confusion"]
    assert confusion.sum() == 20 and found.end["worst/labels"].min() >= 0
    assert np.trace(confusion) / 20 == pytest.approx(run.result["test/accuracy"])
    assert found.frames[-1].arrays["metrics/accuracy"] == pytest.approx(run.result["test/accuracy"])


def test_of_a_run_that_ends_early_the_last_frame_is_its_end(tmp_path):
    watch = jaxnn.Watch("test/loss", patience=2, margin=1e6)
    run, found = recorded(tmp_path / "run", made(), steps=200, every=10, watch=watch)
    steps = [frame.step for frame in found.frames]
    assert run.result["steps"] == steps[-1] == 30
    # The last state and the best one are observed besides.
    assert set(steps[:-1]) <= {*found.about["moments"], run.result["best/step"]}


def test_what_is_shown_of_an_average_is_the_average(tmp_path):
    run, found = recorded(tmp_path / "run", jaxnn.average(made(), decay=0.99))
    average = run.state.extra["average"]
    last = found.frames[-1].arrays
    np.testing.assert_allclose(last["params/output/bias"], average["output"]["bias"], rtol=1e-6)
    assert not np.allclose(last["params/output/bias"], run.state.params["output"]["bias"])


def test_another_run_in_the_same_place_begins_its_own_recording(tmp_path):
    learner = made()
    out = tmp_path / "run"
    run = fit(out, learner)
    for name in ("result.json", "metrics.jsonl"):
        (out / name).unlink()
    for path in sorted((out / "checkpoints").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    _, found = recorded(out, made(jaxnn.mlp([9], 3)))
    assert run.out == out and found.frames[0].arrays["params/hidden_1/bias"].shape == (9,)


def test_a_run_that_goes_on_with_more_steps_has_one_recording(tmp_path):
    learner = made()
    fit(tmp_path / "run", learner, steps=30)
    settings = {"steps": 60, "resume": True, "allow_change": ["steps"], "every": 30}
    _, found = recorded(tmp_path / "run", learner, **settings)
    steps = [frame.step for frame in found.frames]
    assert set(steps) <= set(found.about["moments"]) and steps[-1] == 60


def test_without_a_report_nothing_stays_of_what_is_past(tmp_path):
    learner = made()
    fit(tmp_path / "run", learner, steps=30)
    settings = {"steps": 60, "resume": True, "allow_change": ["steps"], "every": 30}
    _, found = recorded(tmp_path / "run", learner, report=False, **settings)
    assert found.frames[-1].step == 30 and found.end == {}


def test_a_finished_run_is_returned_as_it_is(tmp_path):
    learner = made()
    first = fit(tmp_path / "run", learner)
    files = {path: path.read_bytes() for path in first.out.rglob("*") if path.is_file()}
    again = fit(tmp_path / "run", learner, resume=True)
    assert again.speed == first.speed and again.result == first.result
    after = {path: path.read_bytes() for path in first.out.rglob("*") if path.is_file()}
    changed = {path.name for path in files if files[path] != after[path]}
    assert changed <= {".lock"} and after.keys() == files.keys()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recording").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(jaxnn.InvalidValue, match="recording that is a symbolic link"):
        fit(tmp_path / "run", made())
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_setting_may_be_infinite(tmp_path):
    from jaxnn.network import describe

    first = jaxnn.stateless(lambda params, inputs: inputs[:, :2])
    bounded = describe(first, "bounded", low=-np.inf, high=np.float32(2))
    network = jaxnn.serial(bounded, jaxnn.mlp([6], 3))
    _, found = recorded(tmp_path / "run", made(network))
    assert "low -inf, high 2.0" in json.dumps(found.about["diagram"])


def test_a_large_network_has_a_small_recording(tmp_path):
    images = np.zeros((12, 96, 96, 3), np.uint8)
    arrays = {"inputs": images, "labels": np.arange(12, dtype=np.int32) % 3}
    parts = [jaxnn.standardize(0.0, 255.0), jaxnn.flatten(), jaxnn.linear(4)]
    parts += [jaxnn.linear(3) for _ in range(20)]
    network = jaxnn.serial(*parts)
    run = fit(tmp_path / "run", made(network), arrays, steps=1)
    sizes = {p.name: p.stat().st_size for p in (run.out / "recording").iterdir()}
    assert max(size for name, size in sizes.items() if name.startswith("step")) < 400_000
    assert sum(sizes.values()) < 2_000_000 and json.dumps(recording.read(run.out).about)


def test_a_broken_byte_anywhere_is_passed_over(tmp_path):
    run = fit(tmp_path / "run", made(), steps=1)
    frame = sorted((run.out / "recording").glob("step-*"))[0]
    content, chance = frame.read_bytes(), np.random.default_rng(0)
    for place in chance.integers(0, len(content), 150):
        broken = bytearray(content)
        broken[place] ^= 1 << int(chance.integers(8))
        frame.write_bytes(bytes(broken))
        recording.read(run.out)  # raises nothing
