"""What is recorded of a run is what it was, changes nothing, and is the same after a stop."""

import json
import os
import signal
import sys
from contextlib import contextmanager
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import confusion_matrix

import jaxnn
from jaxnn.names import named_leaves
from jaxnn.observing.observation import observe
from jaxnn.observing.plan import SAMPLE, bind, plan, probe, probe_data, schedule
from jaxnn.scale.devices import peak_flops
from jaxnn.storage import recording
from tests.gan import gan_data, gan_learner
from tests.options import grouped
from tests.trees import assert_same_bits

OUTPUT = sys.modules["jaxnn.runs.output"]
STEPS = 60


def digits(count=160):
    data = jaxnn.datasets.digits()
    return {name: values[:count] for name, values in data.items()}


@cache  # one learner compiles once, however many tests run it
def learner(hidden=(20,)):
    network = jaxnn.serial(
        ("pixels", jaxnn.standardize(4.88, 6.02)),
        ("layers", jaxnn.mlp(hidden, 10, dropout=0.1)),
    )
    return jaxnn.learner(network, jaxnn.classification(), lambda h: optax.adam(h["rate"]))


def fit(out, *, report=True, learner=learner(), **settings):
    data = digits()
    settings = {
        "steps": STEPS,
        "every": 20,
        "key": jax.random.key(0),
        "hparams": {"rate": 1e-2},
        "evaluate": jaxnn.resident(digits(100), batch_size=50),
        "quiet": True,
    } | settings
    settings = grouped(out, report=report, **settings)
    return jaxnn.fit(learner, jaxnn.resident(data, batch_size=32), **settings)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OUTPUT, "write_report", lambda path: None)
        run = fit(tmp_path_factory.mktemp("recorded") / "run")
    return run, recording.read(run.out)


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    """The page has tests of its own."""
    monkeypatch.setattr(OUTPUT, "write_report", lambda path: None)


def states(steps):
    """The states at these steps, of the same run in a plain loop."""
    settings = {"steps": STEPS, "key": jax.random.key(0), "hparams": {"rate": 1e-2}, "every": 1}
    training = jaxnn.train(learner(), jaxnn.resident(digits(), batch_size=32), **settings)
    found = {0: training.start().state}
    for progress in training:
        if progress.step in steps:
            found[progress.step] = jax.tree.map(jnp.copy, progress.state)
    return found


def test_a_run_that_is_recorded_has_the_bits_and_rows_of_one_that_is_not(recorded, tmp_path):
    run, _ = recorded
    plain = fit(tmp_path / "plain", report=False)
    assert_same_bits(plain.state, run.state)
    times = {"seconds"}
    for ours, theirs in zip(plain.history, run.history, strict=True):
        assert {k: v for k, v in ours.items() if k not in times} == {
            k: v for k, v in theirs.items() if k not in times
        }
    assert not (plain.out / "recording").exists()


def test_moments_are_dense_where_a_network_learns_fastest(recorded):
    _, found = recorded
    steps = [frame.step for frame in found.frames]
    assert steps == found.about["moments"] and steps[0] == 0 and steps[-1] == STEPS
    assert np.all(np.diff(np.diff(steps)) >= -1) and len(steps) > 12


def test_a_frame_holds_what_the_network_was(recorded):
    _, found = recorded
    chosen = [found.frames[i] for i in (0, 5, -1)]
    after = states([frame.step for frame in chosen])
    index = found.probe["index"]
    inputs, labels = digits(100)["inputs"], digits(100)["labels"]
    np.testing.assert_array_equal(found.probe["inputs"], inputs[index])
    np.testing.assert_array_equal(found.probe["labels"], labels[index])
    for frame in chosen:
        state, arrays = after[frame.step], frame.arrays
        outputs = np.asarray(jax.jit(learner().predict)(state, jnp.asarray(inputs)))
        np.testing.assert_allclose(arrays["outputs"], outputs[index], rtol=1e-5, atol=1e-5)
        right = (outputs.argmax(-1) == labels).mean()
        assert arrays["metrics/accuracy"] == pytest.approx(right)
        for name, leaf in named_leaves(state.params).items():
            if leaf.size <= SAMPLE:
                np.testing.assert_array_equal(arrays[f"params/{name}"], np.ravel(leaf))
            else:
                assert len(arrays[f"params/{name}"]) == SAMPLE
                assert set(arrays[f"params/{name}"]) <= set(np.ravel(leaf).tolist())
        images = np.moveaxis(np.asarray(state.params["layers"]["hidden_1"]["weight"]), -1, 0)
        np.testing.assert_array_equal(arrays["filters"][..., 0], images[:16].reshape(16, 8, 8))


def test_gradients_are_those_of_a_batch_from_all_over_the_training_data(recorded):
    _, found = recorded
    frame = found.frames[3]
    state = states([frame.step])[frame.step]
    index = np.linspace(0, len(digits()["labels"]), 32, endpoint=False).astype(int)
    batch = {name: jnp.asarray(field)[index] for name, field in digits().items()}
    values = jax.jit(learner().gradients)(state, {**batch, "index": index}).values
    for name, leaf in named_leaves(values).items():
        rms = np.sqrt(np.mean(np.square(leaf)))
        assert frame.arrays[f"gradients/{name}"] == pytest.approx(rms, rel=1e-4)


