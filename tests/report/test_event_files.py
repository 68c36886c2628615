"""Event files are read back by TensorBoard itself: scalars, histograms, pictures, settings."""

import io
import json

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.__main__ import main
from jaxnn.names import named_leaves
from jaxnn.pictures import diagram as diagrams
from jaxnn.report import event_files
from jaxnn.storage import recording

ROWS = [
    {"step": 2, "seconds": 1.0, "train/loss": 0.5, "test/accuracy": 0.25},
    {"step": 6, "seconds": 3.0, "train/loss": None, "test/accuracy": 1, "note": 3.0},
]


def run(place, rows=ROWS, config=None, result=None, speed=None):
    """Writes the directory of a run."""
    place.mkdir(parents=True)
    asked = {"learning_rate": 0.1, "hidden": [4, 4], "name": "a", "on": True}
    (place / "config.json").write_text(json.dumps(asked if config is None else config))
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {"steps": 6, "seconds": 3.0, **rows[-1]} if result is None else result
    (place / "result.json").write_text(json.dumps(told))
    if speed:
        (place / "speed.json").write_text(json.dumps(speed))
    return place


@pytest.fixture
def board():
    """Returns `board(folder)`, what TensorBoard reads in the folder of one run."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def board(folder):
        everything = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}
        return EventAccumulator(str(folder), size_guidance=everything).Reload()

    return board


def test_scalars_have_their_steps_and_their_times(tmp_path, board):
    place = run(tmp_path / "one", speed={"steps_per_second": 2.5, "memory_of": "device"})
    done = event_files.write(place)
    assert done == (place / "tensorboard", ["one"], 0)
    read = board(done.out / "one")
    scalars = read.Tags()["scalars"]
    assert sorted(scalars) == ["speed/steps_per_second", "test/accuracy", "train/loss"]
    first, last = read.Scalars("test/accuracy")
    assert (first.step, first.value, last.step, last.value) == (2, 0.25, 6, 1.0)
    written = (place / "metrics.jsonl").stat().st_mtime
    assert first.wall_time == pytest.approx(written - 2, abs=1e-3)
    assert last.wall_time == pytest.approx(written, abs=1e-3)
    assert np.isnan(read.Scalars("train/loss")[1].value)
    assert read.Scalars("speed/steps_per_second")[0].value == 2.5


def test_doing_it_again_doubles_nothing(tmp_path, board):
    place = run(tmp_path / "one")
    first, again = event_files.write(place), event_files.write(place)
    assert first == again
    assert len(list(again.out.rglob("*.*"))) == 1
    assert len(board(again.out / "one").Scalars("train/loss")) == 2


def recorded(place):
    """Writes what was recorded of a small network at three moments."""
    network, inputs = jaxnn.mlp([4], 3), np.zeros((1, 2), np.float32)
    drawn = diagrams.diagram(network, inputs)
    folder = place / recording.FOLDER
    folder.mkdir()
    about = {
        "format": 1,
        "diagram": diagrams.to_json(drawn),
        "classes": 3,
        "names": ["a", "b", "c"],
    }
    (folder / recording.ABOUT).write_text(json.dumps(about))
    for step in (0, 2, 6):
        params, _ = network.init(jax.random.key(step), inputs)
        arrays = {f"params/{name}": leaf for name, leaf in named_leaves(params).items()}
        arrays["activations/hidden_1"] = np.linspace(-step, step, 100, dtype=np.float32) ** 3
        arrays |= {f"wires/{name}": x for name, x in diagrams.wires(drawn, params).items()}
        arrays |= {f"biases/{name}": x for name, x in diagrams.biases(drawn, params).items()}
        recording.write(folder, recording.frame_name(step), arrays)
    counts = np.array([[5, 1, 0], [0, 6, 0], [2, 0, 4]])
    recording.write(folder, recording.END, {"labels": np.arange(3), "confusion": counts})


def test_histograms_and_pictures_are_of_the_recorded_moments(tmp_path, board):
    place = run(tmp_path / "r")
    recorded(place)
    judged(place, board)
    images = board(place / "tensorboard" / "r")
    assert [each.step for each in images.Images("network")] == [0, 2, 6]
    assert sorted(images.Tags()["images"]) == ["confusion", "curves", "network"]


@pytest.mark.slow
def test_a_run_that_was_recorded_shows_all_of_it(tmp_path, board):
    draws = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    labels = (draws[:, 0] > 0).astype(np.int32) + (draws[:, 1] > 0)
    data = jaxnn.resident({"inputs": draws, "labels": labels}, batch_size=16)
    trained = jaxnn.fit(
        jaxnn.learner(jaxnn.mlp([4], 3), jaxnn.classification(), optax.adam(0.05)), data,
        steps=40, every=10, key=jax.random.key(0), quiet=True,
        evaluate=jaxnn.resident(data.arrays, batch_size=64),
        out=jaxnn.Directory(tmp_path / "r", config={"hidden": 4}, report=True),
    )  # fmt: skip
    read = judged(trained.out, board)
    losses = [(each.step, each.value) for each in read.Scalars("test/loss")]
    told = [(row["step"], row["test/loss"]) for row in trained.history if "test/loss" in row]
    assert losses == [(step, pytest.approx(value)) for step, value in told]
    assert len(read.Images("network")) == event_files.DRAWN


def judged(place, board):
    """Makes the events of a recorded run, and holds what TensorBoard reads against what it has."""
    Image = pytest.importorskip("PIL.Image")
    done = event_files.write(place)
    read, kept = board(done.out / "r"), recording.read(place)
    names = {n for n in kept.frames[0].arrays if n.startswith(("params/", "activations/"))}
    assert len(names) > 3 and set(read.Tags()["histograms"]) == names
    for name in names:
        seen = read.Histograms(name)
        assert [each.step for each in seen] == [frame.step for frame in kept.frames]
        for each, (_, arrays) in zip(seen, kept.frames):
            bars, values = each.histogram_value, np.float64(arrays[name]).ravel()
            assert (bars.min, bars.max, bars.num) == (values.min(), values.max(), values.size)
            assert (bars.sum, sum(bars.bucket)) == (pytest.approx(values.sum()), values.size)
            for place, limit in enumerate(bars.bucket_limit[:-1]):
                assert sum(bars.bucket[: place + 1]) == np.sum(values < limit)
    assert {"confusion", "curves", "network"} <= set(read.Tags()["images"])
    for name in read.Tags()["images"]:
        for each in read.Images(name):
            picture = Image.open(io.BytesIO(each.encoded_image_string))
            assert picture.size == (each.width, each.height) and each.width > 300
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 10  # not empty
    return read


def sessions(folder):
    """Returns the settings and the metrics of each run, as the plug-in of TensorBoard has them."""
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    many = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    provider = data_provider.MultiplexerDataProvider(many, str(folder))
    plugin = base_plugin.TBContext(data_provider=provider)
    backend = backend_context.Context(plugin)
    request, experiment = RequestContext(), str(folder)
    metadata = backend.hparams_metadata(request, experiment)
    told = backend.experiment_from_metadata(
        request,
        experiment,
        False,
        metadata,
        backend.hparams_from_data_provider(request, experiment, limit=100),
    )
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING, api_pb2.STATUS_SUCCESS],
    )
    for info in told.metric_infos:
        asked.col_params.add(metric=info.name)
    handler = list_session_groups.Handler(request, backend, experiment, asked)
    return {
        group.name: (
            {name: getattr(v, v.WhichOneof("kind")) for name, v in group.hparams.items()},
            {each.name.tag: each.value for each in group.metric_values},
        )
        for group in handler.run().session_groups
    }


def test_hyper_parameters_are_read_with_the_final_metrics(tmp_path, board):
    run(tmp_path / "runs" / "one")
    run(tmp_path / "runs" / "deep" / "two", config={"learning_rate": 0.2})
    done = event_files.write(tmp_path / "runs", tmp_path / "events")
    assert done.runs == ["deep/two", "one"] and done.out == tmp_path / "events"
    shown = sessions(done.out)
    settings, metrics = shown["one"]
    assert settings == {"learning_rate": 0.1, "hidden": "[4, 4]", "name": "a", "on": True}
    assert metrics["test/accuracy"] == 1.0
    assert shown["deep/two"][0] == {"learning_rate": 0.2}


def population(members):
    rows = [{"step": 3, "seconds": 1.0, "running": members, "train/loss": [0.5] * members}]
    last = [*(n / 10 for n in range(members - 1)), None]
    rows.append({"step": 6, "seconds": 2.0, "running": members, "train/loss": last})
    result = {"members": members, "steps": [6] * members, "status": ["done"] * members}
    config = {"learning_rate": [n / 100 for n in range(members)], "width": 8}
    return rows, config, {**result, "seconds": 2.0, "train/loss": last}


def test_each_member_of_a_population_is_a_run_up_to_a_limit(tmp_path, board, monkeypatch):
    place = run(tmp_path / "many", *population(4))
    done = event_files.write(place)
    assert done.runs == [f"many/{n:03d}" for n in range(4)] and done.left_out == 0
    second = [each.value for each in board(done.out / "many" / "002").Scalars("train/loss")]
    assert second == pytest.approx([0.5, 0.2])
    assert np.isnan(board(done.out / "many" / "003").Scalars("train/loss")[1].value)
    shown = sessions(done.out)
    assert shown["many/002"][0] == {"learning_rate": 0.02, "width": 8.0, "seed": 2.0}
    monkeypatch.setattr(event_files, "MEMBERS", 3)
    done = event_files.write(place, tmp_path / "few")
    assert (len(done.runs), done.left_out) == (3, 1)


def test_what_a_stranger_wrote_is_only_data(tmp_path, board):
    rows = [
        {"step": 1, "a/\ud800<b>": 1.0, "b/c": "x", "d/e": {"f": 1}, "seconds": "now"},
        {"step": 2**70, "b/c": 1.0},
    ]
    place = run(tmp_path / "one", rows, {"\udfff": {"x": [1]}, "none": None})
    (place / "recording").mkdir()
    diagram = {"layers": [{"name": 1}], "blocks": 3}
    (place / "recording" / "about.json").write_text(json.dumps({"format": 1, "diagram": diagram}))
    np.savez(place / "recording" / "end.npz", confusion=np.array(["a"]))
    np.savez(
        place / "recording" / "step-000000001.npz",
        **{"params/a": np.array([np.nan, 1.0, np.inf, 1.0]), "params/b": np.full(3, np.nan)},
    )
    read = board(event_files.write(place).out / "one")
    assert read.Tags()["scalars"] == ["a/__b_"]  # a tag of TensorBoard has letters, digits and -_./
    assert read.Tags()["histograms"] == ["params/a"]
    assert read.Histograms("params/a")[0].histogram_value.num == 2
    assert sessions(place / "tensorboard")["one"][0] == {"?": '{"x": [1]}', "none": "null"}


def test_the_command_says_what_to_do_next(tmp_path, board, capsys):
    place = run(tmp_path / "one")
    assert main(["tensorboard", str(place)]) == 0
    assert capsys.readouterr().out == f"1 run\ntensorboard --logdir {place}/tensorboard\n"
    assert main(["tensorboard", str(tmp_path / "none")]) == 2


def test_without_the_extra_the_fix_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["tensorboard", str(tmp_path)]) == 2
    assert "jaxnn-toolkit[tensorboard]" in capsys.readouterr().err
