"""Runs as model files: of whatever kind, they predict what the run predicts, in a fresh process."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.__main__ import main
from jaxnn.exporting import Spec

INPUTS = np.random.default_rng(0).integers(0, 255, (24, 8, 8)).astype(np.uint8)
LABELS = INPUTS[:, 0, 0].astype(np.int32) % 3
DATA = jaxnn.resident({"inputs": INPUTS, "labels": LABELS}, batch_size=6)
NETWORK = jaxnn.serial(jaxnn.standardize(127.0, 70.0), jaxnn.mlp([4], 3))
OBJECTIVE = jaxnn.classification(names=["red", "green", "blue"])


def trained(out, network=NETWORK, *, data=DATA, objective=OBJECTIVE, change=None, **options):
    learner = jaxnn.learner(network, objective, optax.adam(0.02))
    learner = change(learner) if change else learner
    options = {"key": jax.random.key(0), "evaluate": data, "quiet": True} | options
    return jaxnn.fit(learner, data, steps=6, out=out, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "one", watch="test/loss", every=2)


def test_a_run_and_its_directory_predict_what_it_predicted(run, tmp_path):
    files = [jaxnn.export(each, tmp_path / f"{i}.jaxnn") for i, each in enumerate([run, run.out])]
    for source, path in ((run, files[0]), (run.out, files[1]), (None, run.out)):
        model = jaxnn.load_model(path)  # the last is the directory itself
        np.testing.assert_array_equal(model.predict(INPUTS), run.predict(INPUTS))
        description = model.description
        assert (description.kind, description.task) == ("image", "classification")
        assert description.inputs == Spec((8, 8), "uint8")
        assert description.classes == ("red", "green", "blue")
        assert description.results["best/test/loss"] == run.result["best/test/loss"]
        if source is run:  # a directory without a recording has no examples of its own
            np.testing.assert_array_equal(model.examples[0], INPUTS[:2])


def test_the_same_model_is_the_same_file(run, tmp_path):
    first, second = (jaxnn.export(run, tmp_path / name) for name in ("a.jaxnn", "b.jaxnn"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_bits(run, tmp_path):
    """Nothing of the code that built the network is there: neither its module nor this one."""
    path = jaxnn.export(run, tmp_path / "model.jaxnn")
    np.save(tmp_path / "inputs.npy", INPUTS)
    code = (
        "import sys, numpy as np, jaxnn\n"
        "outputs = jaxnn.load_model(sys.argv[1]).predict(np.load(sys.argv[2]))\n"
        "assert 'tests' not in sys.modules and 'experiments' not in sys.modules\n"
        "np.save(sys.argv[3], outputs)\n"
    )
    files = [path, tmp_path / "inputs.npy", tmp_path / "outputs.npy"]
    subprocess.run([sys.executable, "-c", code, *files], check=True, cwd=tmp_path, env=_env())
    np.testing.assert_array_equal(np.load(files[2]), run.predict(INPUTS))


def _env():
    import os

    return os.environ | {"PYTHONPATH": str(Path(jaxnn.__file__).parents[1])}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda learner: jaxnn.average(learner, decay=0.5),
        lambda learner: jaxnn.guard(jaxnn.accumulate(learner, 2)),
    ],
    ids=["average", "guard and accumulate"],
)
def test_transforms_of_learners(change, tmp_path):
    run = trained(None, change=change)
    model = jaxnn.load_model(jaxnn.export(run, tmp_path / "model.jaxnn"))
    np.testing.assert_array_equal(model.predict(INPUTS), run.predict(INPUTS))


@pytest.mark.slow
def test_of_a_population_the_best_member_predicts(tmp_path):
    keys = jaxnn.keys(range(3))
    run = trained(tmp_path / "many", key=keys, watch="test/loss")
    model = jaxnn.load_model(jaxnn.export(run, tmp_path / "model.jaxnn"))
    best = int(np.argmin(run.result["best/test/loss"]))
    np.testing.assert_allclose(model.predict(INPUTS), run.predict(INPUTS)[best], rtol=1e-5)
    assert model.description.results["best/test/loss"] == run.result["best/test/loss"][best]
    with pytest.raises(jaxnn.InvalidValue, match="a population in memory is many models"):
        jaxnn.export(trained(None, key=keys), tmp_path / "other.jaxnn")


@pytest.mark.slow
def test_a_table_takes_rows_and_gives_names(tmp_path):
    pytest.importorskip("polars")
    table = {
        "size": [float(number) for number in range(40)],
        "city": ["Ulm", "Bonn"] * 20,
        "dear": ["no"] * 20 + ["yes"] * 20,
    }
    columns = jaxnn.fit_columns(table, labels="dear")
    data = jaxnn.resident(columns.encode(table), batch_size=8)
    learner = jaxnn.learner(columns.network([8]), columns.objective(), optax.adam(0.05))
    run = jaxnn.fit(learner, data, steps=60, key=jax.random.key(0), out=tmp_path / "t", quiet=True)
    rows = {"size": [0.0, 39.0, None], "city": ["Ulm", "Bern", None]}
    for source in (run, run.out):
        model = jaxnn.load_model(jaxnn.export(source, tmp_path / "model.jaxnn"))
        assert model.description.kind == "table" and model.description.classes == ("no", "yes")
        assert model.predict(rows).equals(jaxnn.load(run.out).predict(rows))
        assert model.predict(rows)["dear"].to_list()[:2] == ["no", "yes"]
        with pytest.raises(jaxnn.InvalidValue, match="columns are missing"):
            model.predict({"size": [1.0]})
        with pytest.raises(jaxnn.Invalid):
            model.predict({"size": ["large"], "city": ["Ulm"]})


@pytest.mark.slow
def test_a_model_of_text_writes_what_generate_writes(tmp_path):
    text = "the cat sat on the mat. " * 40
    characters = jaxnn.Characters(text)
    network = jaxnn.gpt(len(characters), layers=1, heads=2, features=16, positions=16)
    data = jaxnn.windows(characters.encode(text), 17, batch_size=8)
    objective = jaxnn.next_token(vocabulary=characters.all)
    run = trained(tmp_path / "text", network, data=data, objective=objective)
    prompt = characters.encode("the")
    expected = jaxnn.generate(
        network, run.best.params, run.best.state, prompt[None], 40, key=jax.random.key(3),
        context=16,
    )  # fmt: skip
    expected = characters.decode(np.asarray(expected[0]).tolist())
    for source in (run, run.out):
        model = jaxnn.load_model(jaxnn.export(source, tmp_path / "model.jaxnn"))
        assert model.description.task == "next_token"
        assert model.writer.steps is not None
        assert model.generate("the", 40, key=jax.random.key(3)) == expected
        assert "".join(model.generate_pieces("the", 40, key=jax.random.key(3))) == expected
        with pytest.raises(jaxnn.InvalidValue, match="not in the vocabulary"):
            model.generate("THE")
        with pytest.raises(jaxnn.InvalidValue, match="temperature"):
            model.generate("the", temperature=-1.0)


def test_a_model_that_reads_ahead_does_not_write(tmp_path):
    network = jaxnn.serial(jaxnn.embedding(5, 4), jaxnn.attention(4, heads=1), jaxnn.linear(5))
    inputs = np.array([[1, 2, 3]] * 2, np.int32)
    params, state = network.init(jax.random.key(0), inputs)
    model = jaxnn.load_model(
        jaxnn.export((network, params, state), tmp_path / "model.jaxnn", inputs=inputs)
    )
    with pytest.raises(jaxnn.InvalidType, match="depends on those after it"):
        model.generate([1, 2], 3)


def test_the_command_writes_next_to_where_one_is(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run.out)]) == 0
    assert "one.jaxnn" in capsys.readouterr().out
    np.testing.assert_array_equal(
        jaxnn.load_model("one.jaxnn").predict(INPUTS), run.predict(INPUTS)
    )
    assert main(["export", str(run.out), "weights", "--safetensors"]) == 0
    from jaxnn.pretrained.safetensors_file import read_safetensors

    tensors, _ = read_safetensors(tmp_path / "weights.safetensors")
    assert "params/mlp/hidden_1/weight" in tensors or len(tensors) > 3
    assert main(["export", str(run.out), "--onnx"]) == 2
    assert "no network that can be translated" in capsys.readouterr().err
    assert main(["export", str(run.out), str(tmp_path / "none" / "model.jaxnn")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "one.jaxnn", "weights.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"classes": ["a"]}, "the classes are not as many as the outputs"),
        ({"task": "classify"}, "Did you mean 'classification'"),
        ({"kind": "picture"}, "kind is unknown"),
        ({"tokenizer": "abc"}, "the tokenizer has the wrong type"),
        ({"inputs": np.ones((2, 3), np.float32)}, "no program that stands by itself|not such as"),
    ],
    ids=["classes", "task", "kind", "tokenizer", "inputs"],
)
def test_arguments_that_do_not_fit(run, tmp_path, arguments, words):
    with pytest.raises(jaxnn.Invalid, match=words):
        jaxnn.export(run, tmp_path / "model.jaxnn", **arguments)
    assert not [*tmp_path.iterdir()]


def test_what_is_no_model(tmp_path):
    with pytest.raises(jaxnn.InvalidType, match="the model has the wrong type"):
        jaxnn.export(NETWORK, tmp_path / "model.jaxnn")
    params, state = NETWORK.init(jax.random.key(0), INPUTS)
    with pytest.raises(jaxnn.InvalidValue, match="Pass inputs="):
        jaxnn.export((NETWORK, params, state), tmp_path / "model.jaxnn")
