"""The pages of sweeps, of populations, and of several runs together."""

import json
import math
import re

import pytest

import jaxnn
from jaxnn import report
from jaxnn.__main__ import main
from jaxnn.catalog import sweeps
from jaxnn.report import source as sources
from jaxnn.report.advice import advice
from jaxnn.report.compare import of_runs
from tests.pages import HOSTILE, Page, plain
from tests.recorded import curve, write

RATES = (0.001, 0.01, 0.1)
# The accuracy of each rate, of a small and of a large network; the last one diverges.
REACHED = {8: (0.5, 0.7, 0.6), (16, 16): (0.6, 0.9, None)}


def sweep(out, reached=REACHED, rates=RATES):
    """Writes the directory of a sweep, as `fit_sweep` leaves it: 2 seeds of each setting."""
    table = []
    # Its groups are not in the order of their names.
    for name, hidden in (("hidden=8", 8), ("hidden=16x16", (16, 16))):
        ends = [value for value in reached[hidden] for _ in (0, 1)]
        ends = [v and v + 0.01 * (i % 2) for i, v in enumerate(ends)]
        rows = curve(5, test__accuracy=lambda t, ends=ends: [v and v * (0.5 + t / 2) for v in ends])
        status = ["diverged" if value is None else "done" for value in ends]
        last = {"test/accuracy": rows[-1]["test/accuracy"]}
        steps = [20 if value is None else 50 for value in ends]
        result = {"members": len(ends), "steps": steps, "status": status, "seconds": 1.0} | last
        write(out / name, {"hidden": hidden}, rows, result)
        found = [
            {"hidden": hidden, "learning_rate": rate, "seed": seed}
            for rate in rates
            for seed in (0, 1)
        ]
        table += sweeps.rows(found, result)
    groups = [(name, 2 * len(rates)) for name in ("hidden=8", "hidden=16x16")]
    table_of = sweeps.Table(["hidden", "learning_rate"], groups, table)
    (out / sweeps.FILE).write_bytes(sweeps.encode(table_of))
    result = {"experiment": "small", "runs": len(table), "groups": 2, "steps": 1, "seconds": 2.0}
    result |= {"diverged": 2, "metric": "test/accuracy", "test/accuracy": 0.905}
    write(out, {"rates": list(rates)}, [], result)
    return table


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweeps") / "run"
    return sweep(out), Page(report.write(out).read_text()), sources.read(out)


def test_the_page_of_a_sweep_says_which_setting_was_best(swept):
    _, page, source = swept
    assert plain(page.all("h1")[0]["text"]) == (
        "Of 6 settings, hidden 16x16 and learning rate 0.01 was the best: the network gets 90.5 %"
        " of the held-out examples right, on average over 2 seeds."
    )
    names = [each["id"] for each in page.all("section")]
    assert names[:6] == ["advice", "winner", "map", "ranking", "curves", "runs"]
    assert not [each for each in page.elements if each.get("class") == "missing"]
    assert [each.title for each in advice(source)] == ["2 of 12 networks diverged"]
    best = source.settings[0]
    assert best.values == {"hidden": (16, 16), "learning_rate": 0.01} and best.runs == 2


def test_every_number_of_a_sweep_is_on_its_page(swept):
    table, page, _ = swept
    told = [float(each["value"]) for each in page.all("data") if each["value"]]
    finite = [row["test/accuracy"] for row in table if not math.isnan(row["test/accuracy"])]
    assert set(finite) <= set(told)
    means = {(row["hidden"], row["learning_rate"]): [] for row in table}
    for row in table:
        means[row["hidden"], row["learning_rate"]].append(row["test/accuracy"])
    for each in means.values():
        mean = sum(each) / 2
        assert math.isnan(mean) or min(abs(mean - value) for value in told) < 1e-12


def test_the_curves_are_of_the_networks_that_they_are_named_after(swept):
    """The groups of the table are found again by their numbers, whatever their folders are."""
    _, _, source = swept
    for rows, places in source.groups:
        last = rows[-1]["test/accuracy"]
        told = [source.table[place]["test/accuracy"] for place in places]
        assert [v for v in last if v is not None] == [v for v in told if not math.isnan(v)]
    assert sorted(place for _, places in source.groups for place in places) == [*range(12)]


def test_a_best_value_at_the_edge_is_said(tmp_path):
    sweep(tmp_path, {8: (0.1, 0.2, 0.3), (16, 16): (0.1, 0.2, 0.4)})
    titles = [each.title for each in advice(sources.read(tmp_path))]
    assert titles == ["The best learning rate is at the edge of the sweep"]


def test_a_sweep_that_goes_on_has_a_page(tmp_path):
    sweep(tmp_path)
    (tmp_path / "result.json").unlink()
    page = Page(report.write(tmp_path).read_text())
    assert "map" in [each["id"] for each in page.all("section")]
    assert not [each for each in page.elements if each.get("class") == "missing"]


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n",
        '{"fields": [], "groups": [["population", 2]], "rows": []}',
        '{"fields": ["rate"], "groups": [["population", 1]], "rows": [{"seed": 1}]}',
        '{"fields": 1, "groups": [], "rows": []}',
        '{"fields": [], "groups": [], "rows": [1]}',
        '{"fields": [], "groups": [["a", 1]], "rows": [{"seed": {}, "status": "", "steps": 1}]}',
    ],
)
def test_a_table_that_is_none_is_said(content, tmp_path):
    sweep(tmp_path)
    (tmp_path / sweeps.FILE).write_text(content)
    page = Page(report.write(tmp_path).read_text())
    assert "map" not in [each["id"] for each in page.all("section")]
    titles = [each.title for each in advice(sources.read(tmp_path))]
    assert "sweep.json is corrupt" in titles


