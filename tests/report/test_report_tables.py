"""The page of a table: columns and classes by name, numbers in their units, each recomputed."""

import re
import shutil

import jax
import numpy as np
import optax
import polars
import pytest

import jaxnn
from jaxnn import report
from jaxnn.report.source import read
from tests.pages import words
from tests.tables.people import people

TABLE = people(120)


@pytest.fixture(scope="module", params=["quality", "age"])
def trained(request, tmp_path_factory):
    """Returns the label, the directory, the columns, the run and the held-out rows."""
    label, out = request.param, tmp_path_factory.mktemp("table") / "run"
    rest, test = jaxnn.split_table(TABLE, 0.3)
    columns = jaxnn.fit_columns(rest, labels=label, ignore=["id"])
    learner = jaxnn.learner(columns.network([4]), columns.objective(), optax.adam(1e-2))
    data, held_out = (jaxnn.resident(columns.encode(x), batch_size=42) for x in (rest, test))
    at = jaxnn.Directory(out, report=True)
    options = {"steps": 8, "key": jax.random.key(0), "evaluate": held_out, "quiet": True}
    return label, out, columns, jaxnn.fit(learner, data, **options, out=at), test


def test_every_column_is_said(trained):
    label, out, columns, _, _ = trained
    shown = words(report.write(out).read_text())
    for cells in columns.described():
        assert " ".join(" ".join(filter(None, cells)).split()) in shown
    assert f"Columns of {columns.rows} training rows" in shown
    assert f"{label} labels" in shown


def test_examples_are_rows_of_the_table(trained):
    label, out, columns, run, test = trained
    end = read(out).recorded.end
    shown = test[end["worst/index"].astype(int)]
    texts = [dict(each.split(" ", 1) for each in row) for row in end["worst/rows"].tolist()]
    for row, text in zip(shown.rows(named=True), texts, strict=True):
        assert text["member"] == str(row["member"])
        assert text["since"] == str(row["since"])
        assert text["income"] == ("missing" if row["income"] is None else f"{row['income']:.6g}")
    answers = columns.decode(run.predict(columns.encode(test)["inputs"]))
    if label == "age":
        errors = np.abs((answers["age"] - test["age"]).to_numpy())
        worst = np.sort(errors)[::-1][:8]
        np.testing.assert_allclose(
            np.abs(end["worst/outputs"].ravel() - end["worst/labels"]), worst, rtol=1e-4
        )
        np.testing.assert_allclose(end["worst/labels"], shown["age"], rtol=1e-5)
    said = words(report.write(out).read_text())
    near = ("Where it was furthest off", "Where it was closest")  # numbers are never just right
    right = ("Where it was most wrong", "Where it was right and most sure")
    there, absent = (near, right) if label == "age" else (right, near)
    assert all(title in said for title in there) and not any(title in said for title in absent)


def test_figures_are_in_the_unit_of_the_label(trained):
    label, out, columns, run, test = trained
    shown = words(report.write(out).read_text())
    answers = columns.decode(run.predict(columns.encode(test)["inputs"]))
    if label == "age":
        mae = float(np.abs((answers["age"] - test["age"]).to_numpy()).mean())
        assert run.result["test/mae"] == pytest.approx(mae, rel=1e-5)
        assert re.search(rf"mean absolute error of {mae:.4g}, in the unit of age, on held", shown)
    else:
        assert read(out).recorded.about["names"] == ["bad", "fair", "good"]
        pairs = polars.DataFrame({"true": test["quality"], "said": answers["quality"]})
        counts = read(out).recorded.end["confusion"]
        for i, true in enumerate(("bad", "fair", "good")):
            for j, said in enumerate(("bad", "fair", "good")):
                both = (polars.col("true") == true) & (polars.col("said") == said)
                assert counts[i, j] == pairs.filter(both).height
        assert re.search(r"wrong: it is (bad|fair|good)", shown)


def test_a_page_stands_without_its_columns(trained, tmp_path):
    _, out, _, _, _ = trained
    for text in ("{}", "\xff", '{"format": 1}'):
        copy = tmp_path / f"copy{len(text)}"
        shutil.copytree(out, copy)
        (copy / "columns.json").write_text(text, encoding="latin-1")
        shown = words(report.write(copy).read_text())
        assert "Encoding of the columns" not in shown and "Learning curves" in shown
