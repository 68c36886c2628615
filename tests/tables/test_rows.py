"""Rows as text are the rows that were encoded."""

import numpy as np
import polars
import pytest

import jaxnn
from jaxnn.tables.rows import rows_as_text
from tests.tables.people import people

TABLE = people()
OPTIONS = {"labels": "quality", "ignore": ["id"]}


@pytest.mark.parametrize("one_hot", [False, True])
def test_they_are_those_of_the_table(one_hot):
    columns = jaxnn.fit_columns(TABLE, one_hot=one_hot, **OPTIONS)
    texts = rows_as_text(columns, columns.encode(TABLE)["inputs"])
    for row, text in zip(TABLE.rows(named=True), texts, strict=True):
        income = "missing" if row["income"] is None else f"{row['income']:.6g}"
        assert text == [
            f"age {row['age']}",
            f"city {row['city'] or 'missing'}",
            f"income {income}",
            f"since {row['since']}",
            f"member {row['member']}",
        ]


def test_zeros_unknown_names_and_times():
    times = ["2026-11-28 10:30", "2026-11-29 00:00", "1999-01-01 23:59"]
    table = jaxnn.read_table(
        {"x": [0.0, 12.5, -1e-3], "at": times, "c": ["a", "b", "a"]},
        dates={"at": "%Y-%m-%d %H:%M"},
    )
    columns = jaxnn.fit_columns(table)
    rows = table.with_columns(polars.Series("c", ["new", "b", None]))
    assert rows_as_text(columns, columns.encode(rows)["inputs"]) == [
        ["x 0", f"at {times[0]}", "c unknown"],
        ["x 12.5", f"at {times[1]}", "c b"],
        ["x -0.001", f"at {times[2]}", "c unknown"],
    ]
    columns = jaxnn.fit_columns(table[["at"]], dates=("year", "hour"))
    assert rows_as_text(columns, columns.encode(table)["inputs"])[0] == ["at 2026, 10"]


def test_inputs_of_other_columns_are_refused():
    columns = jaxnn.fit_columns(TABLE, **OPTIONS)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        rows_as_text(columns, np.zeros((3, 2)))
