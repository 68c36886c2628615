"""Sweeps: which runs they ask for, what their values may be, and what is recorded of them."""

from collections import Counter

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue, search, sweep
from jaxnn.catalog.sweeps import summary, table, to_csv
from jaxnn.search.ranges import parse
from tests.mistakes import judge

RATES = jaxnn.log_range(1e-4, 1e-1, 16)


# --- Which runs --------------------------------------------------------------------------------


def test_a_sweep_is_the_product_of_its_fields_and_seeds_with_seeds_fastest():
    runs = sweep({"learning_rate": [0.1, 0.2], "width": [8, 16, 32]}, seeds=2)
    assert runs.settings() == [
        {"learning_rate": rate, "width": width, "seed": seed}
        for rate in (0.1, 0.2)
        for width in (8, 16, 32)
        for seed in (0, 1)
    ]
    assert len(runs) == 12 and list(runs.columns) == ["learning_rate", "width", "seed"]
    assert type(runs.columns["width"][0]) is int


def test_seeds_are_counted_or_named():
    assert sweep({}, seeds=3).columns == {"seed": [0, 1, 2]}
    assert sweep({}, seeds=[5, 3]).columns == {"seed": [5, 3]}
    assert sweep({}, seeds=np.arange(2)).columns == {"seed": [0, 1]}
    assert sweep({"a": [1]}).columns == {"a": [1], "seed": [0]}


def test_each_run_has_the_key_and_the_numbers_of_its_single_run():
    runs = sweep({"rate": [0.1, 0.3]}, seeds=[7, 2**32 - 1])
    assert runs.hparams["rate"].dtype == np.float32
    np.testing.assert_array_equal(runs.hparams["rate"], np.float32([0.1, 0.1, 0.3, 0.3]))
    for key, seed in zip(runs.key, runs.columns["seed"], strict=True):
        assert jax.random.key_data(key).tolist() == jax.random.key_data(jaxnn.keys(seed)).tolist()
        assert jaxnn.keys(seed) == jax.random.key(seed)


def test_groups_are_all_runs_once_in_the_order_of_their_appearance():
    runs = sweep({"rate": RATES, "width": [32, 8], "model": ["mlp", "convnet"]}, seeds=2)
    groups = runs.groups(["width", "model"])
    assert [values for values, _ in groups] == [
        {"width": width, "model": model} for width in (32, 8) for model in ("mlp", "convnet")
    ]
    settings = [values | row for values, group in groups for row in group.settings()]
    assert Counter(map(str, map(sorted_items, settings))) == Counter(
        map(str, map(sorted_items, runs.settings()))
    )
    assert all(group.fields == ["rate"] and len(group) == 32 for _, group in groups)
    ((values, group),) = runs.groups([])
    assert values == {} and group == runs


def sorted_items(row):
    return sorted(row.items())


# --- Values ------------------------------------------------------------------------------------


def test_ranges_are_even():
    assert RATES[0] == 1e-4 and RATES[-1] == 1e-1 and len(RATES) == 16
    np.testing.assert_allclose(np.diff(np.log(RATES)), np.log(1000) / 15, rtol=1e-9)
    assert jaxnn.linear_range(-1, 1, 5) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert jaxnn.log_range(1, 10, 1) == [1.0]


