"""Every number in the tables of each kind of page, recomputed from the files of the run."""

import json
from itertools import takewhile

import numpy as np
import pytest

from jaxnn.formatting import brief, percent
from jaxnn.pictures.scheme import number
from jaxnn.storage import recording
from tests.pages import page_of, plain
from tests.recorded import curve, digits, softmax, write

LAYERS = ("hidden 1", "hidden 2", "output")


def table(page, name):
    """Returns the rows of the first table in a section, as texts, the heads first."""
    at = page.elements.index(next(e for e in page.elements if e.get("id") == name))
    rows = []
    for each in takewhile(lambda e: e["tag"] != "section", page.elements[at + 1 :]):
        if each["tag"] == "tr":
            rows.append([])
        elif each["tag"] in ("th", "td"):
            rows[-1].append(plain(each["text"]))
    return rows


def rows_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def said(name, value):
    return plain(percent(value)) if name.endswith("accuracy") else number(value)


@pytest.fixture(scope="module", params=["finished", "interrupted"])
def run(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "run"
    steps = {"finished": 240, "interrupted": 120}[request.param]
    digits(out, steps=steps, finished=request.param == "finished")
    return out, page_of(out), steps


def test_results_are_the_last_and_the_best_of_all_rows(run):
    out, page, steps = run
    rows, shown = rows_of(out), table(page, "numbers")
    assert shown[0] == ["metric", f"last, step {steps}", "best ever", "at training step"]
    names = [name for name in rows[-1] if "/" in name]
    assert len(shown) == 1 + len(names) == 5
    for name, (_, last, best, step) in zip(names, shown[1:], strict=True):
        pick = max if name.endswith("accuracy") else min
        top = pick(rows, key=lambda row: row[name])
        assert last == said(name, rows[-1][name])
        assert (best, step) == (said(name, top[name]), f"{top['step']}")
    share = plain(percent(rows[-1]["test/accuracy"]))
    begin = "The network" if steps == 240 else "It was interrupted; so far the network"
    heading = plain(page.all("h1")[0]["text"])
    assert heading.startswith(f"{begin} gets {share} of the") and "right" in heading


def test_the_confusion_is_counted_and_its_shares_are_those_of_its_rows(run):
    out, page, _ = run
    counts = recording.read(out).end.get("confusion")
    if counts is None:
        assert all(each.get("id") != "confusion" for each in page.all("section"))
        return
    heads, *shown = table(page, "confusion")
    assert heads[1:] == [*map(str, range(10)), "right"]
    for label, (name, *cells, share) in enumerate(shown):
        assert name == str(label)
        assert [int(cell or 0) for cell in cells] == counts[label].tolist()
        assert share == plain(percent(float(counts[label, label] / counts[label].sum())))
    assert f"{np.trace(counts)} of {counts.sum()} are right." in plain(page.text("confusion"))


def test_gradients_are_those_that_were_recorded(run):
    out, page, _ = run
    frames = {frame.step: frame.arrays for frame in recording.read(out).frames}
    heads, *shown = table(page, "gradients")
    assert [row[0] for row in shown] == [*LAYERS]
    for place, head in enumerate(heads[1:], 1):
        arrays = frames[int(head.removeprefix("step "))]
        for layer, row in zip(("hidden_1", "hidden_2", "output"), shown):
            assert row[place] == number(float(arrays[f"gradients/layers/{layer}/weight"]), 2)


def test_what_is_said_of_each_example_is_its_likeliest_class(run):
    out, page, _ = run
    seen = recording.read(out)
    chances = softmax(seen.frames[-1].arrays["outputs"].astype(float))[:12]
    words = [plain(e["text"]) for e in page.all("span", **{"class": "sure"})][:12]
    for row, word in zip(chances, words, strict=True):
        sure = f"{100 * row.max():.0f} % sure"
        assert word == ("over 99 % sure" if row.max() > 0.99 else sure)
    guesses = [e["text"] for e in page.all("b", **{"class": "guess"})][:12]
    assert guesses == [str(each) for each in chances.argmax(-1)]


def test_no_example_is_shown_twice_and_the_most_wrong_ones_are_wrong(tmp_path):
    digits(tmp_path)
    end = recording.read(tmp_path).end
    page = page_of(tmp_path)
    at = page.elements.index(next(e for e in page.elements if e.get("id") == "examples"))
    after = [*takewhile(lambda e: e["tag"] != "section", page.elements[at + 1 :])]
    first = next(n for n, e in enumerate(after) if e["tag"] == "h3" and "least" in e["text"])
    marks = [e["text"] for e in after[:first] if "mark" in e.get("class", "").split()]
    wrong = end["worst/outputs"].argmax(-1) != end["worst/labels"]
    assert len(marks) == wrong.sum() and all(mark.startswith("✗ wrong") for mark in marks)
    images = [e["src"] for e in after if e["tag"] == "img"]
    shown = np.concatenate([end[f"{kind}/index"] for kind in ("worst", "uncertain", "best")])
    assert len(set(images)) <= len(images) <= len(np.unique(shown))


def test_a_population_is_ranked_by_its_rows(tmp_path):
    rates = [0.001, 0.01, 0.1]
    rows = curve(
        5,
        test__accuracy=lambda t: [0.51 * t, 0.87 * t, 0.79 * t],
        train__loss=lambda t: [2 - t, 1.2 - t, 1.4 - t],
        train__learning_rate=lambda t: rates,
    )
    ends = {"members": 3, "steps": [50] * 3, "status": ["done"] * 3, "seconds": 1.0}
    last = {name: value for name, value in rows[-1].items() if "/" in name}
    write(tmp_path, {"learning_rate": rates, "seed": 0}, rows, ends | last)
    page = page_of(tmp_path)
    accuracies = last["test/accuracy"]
    order = np.argsort(accuracies)[::-1]
    heads, *shown = table(page, "ranking")
    assert heads[:3] == ["place", "learning rate", "mean accuracy"]
    expected = [
        [str(place), brief(rates[i]), plain(percent(accuracies[i]))]
        for place, i in enumerate(order, 1)
    ]
    assert [row[:3] for row in shown] == expected
    best = plain(percent(max(accuracies)))
    assert f"learning rate 0.01 was the best: the network gets {best}" in plain(
        page.all("h1")[0]["text"]
    )
    heads, *every = table(page, "runs")
    assert heads.count("learning rate") == 1  # although the learner reports it, too
    assert [row[1] for row in every] == [brief(rates[i]) for i in order]


def test_a_run_that_diverged_says_when(tmp_path):
    rows = curve(4, train__loss=lambda t: 2.0 + t, train__accuracy=lambda t: 0.1)
    rows[-1]["train/loss"] = None
    write(tmp_path, {}, rows)
    page = page_of(tmp_path)
    assert plain(page.all("h1")[0]["text"]) == (
        "The training diverged: after 40 training steps its loss was no longer finite."
    )
    shown = {row[0]: row[1:] for row in table(page, "numbers")[1:]}
    assert shown["loss on training examples"] == ["not finite", "2", "10"]
    assert "At training step 40 the loss was infinite" in plain(page.text("advice"))
