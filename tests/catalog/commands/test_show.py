"""`python -m jaxnn show`: what was asked, what came of it, and how to resume."""

import shutil

import jax
import pytest

import jaxnn
from tests.catalog.commands.runs import CONFIG, fit, manifest_of, saved

pytestmark = pytest.mark.slow


def test_show_says_what_was_asked_and_what_came_of_it(trained, query):
    code, answer = query("show", trained.place / "one")
    assert code == 0 and answer["config"] == CONFIG
    losses = {row["step"]: row["train/loss"] for row in trained.one.history}
    step = trained.one.result["best/step"]  # of the state that the watched metric chose
    best = {"last": losses[20], "best": losses[step], "step": step}
    assert answer["metrics"]["train/loss"] == best
    assert answer["metrics"]["test/r2"]["best"] == trained.one.result["best/test/r2"]
    assert [each["step"] for each in answer["checkpoints"]] == saved(trained.place / "one")
    assert answer["checkpoints"][0]["value"] == trained.one.result["test/loss"]
    assert answer["environment"]["jax"] == jax.__version__
    assert answer["quarantine"] == [] and answer["errors"] == {}
    known = {name: value for name, value in trained.one.speed.items() if value is not None}
    assert answer["speed"] == known and known["flops_per_step"] == 2 * 8 * (2 * 3 * 4 + 3 * 4 * 1)


def test_show_says_how_to_go_on(trained, query, copy):
    assert query("show", trained.place / "deep/cut")[1]["next"] == (
        f"To resume it, give the same command as before: it resumes from step"
        f" {saved(trained.place / 'deep/cut')[0]}."
    )
    path = copy("deep/cut")
    shutil.rmtree(path / "checkpoints")
    assert query("show", path)[1]["next"].endswith("it starts over.")
    assert "is finished" in query("show", trained.place / "one")[1]["next"]
    assert "diagnose" in query("show", trained.place / "lost")[1]["next"]


def test_show_is_legible(trained, call):
    for name in ("one", "deep/cut", "lost", "swept", "swept/hidden=4"):
        code, output, _ = call("show", trained.place / name)
        assert code == 0 and "None" not in output and "nan" not in output.split()
        assert all(len(line) <= 80 or str(trained.place) in line for line in output.splitlines())
    assert "hidden=5 (4 runs)" in call("show", trained.place / "swept")[1]
    assert "not finite" in call("show", trained.place / "lost")[1]


def test_what_is_in_quarantine_is_shown_with_why(copy, query, call):
    path = copy("deep/cut")
    manifest_of(path).write_text("{")
    with pytest.warns(jaxnn.Caution):
        fit(path)
    ((name, why),) = [(e["name"], e["why"]) for e in query("show", path)[1]["quarantine"]]
    assert name.endswith("-1") and "manifest.json that cannot be read" in why
    assert name in call("show", path)[1]
