"""`python -m jaxnn diff`: two runs, to the largest difference of each part."""

import shutil

import numpy as np
import pytest

from tests.catalog.commands.runs import fit, saved, spoil_text

pytestmark = pytest.mark.slow


def test_twins_are_the_same(trained, query, call):
    one, twin = trained.place / "one", trained.place / "twin"
    assert trained.one.result["seconds"] != trained.twin.result["seconds"]
    same = {"a": str(one), "b": str(twin), "same": True, "differences": []}
    assert query("diff", one, twin) == (0, same)
    assert call("diff", one, twin) == (0, "the same, but for the time they took\n", "")
    assert query("diff", f"{one}@20", f"{twin}@20")[0] == 0
    assert query("diff", trained.place / "swept", trained.place / "swept")[0] == 0


def test_what_differs_is_reported_to_the_largest_difference(trained, query, call):
    one, other = trained.place / "one", trained.place / "other"
    code, answer = query("diff", one, other)
    by_name = {(d["section"], d["name"]): d for d in answer["differences"]}
    assert code == 1 and not answer["same"]
    rate = {"a": 0.05, "b": 0.02, "largest": None}
    assert by_name["config", "learning_rate"].items() >= rate.items()
    assert by_name["identity", "learning_rate"].items() >= rate.items()
    for name in ("train/loss", "test/loss"):
        each = by_name["result", name]
        assert (each["a"], each["b"]) == (trained.one.result[name], trained.other.result[name])
        assert ("metrics", f"step 4, {name}") in by_name
    assert not [name for section, name in by_name if name.endswith("seconds")]
    assert not [name for section, name in by_name if name.startswith("step 8")]
    weights = [run.state.params["hidden_1"]["weight"] for run in (trained.one, trained.other)]
    array = by_name["arrays", "state/params/hidden_1/weight"]
    assert array["a"] == array["b"] == "float32[3, 4]"
    assert array["largest"] == pytest.approx(float(np.abs(weights[0] - weights[1]).max()), rel=1e-6)
    assert ("arrays", "state/step") not in by_name  # is the same
    code, output, _ = call("diff", one, other)
    assert code == 1 and f"by {array['largest']:.3g}" in output and "seconds" not in output
    assert output.endswith(f"\n{len(by_name)} differences\n")


def test_checkpoints_of_one_run_differ_in_their_step(trained, query):
    one = trained.place / "one"
    newest, before = saved(one)[:2]
    code, answer = query("diff", f"{one}@{newest}", f"{one}@{before}")
    by_name = {(d["section"], d["name"]): d for d in answer["differences"]}
    assert code == 1 and {section for section, _ in by_name} == {"checkpoint", "arrays"}
    steps = by_name["checkpoint", "step"]
    assert (steps["a"], steps["b"]) == (newest, before)
    assert by_name["arrays", "state/step"]["largest"] is None


def test_arrays_of_other_shapes_and_missing_ones(trained, query, copy):
    swept = trained.place / "swept"
    code, answer = query("diff", swept / "hidden=4", swept / "hidden=5")
    by_name = {(d["section"], d["name"]): d for d in answer["differences"]}
    weight = by_name["arrays", "state/params/hidden_1/weight"]
    assert code == 1 and weight["largest"] is None
    assert (weight["a"], weight["b"]) == ("float32[4, 3, 4]", "float32[4, 3, 5]")
    path = copy("one")
    shutil.rmtree(path)
    fit(path, hidden=(4, 4))
    by_name = {d["name"]: d for d in query("diff", trained.place / "one", path)[1]["differences"]}
    assert by_name["state/params/hidden_2/bias"]["a"] is None
    assert by_name["state/params/hidden_2/bias"]["b"] == "float32[4]"


def test_differences_of_parts_are_reported_with_their_name(trained, copy, query, call):
    path = copy("swept")
    spoil_text("hidden=4/config.json", "{", '{"seen": true, ')(path)
    shutil.rmtree(path / "hidden=5")
    code, answer = query("diff", trained.place / "swept", path)
    assert code == 1 and [(d["section"], d["name"]) for d in answer["differences"]] == [
        ("hidden=4/config", "seen"), ("parts", "hidden=5"),
    ]  # fmt: skip
    assert "hidden=5  a run  nothing" in call("diff", trained.place / "swept", path)[1]


def test_of_an_unfinished_run_the_rows_and_the_status_differ(trained, query):
    _, answer = query("diff", trained.place / "one", trained.place / "deep/cut")
    by_name = {(d["section"], d["name"]): d for d in answer["differences"]}
    status, rows = by_name["result", "status"], by_name["metrics", "number of rows"]
    assert (status["a"], status["b"]) == ("done", "interrupted")
    assert rows["a"] == 5 > rows["b"]
    assert not [name for section, name in by_name if section == "identity"]


@pytest.mark.parametrize(
    ("a", "b", "largest"),
    [
        ([0.0, np.nan, np.inf, 2.0], [0.0, np.nan, np.inf, 2.5], 0.5),
        ([0.0, 1.0], [-0.0, 1.0], 0.0),
        ([0.0, 1.0], [0.0, np.nan], None),
        ([0.0, np.inf], [0.0, -np.inf], None),
        ([1 + 1j], [1 - 1j], 2.0),
        ([], [], 0.0),
    ],
)
def test_the_largest_difference(a, b, largest):
    from jaxnn.catalog.comparison import _largest

    assert _largest(np.array(a), np.array(b)) == largest
