"""`python -m jaxnn diff`: two runs, to the largest difference of each part."""

import shutil

import numpy as np
import pytest

from tests.catalog.commands.runs import fit, saved, spoil_text

pytestmark = pytest.mark.slow


def test_twins_are_the_same(made, told, call):
    one, twin = made.place / "one", made.place / "twin"
    assert made.one.result["seconds"] != made.twin.result["seconds"]
    same = {"a": str(one), "b": str(twin), "same": True, "differences": []}
    assert told("diff", one, twin) == (0, same)
    assert call("diff", one, twin) == (0, "the same, but for the time they took\n", "")
    assert told("diff", f"{one}@20", f"{twin}@20")[0] == 0
    assert told("diff", made.place / "swept", made.place / "swept")[0] == 0


def test_what_differs_is_told_to_the_largest_difference(made, told, call):
    one, other = made.place / "one", made.place / "other"
    code, answer = told("diff", one, other)
    found = {(d["section"], d["name"]): d for d in answer["differences"]}
    assert code == 1 and not answer["same"]
    rate = {"a": 0.05, "b": 0.02, "largest": None}
    assert found["config", "learning_rate"].items() >= rate.items()
    assert found["identity", "learning_rate"].items() >= rate.items()
    for name in ("train/loss", "test/loss"):
        each = found["result", name]
        assert (each["a"], each["b"]) == (made.one.result[name], made.other.result[name])
        assert ("metrics", f"step 4, {name}") in found
    assert not [name for section, name in found if name.endswith("seconds")]
    assert not [name for section, name in found if name.startswith("step 8")]
    weights = [run.state.params["hidden_1"]["weight"] for run in (made.one, made.other)]
    array = found["arrays", "state/params/hidden_1/weight"]
    assert array["a"] == array["b"] == "float32[3, 4]"
    assert array["largest"] == pytest.approx(float(np.abs(weights[0] - weights[1]).max()), rel=1e-6)
    assert ("arrays", "state/step") not in found  # is the same
    code, output, _ = call("diff", one, other)
    assert code == 1 and f"by {array['largest']:.3g}" in output and "seconds" not in output
    assert output.endswith(f"\n{len(found)} differences\n")


def test_checkpoints_of_one_run_differ_in_their_step(made, told):
    one = made.place / "one"
    newest, before = saved(one)[:2]
    code, answer = told("diff", f"{one}@{newest}", f"{one}@{before}")
    found = {(d["section"], d["name"]): d for d in answer["differences"]}
    assert code == 1 and {section for section, _ in found} == {"checkpoint", "arrays"}
    assert (found["checkpoint", "step"]["a"], found["checkpoint", "step"]["b"]) == (newest, before)
    assert found["arrays", "state/step"]["largest"] is None


def test_arrays_of_other_shapes_and_missing_ones(made, told, copy):
    swept = made.place / "swept"
    code, answer = told("diff", swept / "hidden=4", swept / "hidden=5")
    found = {(d["section"], d["name"]): d for d in answer["differences"]}
    weight = found["arrays", "state/params/hidden_1/weight"]
    assert code == 1 and weight["largest"] is None
    assert (weight["a"], weight["b"]) == ("float32[4, 3, 4]", "float32[4, 3, 5]")
    path = copy("one")
    shutil.rmtree(path)
    fit(path, hidden=(4, 4))
    found = {d["name"]: d for d in told("diff", made.place / "one", path)[1]["differences"]}
    assert found["state/params/hidden_2/bias"]["a"] is None
    assert found["state/params/hidden_2/bias"]["b"] == "float32[4]"


def test_differences_of_parts_are_told_with_their_name(made, copy, told, call):
    path = copy("swept")
    spoil_text("hidden=4/config.json", "{", '{"seen": true, ')(path)
    shutil.rmtree(path / "hidden=5")
    code, answer = told("diff", made.place / "swept", path)
    assert code == 1 and [(d["section"], d["name"]) for d in answer["differences"]] == [
        ("hidden=4/config", "seen"), ("parts", "hidden=5"),
    ]  # fmt: skip
    assert "hidden=5  a run  nothing" in call("diff", made.place / "swept", path)[1]


def test_of_an_unfinished_run_the_rows_and_the_status_differ(made, told):
    _, answer = told("diff", made.place / "one", made.place / "deep/cut")
    found = {(d["section"], d["name"]): d for d in answer["differences"]}
    assert (found["result", "status"]["a"], found["result", "status"]["b"]) == ("done", "stopped")
    assert found["metrics", "number of rows"]["a"] == 5 > found["metrics", "number of rows"]["b"]
    assert not [name for section, name in found if section == "identity"]


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
