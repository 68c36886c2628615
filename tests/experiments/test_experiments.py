"""Every experiment, discovered by its file: how it is written, and that it runs to its end."""

import ast
import importlib
import inspect
import json
import math
import os
import pkgutil
import tokenize
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

import experiments
import jaxnn
from tests.pretrained.peers import minilm, rated_sentences, smollm

# What starts experiments, and a recipe that needs Ray.
OTHERS = {"__main__", "carried", "command", "fields", "rehearsal", "on_ray", "planned"}
NAMES = [
    module.name
    for module in pkgutil.iter_modules(experiments.__path__)
    if not module.ispkg and module.name not in OTHERS
]
# Of a table of one's own there is more to say, how its file is read; images come from three places.
LINES, FIELDS = {"table": 170, "images": 140, "neuron": 121}, {"table": 23}


def load(name):
    return importlib.import_module(f"experiments.{name}")


def source(name):
    return Path(load(name).__file__)


def test_they_are_found():
    assert {"digits", "mnist"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_says_in_a_sentence_what_it_shows_and_how_to_run_it(name):
    words = load(name).__doc__
    first = words.splitlines()[0]
    assert first.endswith(".") and first[0].isupper() and len(first.split()) >= 5
    assert f"python -m experiments.{name}" in words


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_is_short(name):
    assert len(source(name).read_text().splitlines()) <= LINES.get(name, 120)


@pytest.mark.parametrize("name", NAMES)
def test_its_configuration_is_small_frozen_and_explained(name):
    config_type = load(name).Config
    assert is_dataclass(config_type) and config_type.__doc__
    assert config_type.__dataclass_params__.frozen
    assert all(field.kw_only for field in fields(config_type))
    assert 1 <= len(fields(config_type)) <= FIELDS.get(name, 15)
    config_type()  # every field has a default: those of the reported run
    tree = ast.parse(source(name).read_text())
    (definition,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Config"]
    with tokenize.open(source(name)) as file:
        commented = {
            token.start[0]
            for token in tokenize.generate_tokens(file.readline)
            if token.type == tokenize.COMMENT and len(token.string.split()) > 1
        }
    for node in definition.body:
        if isinstance(node, ast.AnnAssign):
            assert node.end_lineno in commented, f"{name}.py:{node.lineno} has no comment"


@pytest.mark.parametrize("name", NAMES)
def test_its_main_takes_a_configuration_and_a_directory(name):
    parameters = inspect.signature(load(name).main).parameters
    _, out, *options = parameters.values()
    assert out.name == "out" and out.annotation is jaxnn.Directory
    assert [str(option) for option in options] in ([], ["**options"])  # none that makes many runs
    assert list(parameters)[0] == "config"


def shrunk(config):
    """The same experiment, over in a few steps."""
    small = {"epochs": 0.05, "steps": 2, "batch_size": 32, "every": 0.02}
    small |= {"length": 12, "sequences": 640, "base_steps": 2, "page": 4}
    small |= {"held_out": 2, "context": 16}
    small |= {"settings": 3, "members": 3, "rates": 3, "seeds": 2}
    return replace(config, **{k: v for k, v in small.items() if hasattr(config, k)})


def folder_of_images(place):
    """Writes a few images of two classes to a folder, and returns it."""
    image = pytest.importorskip("PIL.Image")
    for part, count in (("train", 32), ("val", 6)):
        for number in range(2 * count):
            path = place / "images" / part / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.new("RGB", (9, 8), (number, 255 * (number % 2), 0)).save(path)
    return place / "images"


# Those that compile longer than others, though they do but two steps.
FAST = {"digits", "mnist", "neuron"}
NIGHTLY = {"char_gpt", "lora_finetune", "finetune_minilm", "finetune_smollm"}
WEIGHTS = {"finetune_minilm": minilm, "finetune_smollm": smollm}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.nightly if n in NIGHTLY else pytest.mark.slow)
        if n not in FAST
        else n
        for n in NAMES
    ],
)
def test_an_experiment_shrunk_runs_to_its_end(name, tmp_path, monkeypatch, capsys):
    module = load(name)
    if "datasets.mnist(" in source(name).read_text() and name != "images":
        if not os.environ.get("JAXNN_DATA"):
            pytest.skip("MNIST is not here: set JAXNN_DATA to a folder that holds it")
        parts = jaxnn.datasets.mnist()
        few = tuple({k: v[:640] for k, v in part.items()} for part in parts)
        monkeypatch.setattr(jaxnn.datasets, "mnist", lambda: few)
    if "tiny_shakespeare(" in source(name).read_text():
        if not os.environ.get("JAXNN_DATA"):
            pytest.skip("The plays are not here: set JAXNN_DATA to a folder that holds them")
        text = jaxnn.datasets.tiny_shakespeare()[:9000]
        monkeypatch.setattr(jaxnn.datasets, "tiny_shakespeare", lambda: text)
    if name in WEIGHTS:
        WEIGHTS[name]()  # skips without them
    config = shrunk(module.Config())
    if name == "finetune_minilm":  # its own sentences are a download
        config = replace(config, data=str(rated_sentences(tmp_path)), batch_size=8)
    if name == "images":  # its own images are a download
        config = replace(config, data=str(folder_of_images(tmp_path)), blocks=(1, 1), epochs=1)
    run = module.main(config, jaxnn.Directory(tmp_path / "run", name, config))
    assert isinstance(run, jaxnn.Run | jaxnn.search.Swept) and run.out == tmp_path / "run"
    result = json.loads((run.out / "result.json").read_text())
    assert result["experiment"] == name
    runs = result.get("runs") or result.get("members") or result.get("settings") or 1
    assert 1 <= result["steps"] <= 3 * runs and result["seconds"] > 0
    metrics = {k: v for k, v in result.items() if "/" in k}
    assert len(metrics) > 1 and all(math.isfinite(value) for value in metrics.values())
    assert all(0 <= value <= 1 for name, value in metrics.items() if "accuracy" in name)
    recorded = json.loads((run.out / "config.json").read_text())
    assert recorded.keys() == {field.name for field in fields(config)}
    # For a population they are in a directory of their own.
    journal = next(path for path in run.out.rglob("metrics.jsonl"))
    assert 1 <= json.loads(journal.read_text().splitlines()[-1])["step"] <= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, part",
    [("convnet", "conv_1"), ("resnet", "stage_1")],
)
def test_the_convolutional_mnist_runs_too(model, part, tmp_path, monkeypatch, capsys):
    if not os.environ.get("JAXNN_DATA"):
        pytest.skip("MNIST is not here: set JAXNN_DATA to a folder that holds it")
    few = tuple({k: v[:64] for k, v in part.items()} for part in jaxnn.datasets.mnist())
    monkeypatch.setattr(jaxnn.datasets, "mnist", lambda: few)
    module = load("mnist")
    config = replace(module.Config(), model=model, batch_size=8, epochs=0.2)
    run = module.main(config, jaxnn.Directory(tmp_path))
    assert run.result["steps"] == 2 and run.result["form"] == "looped"
    assert part in run.state.params["layers"]