def test_nodes_that_are_off_for_every_example_are_counted():
    def init(key, inputs):
        return {"weight": jnp.ones((1, 4)), "bias": jnp.array([0.0, -99.0, -99.0, 1.0])}

    layer = jaxnn.stateless(lambda p, x: x @ p["weight"] + p["bias"][None], init)
    network = jaxnn.serial(("layer", layer), ("on", jaxnn.activation(jax.nn.relu)))
    data = jaxnn.resident({"inputs": np.ones((8, 1)), "labels": np.ones((8, 4))}, batch_size=8)
    training = jaxnn.train(
        jaxnn.learner(network, jaxnn.regression(), optax.sgd(0.0)), data, steps=1,
        key=jax.random.key(0),
    )  # fmt: skip
    what, _ = plan(training, bind(training), schedule(training))
    state = training.start().state
    batch = probe(probe_data(training), schedule(training).probed)
    seen = observe(training.learner, what, state, batch, training.data)
    assert seen["quiet/on"] == 0.5 and set(np.asarray(seen["activations/on"])) == {0.0, 1.0, 2.0}


def test_the_end_is_what_scikit_learn_counts(recorded):
    run, found = recorded
    data = digits(100)
    outputs = run.predict(data["inputs"])
    expected = confusion_matrix(data["labels"], outputs.argmax(-1), labels=range(10))
    np.testing.assert_array_equal(found.end["confusion"], expected)
    losses = np.asarray(
        optax.losses.softmax_cross_entropy_with_integer_labels(outputs, data["labels"])
    )
    np.testing.assert_allclose(found.end["worst/loss"], np.sort(losses)[::-1][:8], rtol=1e-4)
    np.testing.assert_allclose(found.end["best/loss"], np.sort(losses)[:8], rtol=1e-4, atol=1e-6)
    assert "labels" not in found.end
    for name in ("worst", "best", "uncertain"):
        index = found.end[f"{name}/index"]
        np.testing.assert_array_equal(found.end[f"{name}/inputs"], data["inputs"][index])
    two = -np.sort(-jax.nn.softmax(outputs))[:, :2]
    margin = two[:, 0] - two[:, 1]
    assert margin[found.end["uncertain/index"]].max() <= np.sort(margin)[8] + 1e-6


def test_what_was_stopped_and_goes_on_has_the_same_recording(recorded, tmp_path, monkeypatch):
    run, whole = recorded

    @contextmanager
    def interrupted(steps, quiet, **options):
        def show(step, row):
            if step >= 30 and not (tmp_path / "cut" / "stop").exists():
                (tmp_path / "cut" / "stop").touch()
                signal.raise_signal(signal.SIGINT)

        yield show

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sys.modules["jaxnn.runs._fit"], "shown", interrupted)
        fit(tmp_path / "cut")
    steps = recording.steps(tmp_path / "cut" / "recording")
    # A frame from after the checkpoint, as a kill may leave one.
    recording.write(tmp_path / "cut" / "recording", recording.frame_name(57), {"no": np.ones(1)})
    assert 0 < len(steps) < len(whole.frames)
    fit(tmp_path / "cut")
    again = recording.read(tmp_path / "cut")
    assert [f.step for f in again.frames] == [f.step for f in whole.frames]
    for ours, theirs in zip(again.frames, whole.frames):
        assert ours.arrays.keys() == theirs.arrays.keys()
        for name in ours.arrays:
            np.testing.assert_array_equal(ours.arrays[name], theirs.arrays[name], name)
    assert again.about == whole.about


def test_what_is_damaged_is_passed_over(recorded, tmp_path):
    run, whole = recorded
    copy = tmp_path / "run" / "recording"
    copy.mkdir(parents=True)
    for path in (run.out / "recording").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    first, second, *_ = sorted(copy.glob("step-*"))
    first.write_bytes(b"no zip")
    second.write_bytes(second.read_bytes()[:-200])
    os.mkfifo(copy / "step-000000059.npz")
    (copy / "end.npz").write_bytes(b"")
    found = recording.read(tmp_path / "run")
    assert [f.step for f in found.frames] == [f.step for f in whole.frames[2:]] and not found.end
    (copy / "about.json").write_text("[1]")
    assert recording.read(tmp_path / "run") is None
    assert recording.read(tmp_path / "nothing") is None


def test_arrays_of_objects_are_not_read(tmp_path):
    file = tmp_path / "recording" / recording.frame_name(1)
    file.parent.mkdir()
    np.savez(file, **{"metrics/loss": np.array([{"a": 1}], object)}, allow_pickle=True)
    assert recording.frames(file.parent) == []