def test_random_fields_are_drawn_together_and_again_alike():
    fields = {
        "rate": search.log_random_range(1e-4, 1e-1, 400),
        "dropout": search.random_range(0, 0.5, 400),
        "width": [8, 16],
    }
    runs = sweep(fields, seeds=2)
    assert len(runs) == 400 * 2 * 2 and runs == sweep(fields, seeds=2)
    points = set(zip(runs.columns["rate"], runs.columns["dropout"]))
    assert len(points) == len(set(runs.columns["rate"])) == len(set(runs.columns["dropout"])) == 400
    other = sweep(fields, seeds=2, draw_seed=1)
    assert not set(other.columns["rate"]) & set(runs.columns["rate"])
    rates, dropouts = np.array(list(points)).T
    assert 1e-4 <= rates.min() and rates.max() <= 1e-1 and 0 <= dropouts.min() <= 0.01
    # A uniform draw of 400 has its median within 0.1 of the middle, but once in 15,000 times.
    assert abs(np.median(np.log10(rates)) + 2.5) < 0.3 and abs(np.median(dropouts) - 0.25) < 0.05
    assert abs(np.corrcoef(np.log(rates), dropouts)[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("typed", "name", "values"),
    [
        ("rate=log:1e-4:1e-1:16", "rate", RATES),
        (" rate = linear : 0 : 1 : 3 ", "rate", [0.0, 0.5, 1.0]),
        ("rate=random:0:1:3", "rate", search.random_range(0, 1, 3)),
        ("rate=lograndom:0.1:1:3", "rate", search.log_random_range(0.1, 1, 3)),
        ("batch_size=32, 64", "batch_size", [32, 64]),
        ("rate=0.1,1e-2", "rate", [0.1, 0.01]),
        ("model=mlp,convnet", "model", ["mlp", "convnet"]),
        ("hidden=64x64,32", "hidden", [(64, 64), 32]),
        ("shuffle=true,False", "shuffle", [True, False]),
        ("path=a=b", "path", ["a=b"]),
    ],
)
def test_what_is_typed_is_read(typed, name, values):
    assert parse(typed) == (name, values)


V, T = InvalidValue, InvalidType
CASES = {
    "no equals": (lambda: parse("rate"), V, "'rate' cannot be read", "log:1e-4:1e-1:16"),
    "no values": (lambda: parse("rate="), V, "cannot be read", "Write, say"),
    "no field": (lambda: parse("=1,2"), V, "cannot be read", "Write, say"),
    "an empty value": (lambda: parse("rate=1,,2"), V, "an empty value", "Write, say"),
    "no name of a range": (lambda: parse("rate=1e-3:0.1"), V, "without its name", "=log:1e-4:"),
    "an unknown range": (
        lambda: parse("rate=lin:1:2:3"), V, "range='lin'; expected one of linear, log",
        r"Did you mean 'linear'\?",
    ),
    "a range of two": (lambda: parse("rate=log:1:2"), V, "not of three numbers", "Write, say"),
    "a range of words": (lambda: parse("rate=log:a:b:3"), V, "not of three", "Write, say"),
    "a log range through zero": (
        lambda: parse("rate=log:0:1:3"), V, "low=0; expected a number above 0", "low=0.001",
    ),
    "a log range from below zero": (
        lambda: search.log_random_range(-1.0, 1.0, 3), V, "low=-1.0", "low=0.001",
    ),
    "a range downwards": (
        lambda: jaxnn.linear_range(1.0, 0.5, 3), V, "high=0.5; expected a number above 1",
        "high=1.001",
    ),
    "an endless range": (lambda: jaxnn.linear_range(0.0, np.inf, 3), V, "high=inf", "Pass, say"),
    "a range of none": (lambda: parse("rate=linear:0:1:0"), V, "count=0", "count=1"),
    "a range of half": (lambda: parse("rate=linear:0:1:2.5"), V, "count=2.5", "count=1"),
    "not a number": (lambda: sweep({"rate": [np.nan]}), V, "rate=nan", "rate=0.001"),
    "infinite": (lambda: sweep(dict([parse("rate=1,inf")])), V, "rate=inf", "rate=0.001"),
    "an empty sweep": (lambda: sweep({"rate": []}), V, "rate has no values", "Leave rate out"),
    "a value twice": (lambda: sweep({"rate": [1, 1.0]}), V, "value twice", "pass seeds=8"),
    "one word": (lambda: sweep({"model": "mlp"}), T, "not a list", r"model=\['mlp'\]"),
    "one number": (lambda: sweep({"rate": 0.1}), T, "not a list", r"rate=\[0.1\]"),
    "lists of nodes": (lambda: sweep({"hidden": [[64, 64]]}), T, "mutable value", "tuple"),
    "no seeds": (lambda: sweep({}, seeds=0), V, "seeds=0", "seeds=1"),
    "an empty list of seeds": (lambda: sweep({}, seeds=[]), V, r"seeds=\[\]", "seeds=8"),
    "a seed twice": (lambda: sweep({}, seeds=[3, 3]), V, "distinct whole numbers", "seeds=8"),
    "a seed below zero": (lambda: sweep({}, seeds=[-1]), V, "from 0 to", "seeds=8"),
    "a field of seeds": (lambda: sweep({"seed": [1, 2]}), V, "named seed", "--seeds 8"),
    "unequal draws": (
        lambda: sweep({"a": search.random_range(0, 1, 3), "b": search.random_range(0, 1, 4)}),
        V, "3 of a, 4 of b", "Draw 4 of each",
    ),
    "words as an input": (
        lambda: sweep({"model": ["mlp", "convnet"]}).hparams,
        T, "model cannot be an input of the compiled program", r"sweep.groups\(\['model'\]\)",
    ),
    "an unknown structural field": (
        lambda: sweep({"width": [8]}).groups(["widht"]), V, "field='widht'", r"mean 'width'\?",
    ),
    "a metric without its data": (
        lambda: jaxnn.fit_sweep(sweep({}), lambda *_: None, out="nowhere", metric="accuracy"),
        V, "metric='accuracy'", "test/accuracy, or train/accuracy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_has_an_answer(case, compilations):
    judge(CASES[case], compilations)


# --- What is recorded --------------------------------------------------------------------------


def some_rows():
    """Three settings of three seeds: the first has the best run, and one that diverged."""
    losses = {0.1: (0.1, 0.7, None), 0.01: (0.3, 0.25, 0.35), 1.0: (0.01, None, None)}
    return [
        {
            "rate": rate, "seed": seed, "status": "done" if loss is not None else "diverged",
            "steps": 10, "test/loss": np.nan if loss is None else loss,
        }
        for rate, each in losses.items() for seed, loss in enumerate(each)
    ]  # fmt: skip


def test_settings_are_ranked_by_the_mean_of_the_runs_that_did_not_diverge():
    first, second, last = summary(some_rows(), ["rate"], "test/loss")
    assert first.values == {"rate": 0.01} and first.diverged == 0 and first.runs == 3
    assert first.mean == pytest.approx(0.3) and first.deviation == pytest.approx(0.05)
    assert first.best == 0.25 and first.metrics == {"test/loss": pytest.approx(0.3)}
    assert second.values == {"rate": 0.1} and (second.diverged, second.best) == (1, 0.1)
    assert second.mean == pytest.approx(0.4)
    # Its one run that is left is the best of all, but two of three diverged.
    assert last.values == {"rate": 1.0} and last.mean == 0.01 and np.isnan(last.deviation)


def test_higher_is_better_for_an_accuracy():
    rows = [{"rate": r, "seed": 0, "status": "done", "test/accuracy": r} for r in (0.5, 0.9, 0.7)]
    ranked = summary(rows, ["rate"], "test/accuracy")
    assert [setting.values["rate"] for setting in ranked] == [0.9, 0.7, 0.5]


def test_the_last_metrics_of_a_diverged_run_do_not_count():
    rows = some_rows()
    rows[-1]["test/loss"] = 1e-9
    assert summary(rows, ["rate"], "test/loss")[-1].best == 0.01


def test_the_table_shows_the_best_and_says_how_many_more():
    shown = table(summary(some_rows(), ["rate"], "test/loss"), "test/loss")
    lines = [line.split() for line in shown.splitlines()]
    assert lines[0] == ["test/loss,", "best", "first"]
    assert lines[1] == ["rate", "mean", "deviation", "best", "run", "runs", "diverged"]
    assert lines[2] == ["0.01", "0.3", "0.05", "0.25", "3"]
    assert lines[3][-1] == "1" and lines[4] == ["1", "0.01", "0.01", "3", "2"]
    rows = [{"rate": n, "seed": 0, "status": "done", "test/loss": n / 7} for n in range(33)]
    many = table(summary(rows, ["rate"], "test/loss"), "test/loss")
    assert "and 13 more settings in sweep.csv" in many
    assert len([line for line in many.splitlines() if line.strip()[:1].isdigit()]) == 20


def test_rows_as_text_are_read_back():
    rows = [{"hidden": (64, 64), **row} for row in some_rows()]
    lines = to_csv(rows).decode().splitlines()
    assert lines[0] == "hidden,rate,seed,status,steps,test/loss"
    assert lines[1] == "64x64,0.1,0,done,10,0.1" and lines[3] == "64x64,0.1,2,diverged,10,"
