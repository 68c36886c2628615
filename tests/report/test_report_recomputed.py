"""The numbers on the page of each kind of run, recomputed from its files and by `predict`.

The kinds are digits, a regression, a run that stopped early, a text and tables; the page of a sweep
has the best of its networks, and is recomputed in `test_report_numbers.py` too.
"""

import csv
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import report
from jaxnn.formatting import amount, brief, percent
from jaxnn.report.phrases import number
from tests.report.test_report import Page, plain
from tests.report.test_report_every_number import rows_of, said, table
from tests.report.test_report_numbers import cells, classified, early, heading, regressed, written
from tests.tables.people import people

pytestmark = pytest.mark.slow

CLASSES = ("digits", "early", "table of classes")
NUMBERS = ("regression", "table of numbers")
KINDS = (*CLASSES, *NUMBERS, "text")


@dataclass(frozen=True)
class Trained:
    """A run with its page, and the inputs and labels of its held-out examples.

    Labels are numbers: of classes in the order of the columns of outputs, or of a regression in the
    unit of the page, as `predicted` is.
    """

    run: Any
    page: Page
    inputs: Any = None
    labels: Any = None

    @property
    def predicted(self) -> np.ndarray:
        outputs = self.run.predict(self.inputs)
        columns = self.run.training.data.columns
        if columns is None or self.run.training.data.arrays["labels"].dtype.kind == "i":
            return outputs
        return columns.decode(outputs).to_numpy()


def digits(out):
    train, test = jaxnn.split(jaxnn.datasets.digits(), 0.2)
    learner = jaxnn.learner(jaxnn.mlp([12], 10), jaxnn.classification(), optax.adam(3e-3))
    run = jaxnn.fit(
        learner, jaxnn.resident(train, batch_size=64), steps=60, every=20, quiet=True, out=out,
        key=jax.random.key(0), evaluate=jaxnn.resident(test, batch_size=100),
    )  # fmt: skip
    return run, test["inputs"], test["labels"]


