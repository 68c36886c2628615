"""A sweep that is trained: its groups, its files, and what happens when it cannot continue."""

import csv
import json
from functools import cache

import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import InvalidValue, sweep
from jaxnn.storage.opening import open_directory


@cache  # one learner compiles once, however many tests run it
def learner(width):
    return jaxnn.learner(
        jaxnn.mlp([width], 1), jaxnn.regression(), lambda h: optax.sgd(h["learning_rate"])
    )


def regression(width, runs, out):
    """Trains the runs of a group to copy the first of three numbers."""
    draws = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    data = jaxnn.resident({"inputs": draws, "labels": draws[:, :1]}, batch_size=8)
    return jaxnn.fit(
        learner(width), data, steps=12, key=runs.key, hparams=runs.hparams, every=3,
        evaluate=jaxnn.resident(data.arrays, batch_size=24), out=out, quiet=True,
    )  # fmt: skip


def record(path, losses):
    """Writes what `fit` leaves for members that reached these losses."""
    status = ["done" if np.isfinite(loss) else "diverged" for loss in losses]
    metrics = {"test/loss": losses, "test/mae": [0.5] * len(losses)}
    result = {"members": len(losses), "steps": [4] * len(losses), "status": status, **metrics}
    with open_directory(path, {}) as directory:
        directory.append({"step": 4, **metrics})
        directory.finish({**result, "seconds": 0.5, "device": "cpu", "jax": "0"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    runs = sweep({"learning_rate": [0.01, 0.1, 1e30], "width": [4, 8]}, seeds=2)
    out = tmp_path_factory.mktemp("sweeps") / "mine"
    groups = []

    def train(values, group, out):
        groups.append((values, out.path))
        return regression(values["width"], group, out)

    return jaxnn.fit_sweep(runs, train, structural=["width"], out=out, quiet=True), groups, runs


def test_a_group_is_a_directory_and_the_files_are_there(trained):
    swept, groups, _ = trained
    assert [values for values, _ in groups] == [{"width": 4}, {"width": 8}]
    assert [path.name for _, path in groups] == ["width=4", "width=8"]
    names = sorted(path.name for path in swept.out.iterdir() if path.name != "command.txt")
    assert names == [
        ".lock", "config.json", "result.json", "sweep.csv", "sweep.json", "sweep.png",
        "width=4", "width=8",
    ]  # fmt: skip
    asked = json.loads((swept.out / "config.json").read_text())
    assert asked == {"learning_rate": [0.01, 0.1, 1e30], "width": [4, 8], "seed": [0, 1]}
    assert (swept.out / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_row_is_what_its_run_reached(trained):
    swept, groups, runs = trained
    with open(swept.out / "sweep.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(swept.rows) == len(runs) == 12
    settings = {(row["learning_rate"], row["width"], row["seed"]) for row in runs.settings()}
    assert {(float(r["learning_rate"]), int(r["width"]), int(r["seed"])) for r in rows} == settings
    lines = (groups[1][1] / "metrics.jsonl").read_text().splitlines()
    history = [json.loads(line)["test/loss"] for line in lines]
    (row,) = [r for r in rows if (r["learning_rate"], r["width"], r["seed"]) == ("0.1", "8", "1")]
    member = 3  # of the group: rates, and seeds fastest
    assert float(row["test/loss"]) == history[-1][member]
    assert not [name for name in row if name.startswith("best/")]  # nothing is watched
    assert (row["status"], row["steps"]) == ("done", "12")
    assert "best/train/learning_rate" not in row
    diverged = [row for row in rows if row["learning_rate"] == "1e+30"]
    assert {row["status"] for row in diverged} == {"diverged"} and len(diverged) == 4


def test_the_result_is_flat_and_of_the_best_setting(trained):
    swept, _, _ = trained
    result = json.loads((swept.out / "result.json").read_text())
    assert result == swept.result
    assert not [value for value in result.values() if isinstance(value, list | dict)]
    assert [k for k in result if k.startswith("best/")] == ["best/learning_rate", "best/width"]
    assert (result["experiment"], result["runs"], result["groups"]) == ("sweep", 12, 2)
    assert result["diverged"] == 4 and result["metric"] == "test/loss"
    assert result["steps"] == sum(row["steps"] for row in swept.rows) and result["seconds"] > 0
    best = [
        r for r in swept.rows if r["learning_rate"] == 0.1 and r["width"] == result["best/width"]
    ]
    assert result["best/learning_rate"] == 0.1
    assert result["test/mae"] == pytest.approx(np.mean([row["test/mae"] for row in best]))


def test_an_interrupted_sweep_goes_on_with_its_group(tmp_path):
    runs = sweep({"width": [4, 8]}, seeds=2)
    groups = []

    def train(values, group, out):
        groups.append(values["width"])
        if groups == [4, 8]:
            raise KeyboardInterrupt("stopped")
        record(out.path, [0.25, 0.5])

    def go():
        return jaxnn.fit_sweep(runs, train, structural=["width"], out=tmp_path, quiet=True)

    with pytest.raises(KeyboardInterrupt):
        go()
    assert (tmp_path / "sweep.csv").read_text().count("\n") == 3
    assert not (tmp_path / "result.json").exists()
    swept = go()
    assert groups == [4, 8, 8] and swept.out == tmp_path and len(swept.rows) == 4
    assert swept.result["seconds"] == 1.0
    assert go().out == tmp_path.with_name(tmp_path.name + "-2") and groups[3:] == [4, 8]


def test_all_diverged_is_an_error_with_everything_written(tmp_path):
    runs = sweep({"rate": [1e30, 1e31]})
    with pytest.raises(jaxnn.NotFinite, match="every run diverged.*Sweep lower learning rates"):
        jaxnn.fit_sweep(
            runs, lambda v, group, out: record(out.path, [np.nan, np.inf]), out=tmp_path, quiet=True
        )
    assert (tmp_path / "sweep.csv").exists() and (tmp_path / "sweep.png").exists()
    assert not (tmp_path / "result.json").exists()


def test_a_metric_that_is_not_reported_is_an_error_after_the_first_group(tmp_path):
    """It lists those that are, and the group need not train again."""
    groups = []

    def train(values, group, out):
        groups.append(values["width"])
        record(out.path, [0.5])

    def go(metric):
        jaxnn.fit_sweep(
            sweep({"width": [4, 8]}), train, structural=["width"], out=tmp_path,
            metric=metric, quiet=True,
        )  # fmt: skip

    with pytest.raises(InvalidValue, match=r"one of test/loss, test/mae\. .*mean 'test/loss'\?"):
        go("test/los")
    assert groups == [4] and (tmp_path / "sweep.csv").exists()
    go("test/mae")
    assert groups == [4, 8]
    assert json.loads((tmp_path / "result.json").read_text())["metric"] == "test/mae"


def test_a_group_must_be_one_population_and_write_where_it_is_told(tmp_path):
    runs = sweep({"rate": [0.01]}, seeds=2)
    with pytest.raises(InvalidValue, match="pass out to fit"):
        jaxnn.fit_sweep(runs, lambda *_: None, out=tmp_path / "a", quiet=True)
    with pytest.raises(InvalidValue, match="Got 1 trained; expected 2"):
        jaxnn.fit_sweep(
            runs, lambda v, group, out: record(out.path, [0.5]), out=tmp_path / "b", quiet=True
        )


@pytest.mark.parametrize(
    "words", [("../../etc", ".._.._etc"), ("/", "_"), ("a b", "a_b"), ("..", "."), ("é", "%C3%A9")]
)
def test_the_directory_of_a_group_is_inside_whatever_its_value(tmp_path, words):
    """And two values never share one."""
    paths = []

    def train(values, group, out):
        paths.append(out.path)
        record(out.path, [0.5])

    runs = sweep({"word": words})
    jaxnn.fit_sweep(runs, train, structural=["word"], out=tmp_path / "out", quiet=True)
    assert len(set(paths)) == 2 and all(path.parent == tmp_path / "out" for path in paths)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
