"""Rows that are held out: all rows in one part each, and what belongs together stays together."""

import re

import numpy as np
import pandas
import polars
import pytest
from sklearn.model_selection import TimeSeriesSplit

import jaxnn
from jaxnn.checks import Invalid
from tests.tables.people import people

TABLE = people(201).with_columns(family=np.arange(201) % 23, week=np.arange(201)[::-1] // 7)
WAYS = {"share": {}, "class": {"stratify": "quality"}, "gaps": {"stratify": "city"}}
WAYS |= {"group": {"group": "family"}, "time": {"time": "week"}, "days": {"time": "since"}}


@pytest.mark.parametrize("way", WAYS)
def test_every_row_is_in_one_part(way):
    rest, held = jaxnn.split_table(TABLE, 0.3, seed=3, **WAYS[way])
    assert polars.concat([rest, held]).sort("id").equals(TABLE)
    assert abs(held.height - 0.3 * 201) <= (9 if way in ("group", "time") else 1)
    again = jaxnn.split_table(
        pandas.DataFrame(TABLE.to_dict(as_series=False)), 0.3, seed=3, **WAYS[way]
    )
    assert again[0]["id"].equals(rest["id"]) and again[1]["id"].equals(held["id"])


@pytest.mark.parametrize("way", WAYS)
def test_folds_hold_out_every_row_once(way):
    folds = list(jaxnn.fold_table(TABLE, 5, **WAYS[way]))
    held = polars.concat([fold[1] for fold in folds])
    assert held["id"].n_unique() == held.height and len(folds) == 5
    if "time" not in WAYS[way]:
        assert held.sort("id").equals(TABLE)
        assert all(set(a["id"]) | set(b["id"]) == set(TABLE["id"]) for a, b in folds)
    assert all(not set(a["id"]) & set(b["id"]) for a, b in folds)
    sizes = [fold[1].height for fold in folds]
    assert max(sizes) - min(sizes) <= {"time": 14, "group": 9}.get(way, 1)


def test_groups_stay_together():
    for a, b in [
        jaxnn.split_table(TABLE, 0.2, group="family"),
        *jaxnn.fold_table(TABLE, 4, group="family"),
    ]:
        assert not set(a["family"]) & set(b["family"])


def test_later_rows_are_held_out():
    for column in ("week", "since"):
        parts = [
            jaxnn.split_table(TABLE, 0.2, time=column),
            *jaxnn.fold_table(TABLE, 4, time=column),
        ]
        assert all(a[column].max() < b[column].min() for a, b in parts)
        assert all(part[column].is_sorted() for pair in parts for part in pair)


def test_spans_of_time_are_those_of_scikit_learn():
    table = {"t": np.arange(24)}
    for (a, b), (c, d) in zip(
        jaxnn.fold_table(table, 3, time="t"), TimeSeriesSplit(3).split(table["t"]), strict=True
    ):
        assert a["t"].to_list() == c.tolist() and b["t"].to_list() == d.tolist()


def test_classes_are_spread_evenly():
    for a, b in jaxnn.fold_table(TABLE, 4, stratify="quality"):
        for name in TABLE["quality"].unique():
            share = (TABLE["quality"] == name).sum() / 4
            assert abs((b["quality"] == name).sum() - share) < 1
    rest, held = jaxnn.split_table(TABLE, 0.2, stratify="quality")
    for name in TABLE["quality"].unique():
        assert abs((held["quality"] == name).sum() - 0.2 * (TABLE["quality"] == name).sum()) < 1


MISTAKES = {
    "fraction": (lambda: jaxnn.split_table(TABLE, 1.2), "fraction is out of range"),
    "column": (lambda: jaxnn.split_table(TABLE, 0.2, stratify="Quality"), "Did you mean 'quality'"),
    "two ways": (
        lambda: jaxnn.split_table(TABLE, 0.2, stratify="quality", group="family"),
        "one of stratify, group and time",
    ),
    "text as time": (lambda: jaxnn.split_table(TABLE, 0.2, time="city"), "does not order the rows"),
    "one group": (
        lambda: jaxnn.split_table({"g": [1, 1]}, 0.5, group="g"),
        "are of one group",
    ),
    "one time": (lambda: jaxnn.split_table({"g": [1, 1]}, 0.5, time="g"), "are of one time"),
    "one row": (lambda: jaxnn.split_table({"g": [1]}, 0.5), "two at least"),
    "one fold": (lambda: list(jaxnn.fold_table(TABLE, 1)), "at least 2"),
    "many folds": (lambda: list(jaxnn.fold_table(TABLE, 24, group="family")), "fewer folds"),
    "ties": (lambda: list(jaxnn.fold_table({"t": [1, 1, 1, 1, 2, 3]}, 2, time="t")), "of one time"),
}


@pytest.mark.parametrize("make, words", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(make, words):
    with pytest.raises(Invalid, match=re.escape(words)):
        make()
