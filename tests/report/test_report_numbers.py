"""The numbers on the pages of real runs, recomputed from their files and by `predict`."""

import csv
import itertools
import json
import math
import re
from functools import cache

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import report
from jaxnn.__main__ import main
from jaxnn.catalog import account, entries, outcome
from jaxnn.formatting import brief, percent
from jaxnn.report import source as sources
from jaxnn.storage import recording
from tests.pages import Page, plain
from tests.recorded import write

# A rate so high that the best state is not the last, nor the first that is reported.
RATE, PATIENCE = 0.1, 4
TEXT = "the cat sat on the mat and the dog sat on the log. " * 20


def classified():
    """Returns noisy examples of three classes, of which the first is the largest."""
    draws = np.random.default_rng(0)
    labels = np.minimum(draws.integers(0, 4, 240), 2).astype(np.int32)
    inputs = draws.normal(size=(240, 6)).astype(np.float32)
    inputs[np.arange(240), labels] += 1.5
    return jaxnn.split({"inputs": inputs, "labels": labels}, 0.5)


@cache  # one learner compiles once, however many tests run it
def classifier(hidden):
    return jaxnn.learner(
        jaxnn.mlp([hidden], 3), jaxnn.classification(), lambda h: optax.adam(h["learning_rate"])
    )


def early(out, hidden=16, **options):
    """Trains until patience ends."""
    train, test = classified()
    return jaxnn.fit(
        classifier(hidden), jaxnn.resident(train, batch_size=30), steps=400, every=4, quiet=True,
        evaluate=jaxnn.resident(test, batch_size=60), out=out,
        watch=jaxnn.Watch("test/loss", patience=PATIENCE),
        **{"key": jax.random.key(0), "hparams": {"learning_rate": RATE}, **options},
    )  # fmt: skip


def regressed(out):
    draws = np.random.default_rng(0)
    inputs = draws.normal(size=(200, 3)).astype(np.float32)
    labels = 200 + 50 * inputs[:, :1] + draws.normal(size=(200, 1)).astype(np.float32)
    train, test = jaxnn.split({"inputs": inputs, "labels": labels.astype(np.float32)}, 0.5)
    learner = jaxnn.learner(jaxnn.mlp([8], 1), jaxnn.regression(), optax.adam(0.1))
    run = jaxnn.fit(
        learner, jaxnn.resident(train, batch_size=20), steps=60, every=10, quiet=True,
        key=jax.random.key(0), evaluate=jaxnn.resident(test, batch_size=50), out=out,
    )  # fmt: skip
    return run, test


