"""The report of a run: facts about the page, told without a browser."""

import base64
import hashlib
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

import jaxnn
from jaxnn import report
from jaxnn.__main__ import main
from jaxnn.pictures._network import drawn_order
from jaxnn.report import source as sources
from jaxnn.report.advice import advice
from jaxnn.report.headline import sentence
from jaxnn.report.packed import levels, pixels, png, shares
from jaxnn.storage import recording
from tests.pages import HOSTILE, Page, page_of, plain
from tests.recorded import MOMENTS, curve, digits, write


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run with all that there may be, its result and its page."""
    out = tmp_path_factory.mktemp("reports") / "digits"
    result = digits(out)
    file = report.write(out)
    return out, result, Page(file.read_text())


def advised(out):
    return [each.title for each in advice(sources.read(out))]


def test_the_page_has_all_that_there_is_to_show(made):
    _, _, page = made
    names = [each["id"] for each in page.all("section")]
    assert names == [
        "learning", "advice", "curves", "confusion", "examples", "numbers", "weights",
        "activations", "gradients", "network", "hyperparameters", "speed", "again",
    ]  # fmt: skip
    assert not [each for each in page.elements if each.get("class") == "missing"]
    # Every section has a heading and says how to read it, and is named in the contents.
    heads = {each["text"] for each in page.all("h2")}
    assert {each["text"] for each in page.all("a") if each["href"] != "#main"} == heads
    assert len(page.all("p", **{"class": "lead"})) == len(names) - 1  # advice speaks for itself


def test_the_heading_tells_the_result(made):
    _, result, page = made
    right = f"{100 * result['test/accuracy']:.1f} %"
    heading = f"The network gets {right} of the 397 held-out examples right, after 240 training"
    assert plain(page.all("h1")[0]["text"]) == f"{heading} steps in 1.7 seconds."


def test_the_numbers_are_those_of_the_result(made):
    out, result, page = made
    result = json.loads((out / "result.json").read_text())
    told = [float(each["value"]) for each in page.all("data") if each["value"]]
    assert {value for name, value in result.items() if "/" in name} <= set(told)


def test_what_the_script_is_given_is_what_was_recorded(made):
    out, _, page = made
    told = json.loads(page.text("recorded"))
    recorded = recording.read(out)
    frames = recorded.frames
    assert told["steps"] == list(MOMENTS)
    accuracies = [float(frame.arrays["metrics/accuracy"]) for frame in frames]
    assert told["values"] == pytest.approx(accuracies)
    assert [plain(each) for each in told["figures"]][:2] == [
        f"{100 * accuracies[0]:.1f} %",
        f"{100 * accuracies[1]:.1f} %",
    ]
    for layer, name in zip(told["wires"], ("hidden_1", "hidden_2", "output"), strict=True):
        for leaf, key in (("wires", "weights"), ("biases", "biases")):
            truth = np.stack([f.arrays[f"{leaf}/layers/{name}/weight"] for f in frames])
            if leaf == "wires":  # in the order in which the picture has them
                truth = truth.reshape(len(frames), -1)[:, drawn_order(truth[-1])]
            np.testing.assert_allclose(unpacked(layer[key]), truth, atol=layer[key]["scale"] / 254)
    truth = np.stack([frame.arrays["outputs"] for frame in frames])[:, :12]
    assert told["examples"]["guesses"] == truth.argmax(-1).tolist()
    assert told["examples"]["labels"] == recorded.probe["labels"][:12].tolist()
    chances = np.frombuffer(base64.b64decode(told["examples"]["chances"]["data"]), np.uint8)
    powers = np.exp(truth - truth.max(-1, keepdims=True))
    exact = powers / powers.sum(-1, keepdims=True)
    np.testing.assert_allclose(chances.reshape(exact.shape) / 254, exact, atol=1 / 500)


def unpacked(packed):
    data = np.frombuffer(base64.b64decode(packed["data"]), np.int8).astype(float)
    return np.where(data == -128, np.nan, data / 127 * packed["scale"]).reshape(packed["shape"])


def test_every_wire_that_the_script_moves_is_in_the_picture(made):
    _, _, page = made
    for layer in json.loads(page.text("recorded"))["wires"]:
        for group, values in (("wires", "weights"), ("nodes", "biases")):
            at = next(n for n, e in enumerate(page.elements) if e.get("id") == layer[group])
            paths = itertools.takewhile(lambda e: e["tag"] == "path", page.elements[at + 1 :])
            assert len([*paths]) == layer[values]["shape"][1]


def test_the_page_is_one_file_that_may_do_nothing_else(made):
    out, _, page = made
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    script = [each["text"] for each in page.all("script") if "type" not in each]
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert len(script) == 1 and f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ") and "unsafe-eval" not in policy
    addresses = [
        each[k] for each in page.elements for k in ("src", "href", "xlink:href") if k in each
    ]
    assert {re.split("[:#]", address)[0] for address in addresses} <= {"data", ""}
    assert not [name for each in page.elements for name in each if name.startswith("on")]
    styles = " ".join(e.get("style", "") for e in page.elements) + page.all("style")[0]["text"]
    assert "@import" not in styles and not re.search(r"url\((?!#)", styles)
    assert (out / "report.html").stat().st_size < 700_000


def test_the_page_is_written_for_all_readers(made):
    _, _, page = made
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("nav")) == 1
    assert page.all("html")[0]["lang"] == "en" and page.all("title")[0]["text"]
    ids = [each["id"] for each in page.elements if "id" in each]
    assert len(ids) == len(set(ids))
    for each in page.all("img"):
        assert each["alt"]
    for each in [*page.all("canvas"), *page.all("svg", role="img"), *page.all("input")]:
        assert each["aria-label"]
    for each in page.all("th"):
        assert each["scope"] in ("col", "row")
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(f"{each['id']}-title" in ids for each in page.all("section"))


def test_right_and_wrong_are_told_by_words(made):
    _, _, page = made
    marks = [e["text"] for e in page.elements if (e.get("class") or "").startswith("mark ")]
    assert {mark.split(":")[0] for mark in marks} == {"✓ right", "✗ wrong"}


def hostile(out):
    """Writes the directory of a run that has what is hostile in every field."""
    everything = " ".join(HOSTILE)
    config = {text: text for text in HOSTILE} | {"list": [*HOSTILE], "seed": None}
    digits(out, name=everything, config=config, steps=20)
    about = json.loads((out / "recording/about.json").read_text())
    about |= {"classes": 10, "names": [*HOSTILE, "a", "b", "c"], "kind": "classification"}
    about["probe"]["of"] = everything
    texts = dict(zip(("part", "kind", "output"), HOSTILE))
    about["table"]["rows"] = [row | texts for row in about["table"]["rows"]]
    for place, layer in enumerate(about["diagram"]["layers"]):
        layer |= {"name": HOSTILE[place], "activation": HOSTILE[-place - 1]}
    (out / "recording/about.json").write_text(json.dumps(about))
    frame = recording.read(out).frames[-1]
    more = {f"{kind}/{text}": np.ones((2, 3), np.float32) for text in HOSTILE[:5] for kind in
            ("params", "activations", "gradients", "quiet", "metrics")}  # fmt: skip
    recording.write(out / "recording", recording.frame_name(20), frame.arrays | more)
    (out / "speed.json").write_text(json.dumps({"memory_of": everything, "compilations": HOSTILE}))
    (out / "command.txt").write_text(everything.encode(errors="replace").decode())
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rows = [row | {f"{text}/{text}": 1.0 for text in HOSTILE} for row in rows]
    result = json.loads((out / "result.json").read_text())
    write(out, config, rows, result | {f"{text}/loss": None for text in HOSTILE})


def test_nothing_that_a_run_says_becomes_markup(made, tmp_path):
    hostile(tmp_path / "run")
    page, (_, _, plainly) = page_of(tmp_path / "run"), made
    missing = [each["text"] for each in page.elements if each.get("class") == "missing"]
    assert missing == []
    # Nothing but what the page of another run has, and a list of what stands out.
    assert {e["tag"] for e in page.elements} <= {e["tag"] for e in plainly.elements} | {"ul", "li"}
    attributes = {name for each in plainly.elements for name in each}
    assert {name for each in page.elements for name in each} <= attributes
    assert "injected" not in [each.get("id") for each in page.elements]
    # Nothing turns the direction of the words around it.
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", (tmp_path / "run/report.html").read_text())
    assert len(page.all("script")) == 2
    assert (tmp_path / "run/report.html").stat().st_size < 900_000  # what is long is cut


def test_every_layer_has_its_place_and_a_label_of_its_own_however_deep(tmp_path):
    digits(tmp_path, steps=20)
    folder = tmp_path / "recording"
    inner = [f"body/block_{n}/attention/branch/{each}/inside/one/more/weight" for n in (1, 2)
             for each in ("attention", "position")]  # fmt: skip
    for frame in recording.read(tmp_path).frames:
        arrays = {n: a for n, a in frame.arrays.items() if not n.startswith("params/")}
        arrays |= {f"params/{name}": np.ones((2, 3), np.float32) for name in inner}
        recording.write(folder, recording.frame_name(frame.step), arrays)
    texts = [each["text"] for each in page_of(tmp_path).elements if each["tag"] == "text"]
    for n in (1, 2):
        for each in ("attention", "position"):
            assert [t for t in texts if t.startswith(f"block {n}") and t.endswith(each)]


# --- Runs of every kind --------------------------------------------------------------------------


def test_a_run_that_was_not_recorded_has_a_page_too(tmp_path):
    rows = curve(10, train__loss=lambda t: 1 - t, test__loss=lambda t: 1 - t / 2)
    write(
        tmp_path,
        {"a": 1},
        rows,
        {"experiment": "x", "steps": 100, "seconds": 1.0, "status": "done"},
    )
    page = page_of(tmp_path)
    names = [each["id"] for each in page.all("section")]
    assert names == ["advice", "curves", "numbers", "hyperparameters", "speed", "again"]
    heading = "The loss on held-out examples is 0.5, after 100 training steps in 1 second."
    assert plain(page.all("h1")[0]["text"]) == heading


def test_a_run_with_no_report_yet_has_a_page_too(tmp_path):
    write(tmp_path, {"a": 1}, [])
    page = page_of(tmp_path)
    assert page.all("h1")[0]["text"] == "This run has not reported anything yet."


def test_an_unfinished_run_says_how_far_it_came(tmp_path):
    digits(tmp_path, finished=False, steps=120)
    page = page_of(tmp_path)
    heading = plain(page.all("h1")[0]["text"])
    assert heading.startswith("It was interrupted; so far the network gets ")
    assert "after 120 of 240 training steps in 0.8 seconds" in heading
    assert "It was interrupted before its end" in advised(tmp_path)
    assert "learning" in [each["id"] for each in page.all("section")]
    best = Path(__file__).parents[1] / "golden" / "format-3" / "adapted"  # watches a metric
    told = plain(sentence(sources.read(best)))
    assert "in its best state, of step 6, after 12 training steps in 10 seconds." in told


def test_a_run_that_diverged_says_so_and_has_gaps(tmp_path):
    digits(tmp_path, finished=False, steps=120)
    frame = recording.read(tmp_path).frames[-1]
    lost = {name: np.full_like(array, np.nan) for name, array in frame.arrays.items()}
    recording.write(tmp_path / "recording", recording.frame_name(120), lost)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 140, "seconds": 2.0, "train/loss": null, "test/accuracy": null}\n')
    page = page_of(tmp_path)
    assert "diverged" in page.all("h1")[0]["text"]
    assert "The training diverged" in advised(tmp_path)
    told = json.loads(page.text("recorded"))
    assert told["values"][-1] is None and told["figures"][-1] == "not finite"
    assert np.isnan(unpacked(told["wires"][0]["weights"])[-1]).all()
    assert set(told["examples"]["guesses"][-1]) == {-1}
    assert not [each for each in page.elements if each.get("class") == "missing"]


def test_what_is_damaged_is_passed_over_and_said(tmp_path):
    digits(tmp_path, steps=40)
    folder = tmp_path / "recording"
    (folder / recording.frame_name(10)).write_bytes(b"no archive")
    (tmp_path / "speed.json").write_text("{")
    page = page_of(tmp_path)
    assert json.loads(page.text("recorded"))["steps"] == [0, 2, 5, 20, 40]
    assert {"recording is corrupt", "speed.json is corrupt"} <= set(advised(tmp_path))
    (folder / recording.ABOUT).write_text("[]")
    page = page_of(tmp_path)
    assert "learning" not in [each["id"] for each in page.all("section")]
    assert "recording is corrupt" in advised(tmp_path)


def test_a_timeline_of_two_steps_may_begin_at_the_best_state(tmp_path):
    digits(tmp_path, steps=20)
    for step in (0, 2, 5):
        (tmp_path / "recording" / recording.frame_name(step)).unlink()
    result = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps({**result, "best/step": 10}))
    assert json.loads(page_of(tmp_path).text("recorded"))["steps"] == [10, 20]


def test_a_section_that_cannot_be_drawn_says_why(tmp_path):
    digits(tmp_path, steps=20)
    about = json.loads((tmp_path / "recording/about.json").read_text())
    about |= {"diagram": {"layers": [{}]}, "table": {"rows": [{"part": "p"}]}, "names": 3}
    (tmp_path / "recording/about.json").write_text(json.dumps(about))
    page = page_of(tmp_path)
    missing = [each["text"] for each in page.elements if each.get("class") == "missing"]
    assert missing and all(words.startswith("This cannot be shown: ") for words in missing)
    assert {"curves", "numbers"} <= {each["id"] for each in page.all("section")}


def test_the_parts_of_a_run_are_listed(tmp_path):
    rows = curve(4, train__loss=lambda t: 1 - t / 2)
    write(tmp_path, {"a": 1}, rows, {"steps": 40, "seconds": 1.0})
    write(tmp_path / "first", {"a": 1}, rows, {"steps": 40, "seconds": 1.0})
    page = page_of(tmp_path)
    place = [each["text"] for each in page.all("section", id="parts")]
    assert "first" in place[0] and "0.5" in place[0]


def test_an_empty_directory_is_no_run(tmp_path, capsys):
    with pytest.raises(jaxnn.InvalidValue, match="is not a run directory"):
        report.write(tmp_path)
    assert main(["report", str(tmp_path)]) == 2
    assert main(["report", str(tmp_path / "missing")]) == 2
    assert "Did you mean" in capsys.readouterr().err or not [*tmp_path.parent.glob("missin*")]
    assert [*tmp_path.iterdir()] == []


def test_the_command_writes_the_page_and_prints_where(tmp_path, capsys):
    rows = curve(4, train__loss=lambda t: 1 - t)
    write(tmp_path / "run", {}, rows, {"steps": 40, "seconds": 1.0})
    assert main(["report", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run/report.html")
    other = tmp_path / "other.html"
    assert main(["report", str(tmp_path / "run"), "--out", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "run": str(tmp_path / "run"),
        "report": str(other),
    }
    assert Page(other.read_text()).all("h1")
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "no/x.html")]) == 6


# --- Findings ------------------------------------------------------------------------------------


def stands_out(tmp_path, **metrics):
    rows = curve(12, **metrics)
    write(tmp_path, {}, rows, {"steps": 120, "seconds": 1.0, "status": "done"})
    return advised(tmp_path)


@pytest.mark.parametrize(
    ("metrics", "title"),
    [
        (
            {"train__loss": lambda t: 1 - 0.9 * t, "test__loss": lambda t: 1 + (t - 0.4) ** 2},
            "It over-fits: it learns its training examples by heart",
        ),
        (
            {"train__loss": lambda t: 1 - 0.9 * t, "test__loss": lambda t: 1 - 0.1 * t}
            | {"train__accuracy": lambda t: t, "test__accuracy": lambda t: t / 2},
            "It does much better on what it was trained on",
        ),
        ({"train__loss": lambda t: 2.3}, "It has hardly learned"),
        ({"train__loss": lambda t: max(0.5, 1 - 2 * t)}, "The last third changed nothing"),
        (
            {"train__loss": lambda t: 1 - 0.9 * t, "train__skipped": lambda t: 0.25},
            "25.0 % of the training steps were skipped",
        ),
        (
            {"train__loss": lambda t: 1 - 0.9 * t, "test__loss": lambda t: t if t else None},
            "Some numbers were not finite",
        ),
    ],
)
def test_what_stands_out_is_said(metrics, title, tmp_path):
    assert [plain(each) for each in stands_out(tmp_path, **metrics)] == [title]


def test_a_good_run_has_nothing_that_stands_out(tmp_path):
    good = {"train__loss": lambda t: 0.1 ** (t + 0.1), "test__loss": lambda t: 0.15 ** (t + 0.1)}
    assert stands_out(tmp_path, **good) == []


def test_dead_nodes_and_an_early_end_are_said(tmp_path):
    digits(tmp_path, steps=20)
    frame = recording.read(tmp_path).frames[-1]
    quiet = {"quiet/hidden_1": np.float32(0.25), "quiet/hidden_2": np.float32(0.0)}
    recording.write(tmp_path / "recording", recording.frame_name(20), frame.arrays | quiet)
    result = json.loads((tmp_path / "result.json").read_text()) | {"status": "stopped"}
    (tmp_path / "result.json").write_text(json.dumps(result))
    found = {each.title: each for each in advice(sources.read(tmp_path))}
    assert plain(found["Some nodes do nothing"].what).startswith("25.0 % of the nodes of hidden 1")
    assert "hidden 2" not in found["Some nodes do nothing"].what
    assert "It stopped early, as it was asked to" in found


# --- Packing -------------------------------------------------------------------------------------


def test_an_image_is_the_one_that_other_programs_read():
    from io import BytesIO

    from PIL import Image

    draws = np.random.default_rng(0)
    for shape in ((5, 7), (4, 6, 3)):
        image = draws.integers(0, 256, shape, np.uint8)
        data = base64.b64decode(png(image).removeprefix("data:image/png;base64,"))
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(data))), image)


def test_packed_numbers_are_near_and_what_is_not_finite_is_marked():
    values = np.array([[0.3, -2.0], [np.nan, np.inf]])
    packed = levels(values)
    np.testing.assert_allclose(unpacked(packed), [[0.3, -2.0], [np.nan, np.nan]], atol=2 / 250)
    assert levels(np.zeros(3))["scale"] == 1.0
    part = np.frombuffer(base64.b64decode(shares([0.0, 1.0, np.nan, 7.0])["data"]), np.uint8)
    assert part.tolist() == [0, 254, 255, 254]


def test_only_what_is_an_image_is_shown_as_one():
    assert pixels(np.zeros((3, 8, 8)), None).shape == (3, 8, 8)
    assert pixels(np.zeros((3, 8, 8, 1))).shape == (3, 8, 8)
    assert pixels(np.zeros((3, 64)), (8, 8, 1)).shape == (3, 8, 8)
    assert pixels(np.zeros((3, 8, 8, 3))).shape == (3, 8, 8, 3)
    assert pixels(np.zeros((3, 64))) is None and pixels(np.zeros((3, 2, 9))) is None
    assert pixels(np.array([[[0.0, 1.0]] * 4] * 2).repeat(2, 2))[0, 0].tolist() == [0, 0, 255, 255]


def test_sentences(tmp_path):
    members = {"train/loss": [0.5, 0.7, None], "test/accuracy": [0.9, 0.8, None]}
    rows = [{"step": 10, "seconds": 1.0, "running": 2, **members}]
    result = {"members": 3, "steps": [10, 10, 4], "status": ["done", "done", "diverged"]}
    write(tmp_path, {"seed": [0, 1, 2]}, rows, result | {"seconds": 1.0, **members})
    told = plain(sentence(sources.read(tmp_path)))
    assert told == (
        "3 networks that differ only in their seeds: the median gets 85.0 % of the held-out"
        " examples right, and the best 90.0 %."
    )
    assert advised(tmp_path)[0] == "1 of 3 networks diverged"
    assert Path(report.write(tmp_path)).exists()
