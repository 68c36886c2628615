"""`python -m jaxnn diagnose`: what was not finite, and where it came from."""

import json

import pytest

pytestmark = pytest.mark.slow


def test_a_run_that_was_not_finite_is_diagnosed(trained, query, call):
    lost = trained.place / "lost"
    code, answer = query("diagnose", lost)
    (report,) = answer["reports"]
    assert code == 0 and report["run"] == str(lost) and report["learning_rate"] == 1e30
    finding = report["finding"]
    code, output, errors = call("diagnose", lost)
    text = " ".join(output.split())
    assert code == 0 and errors == ""
    assert f"Step {report['step']}, in epoch" in text
    assert f"operation {finding['operation']}, gave {finding['gave']}" in text
    assert f"layer {finding['layer']}" in text and f"phase {finding['phase']}" in text
    assert f"8 examples of the training data, those with the index {report['batch'][0]}, " in text
    # The state that was saved is the one in which it happened, at any rate.
    assert "--learning-rate 1e+29, in a directory of its own (--out)" in text
    assert "clip_by_global_norm" in text and 'not_finite="skip"' in text
    assert max(map(len, output.splitlines())) <= 100


REPORT = {
    "step": 123,
    "finding": {
        "operation": "log", "layer": "layers/output", "phase": "backward",
        "where": "loss.py:9 (loss)",
        "inputs": [{"dtype": "float32", "shape": [4], "low": 0.0, "high": 1.0}],
        "outputs": [], "iterations": [2], "sentence": "",
    },
    "metric": "train/loss", "value": "NaN", "batch": list(range(64)), "epoch": 4.25,
    "checkpoint": None, "replayed_from": 100, "seconds": 3.2, "environment": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ["jnp.log(x + eps)", "iteration 2", "phase backward", "8, 9 and 54 more"]),
        ({"finding": {**REPORT["finding"], "operation": "exp"}}, ["keep what goes into exp small"]),
        ({"finding": None, "repeated": False}, ["do not fit on one device"]),
        ({"finding": None}, ["Its operations, one by one, were finite"]),
        ({"step": None, "finding": None}, ["No step of the training is to blame", "evaluation"]),
        ({"again": True}, ["this is no accident"]),
        ({"value": None, "metric": "a parameter"}, ["a parameter was not finite at step 123"]),
        ({"checkpoint": 100}, ["--allow-change learning_rate resumes from step 100"]),
    ],
)
def test_a_report_is_told_in_words(copy, call, change, words):
    path = copy("one")
    write_report(path, {**REPORT, **change})
    code, output, _ = call("diagnose", path)
    text = " ".join(output.split()).lower()
    assert code == 0 and all(each.lower() in text for each in words), output
    assert ("resumes from" in text) == ("checkpoint" in change)


def test_reports_of_parts_are_told_too(copy, query):
    path = copy("swept")
    write_report(path / "hidden=5", REPORT)
    code, answer = query("diagnose", path)
    assert code == 0 and [each["run"] for each in answer["reports"]] == [str(path / "hidden=5")]


def test_without_a_report_there_is_nothing_to_diagnose(trained, query, call):
    one = trained.place / "one"
    assert query("diagnose", one) == (4, {"run": str(one), "reports": []})
    assert call("diagnose", one)[1] == "nothing to diagnose: no number was not finite\n"


@pytest.mark.parametrize("content", [{}, {**REPORT, "finding": "log"}, {**REPORT, "batch": 3}, []])
def test_a_report_that_makes_no_sense_is_4(copy, call, content):
    path = copy("one")
    write_report(path, content)
    code, output, errors = call("diagnose", path)
    assert code == 4 and output == "" and "report.json" in errors and errors.count("\n") == 1


def write_report(run, content):
    folder = run / "quarantine" / "nan-123"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(content))