def written(out):
    tokens = jaxnn.Characters(TEXT)
    data = tokens.encode(TEXT)
    model = jaxnn.gpt(len(tokens), layers=1, heads=2, features=16, positions=16)
    return jaxnn.fit(
        jaxnn.learner(model, jaxnn.next_token(vocabulary=tokens.all), optax.adam(0.01)),
        jaxnn.windows(data[:800], 17, batch_size=8), steps=20, every=5, quiet=True,
        key=jax.random.key(0), evaluate=jaxnn.windows(data[800:], 17, stride=16, batch_size=8),
        watch="test/loss", out=out,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    out = tmp_path_factory.mktemp("numbers") / "early"
    run = early(jaxnn.Directory(out, "early", {"learning_rate": RATE}, report=True))
    return out, run, Page((out / "report.html").read_text())


def rows_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def heading(page):
    return plain(page.all("h1")[0]["text"])


def notes(page):
    return plain(" ".join(each["text"] for each in page.all("p", **{"class": "note"})))


def figures(page, name):
    """Returns the numbers in a section, with all their digits."""
    text = page.elements.index(next(e for e in page.elements if e.get("id") == name))
    after = page.elements[text + 1 :]
    end = next((i for i, e in enumerate(after) if e["tag"] == "section"), len(after))
    return [float(e["value"]) for e in after[:end] if e["tag"] == "data" and e["value"]]


def test_the_result_of_a_run_that_stopped_early_is_its_best_state(stopped):
    out, run, page = stopped
    rows = rows_of(out)
    result = json.loads((out / "result.json").read_text())
    best = min(rows, key=lambda row: row["test/loss"])
    assert rows[-1]["step"] == best["step"] + 4 * PATIENCE < 400
    for name in (name for name in best if "/" in name):
        assert result[f"best/{name}"] == best[name] and result[name] == rows[-1][name]
    assert result["best/step"] == best["step"] and result["status"] == "stopped"
    # What predict gives is what the page says.
    _, test = classified()
    accuracy = (run.predict(test["inputs"]).argmax(-1) == test["labels"]).mean()
    assert accuracy == pytest.approx(best["test/accuracy"]) != rows[-1]["test/accuracy"]
    share = plain(percent(best["test/accuracy"]))
    assert heading(page).startswith(
        f"The network gets {share} of the 120 held-out examples right, in its best state, of step"
        f" {best['step']}; it ended after {rows[-1]['step']} of 400 training steps"
    )
    last = plain(percent(rows[-1]["test/accuracy"]))
    assert f"In the last state, of step {rows[-1]['step']}, the network gets {last}" in notes(page)
    largest = np.bincount(test["labels"]).max() / len(test["labels"])
    assert f"The largest class is {plain(percent(float(largest)))} of the held" in notes(page)
    assert set(figures(page, "numbers")) >= {best["test/accuracy"], rows[-1]["test/accuracy"]}
    counts = recording.read(out).end["confusion"]
    assert np.trace(counts) / counts.sum() == pytest.approx(accuracy) and counts.sum() == 120


def test_everything_that_shows_a_run_shows_its_best_state(stopped, tmp_path, capsys):
    out, run, _ = stopped
    best = min(rows_of(out), key=lambda row: row["test/loss"])
    assert entries.look(out, "early").value == best["test/loss"]
    shown = account.account(out)["metrics"]["test/accuracy"]
    assert (shown["best"], shown["step"]) == (best["test/accuracy"], best["step"])
    said = outcome.sentence(run.result, "test/")
    assert said.startswith(f"test/loss {best['test/loss']:.4g}, test/accuracy ")
    assert f"(best state, step {best['step']}; last: test/loss " in said
    assert main(["watch", str(out)]) == 0
    assert f"(best state, step {best['step']}; last: " in capsys.readouterr().out
    other = early(jaxnn.Directory(tmp_path / "other"), hparams={"learning_rate": 0.001})
    both = report.write_comparison([out, other.out], tmp_path / "compare.html")
    values = figures(Page(both.read_text()), "results")
    assert best["test/accuracy"] in values and other.result["best/test/accuracy"] in values
    assert run.result["test/accuracy"] not in values


def test_an_interrupted_run_shows_its_best_state_so_far(stopped, tmp_path):
    out, _, _ = stopped
    rows = rows_of(out)
    watch = {"metric": "test/loss", "better": None, "margin": 0.0}
    step = outcome.best_steps(rows, watch)
    assert step == min(rows, key=lambda row: row["test/loss"])["step"]
    many = [
        {"step": row["step"], "test/loss": [row["test/loss"], -row["test/loss"]]} for row in rows
    ]
    worst = max(rows, key=lambda row: row["test/loss"])["step"]
    assert outcome.best_steps(many, watch) == [step, worst]
    assert outcome.best_steps([{"step": 3, "test/loss": None}], watch) == 0
    assert outcome.at_steps(many, [step, 0])["test/loss"][1] == many[-1]["test/loss"][1]


def test_a_regression_says_its_share_of_the_variance_and_its_error(tmp_path):
    run, test = regressed(jaxnn.Directory(tmp_path / "run", report=True))
    page = Page(report.write(run.out).read_text())
    errors = run.predict(test["inputs"]) - test["labels"]
    explained = 1 - (errors**2).sum() / ((test["labels"] - test["labels"].mean()) ** 2).sum()
    found = re.search(
        r"R² ([\d.-]+) and a mean absolute error of ([\d.]+), in labels'", heading(page)
    )
    assert float(found[1]) == pytest.approx(explained, rel=1e-3)
    assert float(found[2]) == pytest.approx(np.abs(errors).mean(), rel=1e-3)
    assert brief(run.result["test/mae"]) == found[2] and run.result["test/r2"] in figures(
        page, "numbers"
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    run = written(jaxnn.Directory(tmp_path_factory.mktemp("numbers") / "text", report=True))
    return run, Page(report.write(run.out).read_text())


def test_a_text_says_its_perplexity_and_bits_per_character(text):
    run, page = text
    tokens = np.asarray(run.training.evaluations["test"].examples["inputs"])
    logits = run.predict(tokens[:, :-1].astype(np.int32)).astype(float)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = tokens[:, 1:, None].astype(int)
    loss = -np.log(np.take_along_axis(chances, labels, -1)).mean()
    best = min(row["test/loss"] for row in rows_of(run.out))
    assert best == pytest.approx(loss, rel=0.02)  # windows overlap otherwise in the last one
    said = f"perplexity {math.exp(best):.4g}, {best / math.log(2):.4g} bits per character, on held"
    assert f"reaches {said}" in heading(page)
    assert "bits per byte" not in page.text("numbers") + page.text("learning")


def test_the_page_of_a_text_shows_what_was_written_at_every_moment(text):
    run, page = text
    seen = recording.read(run.out)
    begins = seen.probe["text"].tolist()
    given, own = ([e["text"] for e in page.all("span", **{"class": c})] for c in ("given", "own"))
    shown, each = len(begins), [frame.arrays["text"].tolist() for frame in seen.frames]
    at = [frame.step for frame in seen.frames].index(run.result["best/step"])
    assert given == begins * (1 + len(each))
    assert own[:shown] == each[at] and own[shown:] == [one for texts in each for one in texts]
    timeline = moments(page)
    for frame, value, second in zip(seen.frames, timeline["values"], timeline["seconds"]):
        assert value == pytest.approx(math.exp(frame.arrays["metrics/loss"]), rel=1e-5)
        assert float(second) == pytest.approx(math.log2(value), rel=2e-3)


def moments(page):
    """Returns what the slider shows."""
    return json.loads(next(e["text"] for e in page.all("script") if e.get("id") == "recorded"))


def test_the_slider_begins_at_the_best_state_and_ends_at_the_last(stopped):
    out, run, page = stopped
    timeline, (slider,) = moments(page), page.all("input")
    best, last = run.result["best/step"], run.result["steps"]
    assert timeline["steps"][-1] == last and timeline["steps"][int(slider["value"])] == best
    assert slider["max"] == str(len(timeline["steps"]) - 1)
    states = {step: words for step, words in zip(timeline["steps"], timeline["states"]) if words}
    assert states == {best: "the best state: the result", last: "the last state"}
    _, test = classified()
    share = (run.predict(test["inputs"]).argmax(-1) == test["labels"]).mean()
    assert timeline["values"][int(slider["value"])] == pytest.approx(share)
    assert page.text("at-value") == percent(float(share)).replace(" ", "\u00a0")
    rows = {row["step"]: row for row in rows_of(out)}
    for step, value, loss in zip(*(timeline[n] for n in ("steps", "values", "seconds"))):
        if step in rows:
            assert value == pytest.approx(rows[step]["test/accuracy"])
            assert loss == brief(rows[step]["test/loss"])
    assert f"The result is the best state, of step {best}" in page.text("learning")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("numbers") / "sweep"
    rates = jaxnn.sweep({"learning_rate": [0.003, 0.03, 0.3]}, seeds=2)
    asked = jaxnn.Directory(out, "small", report=True)
    done = jaxnn.fit_sweep(
        rates, lambda values, runs, out: early(out, key=runs.key, hparams=runs.hparams),
        out=asked, metric="test/loss", quiet=True,
    )  # fmt: skip
    return out, done, Page((out / "report.html").read_text())


def test_a_sweep_ranks_and_shows_the_best_states(swept):
    out, done, page = swept
    with open(out / "sweep.csv") as file:
        rows = list(csv.DictReader(file))
    history = rows_of(out / "population")
    for member, row in enumerate(rows):
        losses = [each["test/loss"][member] for each in history]
        best = history[losses.index(min(losses))]
        assert float(row["best/test/loss"]) == min(losses)
        assert float(row["best/test/accuracy"]) == best["test/accuracy"][member]
    means = {}
    for row in rows:
        means.setdefault(row["learning_rate"], []).append(row)
    mean = {k: np.mean([float(r["best/test/loss"]) for r in v]) for k, v in means.items()}
    winner = min(mean, key=mean.get)
    assert done.result["best/learning_rate"] == float(winner)
    assert done.result["best/test/loss"] == pytest.approx(mean[winner])
    share = np.mean([float(row["best/test/accuracy"]) for row in means[winner]])
    said = f"Of 3 settings, learning rate {winner} was the best: the network gets "
    assert heading(page).startswith(said + plain(percent(float(share))))
    assert "Settings are ranked by their loss on held-out examples, the same" in notes(page)
    assert {*mean.values()} <= {*figures(page, "ranking")}


def test_the_examples_of_a_sweep_are_those_of_its_best_network(swept):
    out, done, page = swept
    mine = [row for row in done.rows if row["learning_rate"] == done.result["best/learning_rate"]]
    best = min(mine, key=lambda row: row["best/test/loss"])
    counts = recording.read(out).end["confusion"]
    assert np.trace(counts) / counts.sum() == pytest.approx(best["best/test/accuracy"])
    names = [each["id"] for each in page.all("section")]
    assert names[1:6] == ["winner", "confusion", "examples", "map", "ranking"]
    assert f"seed {best['seed']}" in page.text("winner")


def test_a_sweep_that_resumes_shows_the_winner_of_a_group_that_was_trained_before(tmp_path):
    stops = True

    def trained(values, runs, out):
        if values["hidden"] == 4 and stops:
            raise KeyboardInterrupt
        return early(out, key=runs.key, hparams=runs.hparams, hidden=values["hidden"])

    def swept():
        return jaxnn.fit_sweep(
            jaxnn.sweep({"hidden": [24, 4], "learning_rate": [0.03, 0.1]}), trained,
            out=jaxnn.Directory(tmp_path / "run", report=True), structural=["hidden"],
            metric="test/loss", quiet=True,
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        swept()
    stops = False
    again = swept()
    assert {row["hidden"] for row in again.rows} == {4, 24}
    best = again.result["best/hidden"], again.result["best/learning_rate"]
    assert best[0] == 24  # of the group that was trained before
    row = next(r for r in again.rows if (r["hidden"], r["learning_rate"]) == best)
    for file in (None, tmp_path / "later.html"):
        page = Page((tmp_path / "run/report.html" if file is None
                     else report.write(tmp_path / "run", file)).read_text())  # fmt: skip
        assert [e["id"] for e in page.all("section")][1:4] == ["winner", "confusion", "examples"]
        counts = recording.read(tmp_path / "run").end["confusion"]
        assert np.trace(counts) / counts.sum() == pytest.approx(row["best/test/accuracy"])
        diagonal = [int(e["text"]) for e in page.all("td", **{"class": "right"})]
        assert sum(diagonal) == np.trace(counts)


def test_times_add_up(stopped):
    out, run, page = stopped
    speed = json.loads((out / "speed.json").read_text())
    assert 0 < speed["first_seconds"] <= speed["seconds"]
    assert speed["seconds"] == pytest.approx(run.result["seconds"], rel=0.05, abs=0.05)
    rows = cells(page, "speed")
    whole, first, rest = (
        float(plain(value).removesuffix(" seconds").removesuffix(" second"))
        for name, value in rows.items()
        if name.startswith(("time in all", "of that"))
    )
    assert whole == pytest.approx(first + rest)
    assert whole == pytest.approx(run.result["seconds"], abs=0.5)
    assert 0 < first == pytest.approx(speed["first_seconds"], abs=0.5)


def cells(page, name):
    """Returns the first two cells of each row in a section."""
    at = page.elements.index(next(e for e in page.elements if e.get("id") == name))
    after = itertools.takewhile(lambda e: e["tag"] != "section", page.elements[at + 1 :])
    texts = [e["text"] for e in after if e["tag"] in ("td", "th")]
    return dict(zip(texts[::2], texts[1::2]))


def test_the_time_before_a_run_resumed_is_a_part_of_it(tmp_path):
    rows = [{"step": 10, "epoch": 1.0, "seconds": 9.0, "train/loss": 1.0}]
    write(tmp_path, {}, rows, {"steps": 10, "seconds": 9.0, "status": "done", "train/loss": 1.0})
    speed = {"first_steps": 4, "first_seconds": 2.04, "seconds": 3.52, "compilations": 5}
    (tmp_path / "speed.json").write_text(json.dumps(speed))
    rows = cells(Page(report.write(tmp_path).read_text()), "speed")
    assert {
        name: plain(value) for name, value in rows.items() if name.startswith(("of", "time"))
    } == {
        "time in all": "9 seconds",
        "of that, before it resumed": "5.5 seconds",
        "of that, until step 4 was done, 5 programs compiled": "2 seconds",
        "of that, the steps after, up to step 10": "1.5 seconds",
    }


def test_a_sweep_is_ranked_by_the_direction_of_its_metric_and_not_by_its_name(tmp_path):
    """A perplexity by another name, which does not say that lower is better."""
    train, test = classified()

    def trained(values, runs, out):
        objective = jaxnn.classification(metrics={"puzzled": jaxnn.metrics.perplexity})
        learner = jaxnn.learner(jaxnn.linear(3), objective, lambda h: optax.sgd(h["learning_rate"]))
        return jaxnn.fit(
            learner, jaxnn.resident(train, batch_size=60), steps=8, every=4, quiet=True,
            evaluate=jaxnn.resident(test, batch_size=60), key=runs.key, hparams=runs.hparams,
            out=out,
        )  # fmt: skip

    rates = jaxnn.sweep({"learning_rate": [1e-3, 1e-2, 0.3]})
    out = jaxnn.Directory(tmp_path / "sweep", report=True)
    done = jaxnn.fit_sweep(rates, trained, out=out, metric="test/puzzled", quiet=True)
    best = min(done.rows, key=lambda row: row["test/puzzled"])
    assert done.result["best/learning_rate"] == best["learning_rate"] == 0.3
    assert done.result["better"]["test/puzzled"] == "lower"
    page = Page((tmp_path / "sweep" / "report.html").read_text())
    assert "learning rate 0.3 was the best" in heading(page)
    assert "learning rate 0.3" in page.text("winner")
    assert entries.look(tmp_path / "sweep", "sweep").value == best["test/puzzled"]
    assert f"best: {best['test/puzzled']:.4g}" in page.text("map")


def test_a_table_is_shown_in_its_units_and_by_the_set_that_chose_nothing(tmp_path):
    draws = np.random.default_rng(0)
    x = draws.normal(size=200)
    table = {"x": x, "price": 3000 + 500 * x + draws.normal(size=200)}
    train, test = jaxnn.split_table(table, 0.4)
    val, test = jaxnn.split_table(test, 0.5)
    columns = jaxnn.fit_columns(train, labels="price")
    parts = {
        name: jaxnn.resident(columns.encode(part), batch_size=40)
        for name, part in (("validation", val), ("test", test))
    }
    learner = jaxnn.learner(columns.network([8]), columns.objective(), optax.adam(0.05))
    run = jaxnn.fit(
        learner, jaxnn.resident(columns.encode(train), batch_size=40), steps=60, every=6,
        key=jax.random.key(0), evaluate=parts, watch="validation/loss", quiet=True,
        out=jaxnn.Directory(tmp_path / "run", report=True),
    )  # fmt: skip
    page = Page((run.out / "report.html").read_text())
    error = brief(run.result["best/test/mae"])
    assert f"mean absolute error of {error}, in the unit of price, on held-out" in heading(page)
    seen = sources.read(run.out).recorded
    truth = np.sort(seen.end["truth"])
    np.testing.assert_allclose(truth, np.sort(np.asarray(test["price"], float)), rtol=1e-4)
    assert np.abs(seen.end["predicted"] - seen.end["truth"]).mean() == pytest.approx(
        run.result["best/test/mae"], rel=1e-3
    )