def of_table(out, label):
    rest, test = jaxnn.split_table(people(120), 0.3)
    columns = jaxnn.fit_columns(rest, labels=label, ignore=["id"])
    learner = jaxnn.learner(columns.network([4]), columns.objective(), optax.adam(1e-2))
    data, held_out = (jaxnn.resident(columns.encode(x), batch_size=42) for x in (rest, test))
    run = jaxnn.fit(
        learner, data, steps=8, key=jax.random.key(0), evaluate=held_out, quiet=True, out=out
    )
    fields = columns.encode(test)
    labels = fields["labels"] if label == "quality" else test[label].to_numpy()
    return run, fields["inputs"], labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns `trained(kind)`; each run is trained once."""
    folder = tmp_path_factory.mktemp("recomputed")

    @cache
    def make(kind):
        out = jaxnn.Directory(folder / kind.replace(" ", "-"), config={"size": 3}, report=True)
        if kind == "regression":
            run, test = regressed(out)
            run = run, test["inputs"], test["labels"]
        elif kind == "early":
            run = early(out), *(classified()[1][name] for name in ("inputs", "labels"))
        elif kind == "text":
            run = (written(out),)
        elif kind == "digits":
            run = digits(out)
        else:
            run = of_table(out, "quality" if kind == "table of classes" else "age")
        return Trained(run[0], Page(report.write(run[0].out).read_text()), *run[1:])

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_all_results_are_those_of_the_rows(kind, trained):
    run, page = trained(kind).run, trained(kind).page
    rows, (heads, *shown) = rows_of(run.out), table(page, "numbers")
    result = json.loads((run.out / "result.json").read_text())
    names = [name for name in rows[-1] if "/" in name]
    assert len(shown) == len(names) and heads[-3] == f"last, step {rows[-1]['step']}"
    best = result.get("best/step", rows[-1]["step"])
    watched = best != rows[-1]["step"]
    assert heads[1:-3] == ([f"best state, step {best}"] if watched else [])
    for name, (_, *at_best, last, top, step) in zip(names, shown, strict=True):
        assert last == said(name, rows[-1][name])
        if name.endswith("learning_rate"):
            assert (top, step) == ("", "")
            continue
        pick = max if name.endswith(("accuracy", "r2")) else min
        of_best = pick(rows, key=lambda row: row[name])
        assert (top, step) == (said(name, of_best[name]), f"{of_best['step']}")
        if watched and not name.startswith("train/"):
            assert at_best == [said(name, result[f"best/{name}"])]


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_time_and_settings_are_those_of_the_run(kind, trained):
    run, page = trained(kind).run, trained(kind).page
    heads, *parts = table(page, "network")
    sizes = [leaf.size for leaf in jax.tree.leaves(run.state.params)]
    parameters = [int(row[heads.index("parameters")].replace(",", "")) for row in parts]
    assert parameters[-1] == sum(sizes)
    memory = heads.index("memory")
    assert plain(parts[-1][memory]) == plain(amount(4 * sum(sizes), "B"))
    times = {name: plain(value) for name, value in cells(page, "speed").items()}
    assert float(times["time in all"].split()[0]) == pytest.approx(run.result["seconds"], abs=0.5)
    assert cells(page, "hyperparameters") == {"name": "value", "size": "3"}


@pytest.mark.parametrize("kind", CLASSES)
def test_the_confusion_is_that_of_the_predictions(kind, trained):
    this = trained(kind)
    counts = np.zeros((this.predicted.shape[-1],) * 2, int)
    np.add.at(counts, (this.labels, this.predicted.argmax(-1)), 1)
    _, *shown = table(this.page, "confusion")
    for label, (_, *values, share) in enumerate(shown):
        assert [int(value or 0) for value in values] == counts[label].tolist()
        assert share == plain(percent(float(counts[label, label] / counts[label].sum())))
    right = f"{np.trace(counts)} of {counts.sum()} are right"
    assert right in plain(this.page.text("confusion"))
    share = plain(percent(float(np.trace(counts) / counts.sum())))
    assert f"gets {share} of the {counts.sum()} held-out examples right" in heading(this.page)


@pytest.mark.parametrize("kind", NUMBERS)
def test_the_error_and_the_examples_are_those_of_the_predictions(kind, trained):
    this = trained(kind)
    predicted, labels = this.predicted.ravel(), np.ravel(this.labels)
    error = np.abs(predicted - labels)
    explained = 1 - np.sum(error**2) / np.sum((labels - labels.mean()) ** 2)
    figures = f"R² {number(explained)} and a mean absolute error of {number(error.mean())}"
    assert figures in heading(this.page)
    assert f"{len(labels)} held-out examples" in plain(this.page.text("fit"))
    guesses = [e["text"] for e in this.page.all("b") if "guess" in e.get("class", "")]
    marks = [e["text"] for e in this.page.all("span", **{"class": "mark"})]
    pairs = {(number(float(p)), f"it is {number(float(y))}") for p, y in zip(predicted, labels)}
    assert guesses and {*zip(guesses, marks)} <= pairs


def test_a_sweep_says_the_means_of_its_seeds(tmp_path):
    out = jaxnn.Directory(tmp_path / "sweep", report=True)
    jaxnn.fit_sweep(
        jaxnn.sweep({"learning_rate": [0.01, 0.1]}, seeds=3),
        lambda values, runs, out: early(out, key=runs.key, hparams=runs.hparams),
        out=out, metric="test/loss", quiet=True,
    )  # fmt: skip
    page = Page((tmp_path / "sweep" / "report.html").read_text())
    with open(tmp_path / "sweep" / "sweep.csv") as file:
        rows = list(csv.DictReader(file))
    losses = {}
    for row in rows:
        losses.setdefault(float(row["learning_rate"]), []).append(float(row["best/test/loss"]))
    order = sorted(losses, key=lambda rate: np.mean(losses[rate]))
    _, *shown = table(page, "ranking")
    for place, (rate, row) in enumerate(zip(order, shown, strict=True), 1):
        values = np.array(losses[rate])
        figures = [number(x) for x in (values.mean(), values.std(ddof=1), values.min())]
        assert row == [str(place), brief(rate), *figures, "3"]
    heads, *networks = table(page, "runs")
    assert len(networks) == len(rows) == 6
    shown = {(row[1], row[2]): row[heads.index("loss on held-out examples")] for row in networks}
    for row in rows:
        best = number(float(row["best/test/loss"]))
        assert shown[brief(float(row["learning_rate"])), row["seed"]] == best
