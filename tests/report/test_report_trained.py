"""The pages of really trained runs of each kind: every number recomputed by other libraries.

What is predicted for the held-out examples is scored by scikit-learn, sums are NumPy's. A table is
compared row by row, so a row or a number that is not accounted for here fails.
"""

import math
import re
import statistics
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from sklearn import metrics

import jaxnn
from jaxnn.formatting import amount
from tests.pages import Page, plain
from tests.report.test_report_every_number import rows_of, said, table
from tests.report.test_report_numbers import TEXT, classified, early, heading, notes, regressed
from tests.tables.people import people

KINDS = ("digits", "regression", "table", "text", "early")
NAMES = {"mae": "mean absolute error (mae)", "r2": "explained share of the variance (r2)"}
NAMES |= {"bits_per_byte": "bits per character"}
TABLES = {"confusion", "numbers", "gradients", "network", "hyperparameters", "speed", "again"}


class Trained(NamedTuple):
    """A run, its page, and what scikit-learn says of its predictions for held-out examples."""

    run: Any
    page: Page
    scores: dict[str, float]
    counts: np.ndarray | None = None


def directory(out):
    return jaxnn.Directory(out, report=True)


def classes(run, inputs, labels):
    """Returns the scores of a classification, and its confusion matrix."""
    logits = run.predict(inputs).astype(float)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    every, said = range(logits.shape[-1]), logits.argmax(-1)
    scores = {
        "test/loss": metrics.log_loss(labels, chances, labels=every),
        "test/accuracy": metrics.accuracy_score(labels, said),
    }
    return scores, metrics.confusion_matrix(labels, said, labels=every)


def digits(out):
    train, test = jaxnn.split(jaxnn.datasets.digits(), 0.2)
    network = jaxnn.serial(jaxnn.standardize(4.88, 6.02), jaxnn.mlp([8], 10))
    run = jaxnn.fit(
        jaxnn.learner(network, jaxnn.classification(), optax.adam(0.01)),
        jaxnn.resident(train, batch_size=64), steps=48, every=12, key=jax.random.key(0),
        evaluate=jaxnn.resident(test, batch_size=100), out=out, quiet=True,
    )  # fmt: skip
    return run, *classes(run, test["inputs"], test["labels"])


def regression(out):
    run, test = regressed(out)
    labels, said = test["labels"], run.predict(test["inputs"])
    return run, {
        "test/loss": metrics.mean_squared_error(labels, said),
        "test/mae": metrics.mean_absolute_error(labels, said),
        "test/r2": metrics.r2_score(labels, said),
    }


def rows(out):
    train, test = jaxnn.split_table(people(120), 0.3)
    columns = jaxnn.fit_columns(train, labels="quality", ignore=["id"])
    train, test = columns.encode(train), columns.encode(test)
    run = jaxnn.fit(
        jaxnn.learner(columns.network([4]), columns.objective(), optax.adam(0.01)),
        jaxnn.resident(train, batch_size=42), steps=8, every=4, key=jax.random.key(0),
        evaluate=jaxnn.resident(test, batch_size=30), out=out, quiet=True,
    )  # fmt: skip
    return run, *classes(run, test["inputs"], test["labels"])


def text(out):
    tokens = jaxnn.Characters(TEXT)
    data = tokens.encode(TEXT)
    held_out = data[800 : 800 + 16 * 12 + 1]
    model = jaxnn.gpt(len(tokens), layers=1, heads=2, features=16, positions=16)
    run = jaxnn.fit(
        jaxnn.learner(model, jaxnn.next_token(vocabulary=tokens.all), optax.adam(0.01)),
        jaxnn.windows(data[:800], 17, batch_size=8), steps=20, every=5, quiet=True,
        key=jax.random.key(0), evaluate=jaxnn.windows(held_out, 17, stride=16, batch_size=8),
        out=out,
    )  # fmt: skip
    inputs, labels = held_out[:-1].reshape(12, 16), held_out[1:].ravel()
    logits = run.predict(inputs.astype(np.int32)).astype(float).reshape(192, -1)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    loss = metrics.log_loss(labels, chances, labels=range(len(tokens)))
    right = metrics.accuracy_score(labels, logits.argmax(-1))
    scores = {"test/loss": loss, "test/accuracy": right, "test/perplexity": math.exp(loss)}
    return run, scores | {"test/bits_per_byte": loss / math.log(2)}


def stopped(out):
    run = early(out)
    _, test = classified()
    return run, *classes(run, test["inputs"], test["labels"])


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    made = dict(zip(KINDS, (digits, regression, rows, text, stopped)))[request.param]
    out = tmp_path_factory.mktemp("trained") / request.param
    run, *facts = made(directory(out))
    return request.param, Trained(run, Page((out / "report.html").read_text()), *facts)


def name_of(metric):
    part, _, name = metric.partition("/")
    if name == "learning_rate":
        return "learning rate"
    of = {"train": "training", "test": "held-out"}[part]
    return f"{NAMES.get(name, name)} on {of} examples"


def near(shown, name, value):
    """Asserts that a cell shows a value, to the rounding of its last digit."""
    about = [said(name, float(value) * (1 + e)) for e in (0, 1e-5, -1e-5)]
    assert shown in about, (name, shown, value)