def test_a_population_is_ranked(tmp_path):
    rows = curve(5, test__loss=lambda t: [3 - t, 2 - t, 2.5 - t])
    ends = {"members": 3, "steps": [50] * 3, "status": ["done"] * 3, "seconds": 1.0}
    write(tmp_path, {"seed": [7, 8, 9]}, rows, ends | {"test/loss": [2.0, 1.0, 1.5]})
    page = Page(report.write(tmp_path).read_text())
    table = next(each for each in page.all("section", id="ranking"))["text"]
    assert re.findall(r"(\d)done", table) == ["8", "9", "7"]
    assert "map" not in [each["id"] for each in page.all("section")]
    heading = plain(page.all("h1")[0]["text"])
    assert heading == (
        "3 networks that differ only in their seeds: the median loss on held-out examples is 1.5,"
        " and the best is 1."
    )


# --- Several runs --------------------------------------------------------------------------------


def run(path, loss, config, seconds=1.0):
    rows = curve(5, test__loss=lambda t: loss * (2 - t), train__loss=lambda t: loss * (2 - t))
    last = {"test/loss": loss, "train/loss": loss}
    write(path, config, rows, {"steps": 50, "seconds": seconds, "status": "done", **last})
    return path


def test_runs_are_compared(tmp_path, capsys):
    one = run(tmp_path / "one", 0.5, {"rate": 0.1, "hidden": [64], "same": 1})
    two = run(tmp_path / "two", 0.25, {"rate": 0.2, "hidden": [64], "same": 1})
    out = tmp_path / "page.html"
    assert main(["compare", str(one), str(two), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"runs": [str(one), str(two)], "report": str(out)}
    page = Page(out.read_text())
    heading = "Of 2 runs, two is the best: its loss on held-out examples is 0.25."
    assert page.all("h1")[0]["text"] == heading
    table = next(each for each in page.all("section", id="results"))["text"]
    assert table.count("★") == 3  # both losses, and what the sign means
    differ = next(each for each in page.all("section", id="differences"))["text"]
    differ = differ.partition("Not known")[0]
    assert "rate" in differ and "0.2" in differ and "hidden" not in differ and "same" not in differ
    assert not [each for each in page.elements if each.get("class") == "missing"]


def test_runs_of_one_name_are_told_apart(tmp_path):
    paths = [run(tmp_path / place / "run", 0.5, {}) for place in ("a", "b")]
    page = Page(report.write_comparison(paths, tmp_path / "page.html").read_text())
    table = next(each for each in page.all("section", id="results"))["text"]
    assert "a/run" in table and "b/run" in table
    assert page.all("h1")[0]["text"].startswith("2 of 2 runs are equally good: ")
    assert "hyper-parameters of a/run and b/run were not recorded" in page.text("differences")


def test_a_dollar_sign_in_the_name_of_a_run_is_one_in_its_curves(tmp_path):
    paths = [run(tmp_path / name, 0.5, {}) for name in ("a$b$c", "d")]
    page = Page(report.write_comparison(paths, tmp_path / "page.html").read_text())
    assert [each["text"] for each in page.all("text") if "a$b$c" in each["text"]]
    assert "a\\$b" not in page.text("curves")


def test_a_run_and_a_population_are_compared(tmp_path):
    one = run(tmp_path / "one", 0.5, {"seed": 0})
    rows = curve(5, test__loss=lambda t: [3 - t, 2 - t, None])
    ends = {"members": 3, "steps": [50] * 3, "status": ["done"] * 3, "seconds": 1.0}
    write(tmp_path / "many", {"seed": [0, 1, 2]}, rows, ends | {"test/loss": [2.0, 1.0, None]})
    file = report.write_comparison([one, tmp_path / "many"], tmp_path / "page.html")
    told = [float(each["value"]) for each in Page(file.read_text()).all("data") if each["value"]]
    assert {0.5, 1.5} <= set(told)  # the middle of two
    assert not [e for e in Page(file.read_text()).elements if e.get("class") == "missing"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["one"], "there is nothing to compare.*jaxnn compare runs/one runs/other"),
        (["one", "one"], "there is nothing to compare"),
        (["one", "other"], "have no metric in common.*jaxnn report RUN"),
        (["one", "empty"], "have no metric in common.*empty: none"),
        (["one", "missing"], "missing is not there"),
    ],
)
def test_what_cannot_be_compared(names, words, tmp_path, capsys):
    run(tmp_path / "one", 0.5, {})
    write(tmp_path / "other", {}, curve(3, test__reward=lambda t: t), {"steps": 30})
    write(tmp_path / "empty", {}, [])
    out = tmp_path / "page.html"
    with pytest.raises(jaxnn.InvalidValue, match=words):
        report.write_comparison([tmp_path / name for name in names], out)
    paths = [str(tmp_path / name) for name in names]
    assert main(["compare", *paths, "--out", str(out)]) == 2
    assert not out.exists() and "Got" in capsys.readouterr().err


def test_what_runs_say_becomes_no_markup(tmp_path):
    names = [text.replace("/", "").replace("\x00", "")[:80] or "x" for text in HOSTILE[:6]]
    texts = zip(names, HOSTILE)
    paths = [run(tmp_path / name, 0.5, {text: text, "same": 1}) for name, text in texts]
    runs = {path.name: sources.read(path) for path in paths}
    page = Page(of_runs(runs).encode(errors="replace").decode())
    assert not [each for each in page.elements if "onerror" in each or "onload" in each]
    assert not page.all("img") and not page.all("b", id="injected") and len(page.all("script")) == 1
    assert not [each for each in page.elements if each.get("class") == "missing"]
