"""One number of each example that stands for two classes: what the page makes of it."""

import json

import numpy as np
import pytest

from jaxnn import report
from jaxnn.report.examples import probabilities, with_classes
from jaxnn.storage import recording
from jaxnn.storage.recording import Frame, Recording
from tests.pages import Page
from tests.recorded import write

TRUTH = np.array([0, 1, 1, 0, 1, 0], np.float32)
LOGITS = np.array([-2, 1, 3, 0.4, 2, -1], np.float32)  # the fourth is wrong


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def made(outputs, accuracy=5 / 6, truth=TRUTH, end=True):
    """Returns the recording of a network with one output."""
    arrays = {"outputs": outputs[:, None], "metrics/accuracy": np.float32(accuracy)}
    frames = [Frame(0, {**arrays, "outputs": 0 * arrays["outputs"]}), Frame(8, arrays)]
    probe = {"inputs": np.zeros((len(truth), 2), np.float32), "labels": truth}
    known = {"truth": truth, "predicted": outputs} if end else {}
    return Recording({"format": 1, "kind": "regression"}, probe, frames, known)


def chances(recorded):
    return probabilities(recorded.frames[-1].arrays["outputs"], recorded.about)[:, 1]


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("outputs", [LOGITS, sigmoid(LOGITS)], ids=["logits", "probabilities"])
def test_a_logit_and_a_probability_say_the_same(outputs, end):
    found = with_classes(made(outputs, end=end))
    assert found.about["classes"] == 2
    np.testing.assert_allclose(chances(found), sigmoid(LOGITS), rtol=1e-5)
    assert ("confusion" in found.end) == end
    if end:
        assert found.end["confusion"].tolist() == [[2, 1], [0, 3]]


def test_a_probability_of_nothing_or_all_is_sure_and_finite():
    found = with_classes(made(np.array([0, 1, 1, 1, 1, 0], np.float32)))
    np.testing.assert_allclose(chances(found), [0, 1, 1, 1, 1, 0], atol=1e-6)


def test_what_is_not_finite_stays_so():
    outputs = sigmoid(LOGITS)
    outputs[2] = np.nan
    expected = sigmoid(LOGITS)
    expected[2] = np.nan
    np.testing.assert_allclose(chances(with_classes(made(outputs))), expected, rtol=1e-5)


def test_numbers_that_were_fitted_to_0_and_1_are_no_logits():
    fitted = np.array([-0.1, 0.9, 1.1, 0.6, 0.8, 0.3], np.float32)  # right above 0: 4, a half: 5
    found = with_classes(made(fitted))  # the accuracy is that of a half
    assert found.about["classes"] is None and "confusion" not in found.end
    assert with_classes(made(fitted, accuracy=4 / 6)).about["classes"] == 2


def test_other_numbers_are_of_no_class():
    assert with_classes(made(LOGITS, truth=2 * TRUTH)).about["classes"] is None
    without = made(LOGITS)
    del without.frames[-1].arrays["metrics/accuracy"]
    assert with_classes(without).about["classes"] is None
    assert with_classes(without._replace(frames=[])).about["classes"] is None


def test_of_more_points_than_are_kept_nothing_is_counted():
    many = made(np.tile(LOGITS, 200)[:1000], truth=np.tile(TRUTH, 200)[:1000])
    assert "confusion" not in with_classes(many).end


def page_of(out, recorded):
    result = {"experiment": "two", "steps": 8, "seconds": 1.0, "test/accuracy": 5 / 6}
    write(out, {"seed": 0}, [{"step": 8, "seconds": 1.0, "test/accuracy": 5 / 6}], result)
    folder = out / "recording"
    folder.mkdir()
    about = recorded.about | {"probe": {"of": "test", "count": 6}}
    (folder / recording.ABOUT).write_text(json.dumps(about))
    recording.write(folder, recording.PROBE, recorded.probe)
    recording.write(folder, recording.END, recorded.end)
    for frame in recorded.frames:
        recording.write(folder, recording.frame_name(frame.step), frame.arrays)
    return Page(report.write(out).read_text())


def marks_of(page):
    return [each["text"] for each in page.elements if "mark" in (each.get("class") or "").split()]


def test_the_page_of_a_network_that_ends_with_a_sigmoid_tells_right_from_wrong(tmp_path):
    page = page_of(tmp_path, made(sigmoid(LOGITS)))
    assert marks_of(page) == [*3 * ["✓ right"], "✗ wrong: it is 0", *2 * ["✓ right"]]
    assert "of the 6 held-out examples right" in page.all("h1")[0]["text"]
    assert "5 of 6 are right." in page.text("confusion")
    assert "fit" not in [each["id"] for each in page.all("section")]


def test_only_mistakes_are_where_a_network_with_one_output_was_most_wrong(tmp_path):
    recorded = made(sigmoid(LOGITS))
    order = np.argsort(-np.abs(sigmoid(LOGITS) - TRUTH))
    worst = {"labels": TRUTH[order], "outputs": sigmoid(LOGITS)[order, None]}
    worst["inputs"] = recorded.probe["inputs"]
    recorded.end.update({f"worst/{name}": array for name, array in worst.items()})
    marks = marks_of(page_of(tmp_path, recorded))
    assert marks[6:] == ["✗ wrong: it is 0"]  # the first six are those of the timeline
