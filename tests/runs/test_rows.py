"""From a csv to a run that predicts new rows, in Python and from a shell."""

import csv
import json
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.__main__ import main

pytest.importorskip("polars")


@pytest.fixture(scope="module")
def wines(tmp_path_factory):
    """Returns a run that was trained on a table of wines, and rows that it has not seen."""
    folder = tmp_path_factory.mktemp("wines")
    table = jaxnn.read_table("experiments/tables/wine.csv")
    train, test = jaxnn.split_table(table, 0.2, stratify="class")
    columns = jaxnn.fit_columns(train, labels="class")
    learner = jaxnn.learner(columns.network(), columns.objective(), optax.adam(3e-3))
    data, held_out = (jaxnn.resident(columns.encode(rows), batch_size=32) for rows in (train, test))
    run = jaxnn.fit(
        learner, data, steps="20 epochs", key=jax.random.key(0), evaluate=held_out,
        out=folder / "run", quiet=True,
    )  # fmt: skip
    test.drop("class").write_csv(folder / "new.csv")
    return run, test, folder


def test_a_run_predicts_the_rows_of_a_table(wines):
    run, test, folder = wines
    answers = jaxnn.load(run.out).predict(folder / "new.csv")
    assert answers.columns[0] == "class"
    correct = np.mean(answers["class"].to_numpy() == test["class"].to_numpy(), dtype=np.float32)
    assert float(correct) == run.result["test/accuracy"] > 0.9
    assert jaxnn.load(run.out).predict(test).equals(answers)


def test_the_command_predicts_in_a_process_of_its_own(wines):
    run, _, folder = wines
    command = [sys.executable, "-m", "jaxnn", "predict", run.out, folder / "new.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    header, *rows = csv.reader(done.stdout.splitlines())
    expected = jaxnn.load(run.out).predict(folder / "new.csv")
    assert header == expected.columns and [row[0] for row in rows] == expected["class"].to_list()


def test_the_command_writes_a_file_or_a_document(wines, capsys):
    run, test, folder = wines
    out = folder / "predictions.csv"
    assert main(["predict", str(run.out), str(folder / "new.csv"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{test.height} rows in {out}\n"
    assert len(out.read_text().splitlines()) == test.height + 1
    assert main(["predict", str(run.out), str(folder / "new.csv"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["predictions"]) == test.height and document["columns"][0] == "class"


def test_a_column_that_is_lacking_is_named(wines, capsys):
    run, test, folder = wines
    test.drop("class", "alcohol").write_csv(folder / "less.csv")
    assert main(["predict", str(run.out), str(folder / "less.csv")]) == 2
    assert "alcohol" in capsys.readouterr().err


def test_arrays_are_predicted_too(tmp_path, capsys):
    inputs = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    data = jaxnn.resident({"inputs": inputs, "labels": inputs[:, :2]}, batch_size=2)
    learner = jaxnn.learner(jaxnn.linear(2), jaxnn.regression(), optax.sgd(0.1))
    run = jaxnn.fit(learner, data, steps=3, key=jax.random.key(0), out=tmp_path / "run", quiet=True)
    np.save(tmp_path / "rows.npy", inputs)
    assert main(["predict", str(run.out), str(tmp_path / "rows.npy")]) == 0
    header, *rows = csv.reader(capsys.readouterr().out.splitlines())
    assert header == ["output_0", "output_1"]
    np.testing.assert_allclose(np.array(rows, float), run.predict(inputs), rtol=1e-6)