def test_recording_compiles_one_program_and_the_one_that_judges(recorded, tmp_path, compilations):
    made_anew = learner(hidden=(7,))
    compilations.clear()
    fit(tmp_path / "plain", report=False, learner=made_anew)
    plain = len(compilations)
    compilations.clear()
    fit(tmp_path / "again", report=False, learner=made_anew)
    assert not compilations
    fit(tmp_path / "seen", learner=made_anew)
    seen = len(compilations)
    assert plain and seen <= 2 + 4  # and the few operations that take the probe
    compilations.clear()
    fit(tmp_path / "more", learner=made_anew)
    assert not compilations


# --- What is looked at ---------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "short"), [(50, True), (3000, False)])
def test_only_a_short_training_is_observed_by_a_program_that_runs_slowly(steps, short):
    training = jaxnn.train(
        learner((2000, 2000)), jaxnn.resident(digits(), batch_size=32), steps=steps,
        key=jax.random.key(0), hparams={"rate": 1e-2},
    )  # fmt: skip
    assert schedule(training).short is short


def test_looking_costs_a_small_share_however_short_or_large_the_training():
    for steps, hidden in ((3, (2000, 2000)), (50, (2000, 2000)), (3000, (2000,)), (900, (20,))):
        training = jaxnn.train(
            learner(hidden), jaxnn.resident(digits(), batch_size=32), steps=steps,
            key=jax.random.key(0), hparams={"rate": 1e-2},
        )  # fmt: skip
        chosen = schedule(training)
        forward = 2 * 32 * sum(a * b for a, b in zip((64, *hidden), (*hidden, 10)))
        step = 3 * forward - 2 * 32 * 64 * hidden[0]  # nobody asks for a gradient of the images
        cost = len(chosen.moments) * (forward * chosen.probed / 32 + step * chosen.gradients)
        # The least that is ever done is to look at the beginning and at the end.
        least = 2 * forward * min(chosen.probed, 16) / 32
        assert cost <= max(0.026 * step * steps, 2e9, least)
        assert chosen.moments[0] == 0 and chosen.moments[-1] == steps


def test_a_learner_written_by_hand_is_recorded_as_far_as_it_can_be(tmp_path):
    run = jaxnn.fit(
        gan_learner(), gan_data(32, 64), steps=4, key=jax.random.key(0), quiet=True,
        out=jaxnn.Directory(tmp_path / "gan", report=True),
    )  # fmt: skip
    found = recording.read(run.out)
    assert found.about["kind"] == "other" and found.about["table"] is None
    assert all(any(n.startswith("metrics/") for n in frame.arrays) for frame in found.frames)


def test_a_population_has_no_recording(tmp_path):
    run = fit(tmp_path / "many", key=jaxnn.keys(range(2)))
    assert recording.read(run.out) is None and run.speed["steps_per_second"] > 0


def test_two_inputs_are_mapped(tmp_path):
    points = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    data = jaxnn.resident({"inputs": points, "labels": points[:, :1]}, batch_size=32)
    line = jaxnn.learner(jaxnn.mlp([4], 1), jaxnn.regression(), optax.sgd(0.1))
    run = jaxnn.fit(
        line,
        data,
        steps=5,
        key=jax.random.key(0),
        quiet=True,
        out=jaxnn.Directory(tmp_path / "two", report=True),
    )
    found = recording.read(run.out)
    assert found.frames[-1].arrays["boundary"].shape == (64, 64, 1)
    (left, right), (low, high) = found.about["plot_bounds"]
    grid = np.stack(np.meshgrid(np.linspace(left, right, 64), np.linspace(low, high, 64)), -1)
    wanted = run.predict(grid.reshape(-1, 2).astype(np.float32)).reshape(64, 64, 1)
    np.testing.assert_allclose(found.frames[-1].arrays["boundary"], wanted, atol=1e-5)
    assert left < points[:, 0].min() and high > points[:, 1].max()
    assert found.end["truth"].shape == found.end["predicted"].shape == (64,)
    np.testing.assert_array_equal(found.end["truth"], points[:, 0])


# --- Speed ---------------------------------------------------------------------------------------


def test_speed_counts_the_operations_of_a_step(recorded):
    run, _ = recorded
    told = json.loads((run.out / "speed.json").read_text())
    # Forward, and backward to both weights and to the one hidden layer.
    products = 32 * (64 * 20 + 20 * 10) + 32 * (64 * 20 + 20 * 10) + 32 * 20 * 10
    assert told == run.speed and told["flops_per_step"] == 2 * products
    assert told["steps_per_second"] > 10 and told["memory_of"] == "process"
    assert told["flops_per_second"] == pytest.approx(
        told["steps_per_second"] * 2 * products, rel=0.01
    )
    assert told["peak_flops_per_second"] is None and told["share_of_peak"] is None


@pytest.mark.parametrize(
    "kind, peak",
    [
        ("TPU v2", 22.5e12), ("TPU v5", 459e12), ("TPU v5 lite", 197e12), ("TPU v6 lite", 918e12),
        ("Tesla T4", 65e12), ("NVIDIA L4", 121e12), ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 PCIe", 756e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA L40S", None),
        ("Tesla V100-SXM2-16GB", 125e12), ("cpu", None), ("NVIDIA A1000", None),
    ],
)  # fmt: skip
def test_the_peak_of_a_device_is_found_by_its_name(kind, peak):
    assert peak_flops(kind) == peak
