"""The recipes are run as they stand; where a tool is foreign, its stand-in takes what it is told.

Of the real tools the stand-ins have the names and the arguments, so that a recipe which calls them
otherwise fails.
"""

import re
import sys
import types
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


class Told:
    """What a tool was told."""

    def __init__(self):
        self.config, self.metrics, self.ended = {}, [], False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.ended = True

    def __setitem__(self, name, value):
        assert name == "hparams"
        self.config = value

    def log(self, data, step):
        self.metrics.append((step, data))

    def log_metrics(self, metrics, step):
        self.metrics.append((step, metrics))

    def log_params(self, params):
        self.config = params

    log_parameters = log_params

    def track(self, value, name, step):
        self.metrics.append((step, {name: value}))

    def close(self):
        self.ended = True

    end = close


@pytest.fixture(scope="module")
def shared():
    """What the first block makes, of a run that is shorter."""
    names = {}
    code = BLOCKS[0].replace('"epochs": 20', '"epochs": 2')
    assert code != BLOCKS[0]
    exec(compile(code, "recipes.md", "exec"), names)
    return names


def played(block, names, monkeypatch, tmp_path, **modules):
    monkeypatch.chdir(tmp_path)
    for name, members in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    own = dict(names)
    exec(compile(block, "recipes.md", "exec"), own)
    return own


@pytest.mark.parametrize("tool", ["wandb", "mlflow", "aim", "comet_ml"])
def test_a_tool_is_told_the_configuration_and_every_report(tool, shared, monkeypatch, tmp_path):
    told = Told()

    def begun(project, config):
        told.config = config
        return told

    tools = {
        "wandb": {"init": begun},
        "mlflow": {
            "start_run": lambda: told,
            "log_params": told.log_params,
            "log_metrics": told.log_metrics,
        },
        "aim": {"Run": lambda experiment: told},
        "comet_ml": {"start": lambda project_name: told},
    }
    (block,) = [each for each in BLOCKS if f"import {tool}\n" in each]
    played(block, shared, monkeypatch, tmp_path, **{tool: tools[tool]})
    assert told.config == shared["config"] and told.ended
    steps = list(dict.fromkeys(step for step, _ in told.metrics))
    assert steps == [progress.step for progress in shared["training"]] and len(steps) == 2
    names = {name for _, metrics in told.metrics for name in metrics}
    assert {"train/loss", "train/accuracy", "test/loss", "test/accuracy"} <= names
    assert all(type(v) is float for _, metrics in told.metrics for v in metrics.values())


def test_the_table_and_the_picture_are_written(shared, monkeypatch, tmp_path):
    pandas = pytest.importorskip("pandas")
    *_, table, picture = BLOCKS
    played(table, shared, monkeypatch, tmp_path)
    assert "test/accuracy" in pandas.read_csv(tmp_path / "digits.csv").columns
    played(picture, shared, monkeypatch, tmp_path)
    assert (tmp_path / "curves.svg").stat().st_size > 5000


def test_every_block_is_tested():
    assert len(BLOCKS) == 7