def test_each_number_of_the_results_is_recomputed(trained):
    kind, (run, page, scores, _) = trained
    heads, *shown = table(page, "numbers")
    history = rows_of(run.out)
    last, watched = history[-1], run.result.get("best/step")
    best = [f"best state, step {watched}"] if watched else []
    assert bool(watched) == (kind == "early")
    assert heads == ["metric", *best, f"last, step {last['step']}", "best ever", "at training step"]
    names = [name for name in last if "/" in name]
    assert [row[0] for row in shown] == [name_of(name) for name in names]
    assert {name for name in names if name.startswith("test/")} == {*scores}
    state = next(row for row in history if row["step"] == (watched or last["step"]))
    for name, (_, *cells) in zip(names, shown, strict=True):
        values = {"now": state[name], "last": last[name]}
        if name in scores:  # the state that predicts
            values["now"] = scores[name]
            assert state[name] == pytest.approx(scores[name], rel=1e-5)
        wanted = [("now", values["now"])] if watched else []
        for cell, (_, value) in zip(cells, [*wanted, ("last", last[name])]):
            near(cell, name, value)
        if name.endswith("/learning_rate"):
            assert cells[-2:] == ["", ""]
            continue
        pick = max if name.endswith(("accuracy", "r2")) else min
        top = pick(history, key=lambda row: row[name])
        near(cells[-2], name, top[name])
        assert cells[-1] == str(top["step"])


def test_each_number_of_the_heading_is_recomputed(trained):
    kind, (run, page, scores, counts) = trained
    found = heading(page)
    time = re.search(r" in ([\d.]+) seconds?\.$", found)
    assert float(time[1]) == pytest.approx(run.result["seconds"], abs=0.51)
    found = found.removesuffix(time[0]) + " " + notes(page)
    last, best = run.result["steps"], run.result.get("best/step")
    facts = {last, best, 400 if kind == "early" else None}
    if kind in ("digits", "table", "early"):
        share = 100 * counts.sum(1).max() / counts.sum()
        now, end = 100 * scores["test/accuracy"], 100 * run.result["test/accuracy"]
        facts |= {counts.sum(), *(round(x, 1) for x in (share, now, end))}
    elif kind == "regression":
        facts |= {float(f"{scores[name]:.4g}") for name in ("test/r2", "test/mae")}
    else:
        names = ("test/perplexity", "test/bits_per_byte")
        facts |= {float(f"{scores[name]:.4g}") for name in names}
    numbers = [float(each.replace(",", "")) for each in re.findall(r"\d[\d,]*(?:\.\d+)?", found)]
    assert numbers
    facts.discard(None)
    for each in numbers:
        assert any(each == pytest.approx(fact, rel=4e-4) for fact in facts), (each, facts, found)


def test_the_confusion_is_that_of_scikit_learn(trained):
    _, (_, page, _, counts) = trained
    if counts is None:
        assert not page.all("section", id="confusion")
        return
    _, *shown = table(page, "confusion")
    assert [[int(cell or 0) for cell in row[1:-1]] for row in shown] == counts.tolist()
    for row, right, of in zip(shown, np.diag(counts), counts.sum(1), strict=True):
        assert row[-1] == said("accuracy", float(right / of))


def test_totals_of_parameters_and_memory_are_those_of_the_arrays(trained):
    kind, (run, page, _, _) = trained
    _, *parts, total = table(page, "network")
    params = jax.tree.leaves(run.state.params)
    arrays = params + jax.tree.leaves(run.state.state)
    assert total[0] == "all of it"
    assert total[3] == f"{sum(x.size for x in params):,}"
    assert total[4] == plain(amount(sum(x.nbytes for x in arrays), "B"))
    number = [[int(row[i].replace(",", "") or 0) for i in (3, 6)] for row in parts]
    assert sum(count for count, _ in number) == sum(x.size for x in params)
    for (_, what, output, _, memory, activations, _), (count, work) in zip(parts, number):
        size = [int(each) for each in output.split(" × ")]
        if what != "standardize":  # its statistics are state
            assert memory == plain(amount(4 * count, "B"))
        if what == "linear":  # a product and a sum for each weight, at each place
            assert work == 2 * (count - size[-1]) * math.prod(size[:-1])
        if kind != "table":
            assert activations == plain(amount(4 * math.prod(size), "B"))
    # The scores and sums of attention, and the output that has the weights of the embedding.
    more = 2 * 2 * 16 * 16 * 16 + 2 * 16 * 16 * len({*TEXT}) if kind == "text" else 0
    assert total[6] == f"{sum(work for _, work in number) + more:,}"


def test_no_other_table_has_numbers(trained):
    kind, (_, page, _, _) = trained
    at = {e["id"] for e in page.all("section") if len(table(page, e["id"]))}
    assert at <= TABLES | ({"columns"} if kind == "table" else set())


def test_the_spread_over_seeds_is_recomputed(tmp_path):
    rates = jaxnn.sweep({"learning_rate": [0.003, 0.03]}, seeds=3)
    done = jaxnn.fit_sweep(
        rates, lambda values, runs, out: early(out, key=runs.key, hparams=runs.hparams),
        out=directory(tmp_path / "sweep"), metric="test/loss", quiet=True,
    )  # fmt: skip
    page = Page((tmp_path / "sweep/report.html").read_text())
    history = rows_of(tmp_path / "sweep/population")
    settings = []
    for rate in (0.003, 0.03):
        mine = [i for i, row in enumerate(done.rows) if row["learning_rate"] == rate]
        losses = [min(row["test/loss"][i] for row in history) for i in mine]
        spread = statistics.mean(losses), statistics.stdev(losses), min(losses)
        settings.append((*spread, rate, len(mine)))
    heads, *shown = table(page, "ranking")
    assert heads == [
        "place", "learning rate", "mean loss", "deviation", "best network", "networks",
    ]  # fmt: skip
    for place, (row, facts) in enumerate(zip(shown, sorted(settings), strict=True), 1):
        mean, deviation, best, rate, count = facts
        assert row[:2] == [str(place), str(rate)] and row[5:] == [str(count)]
        for cell, value in zip(row[2:5], (mean, deviation, best), strict=True):
            near(cell, "test/loss", value)
