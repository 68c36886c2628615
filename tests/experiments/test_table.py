"""The experiment of tables: from each file that is here to predictions of the rows held out."""

from dataclasses import replace

import polars
import pytest

import jaxnn
from experiments.benchmarks.tables import TABLES
from experiments.table import main, parts
from jaxnn.checks import InvalidValue

SMALL = {"epochs": 3, "hidden": (8,)}


@pytest.mark.parametrize(
    "name", [n if n == "customers" else pytest.param(n, marks=pytest.mark.slow) for n in TABLES]
)
def test_held_out_rows_are_predicted_by_name(name, tmp_path, capsys):
    config = replace(TABLES[name], **SMALL, balanced=name == "customers")
    run = main(config, jaxnn.Directory(tmp_path / "run", "table", config))
    predictions = polars.read_csv(run.out / "predictions.csv")
    table = jaxnn.read_table(config.data)
    [label] = config.labels
    assert predictions.height == pytest.approx(0.2 * table.height, abs=1)
    if table[label].dtype == polars.String:
        assert set(predictions[label]) <= set(table[label])
        chances = predictions.select(polars.selectors.starts_with("probability of "))
        assert chances.width == table[label].n_unique()
        assert chances.sum_horizontal().to_list() == pytest.approx([1.0] * chances.height)
    else:
        assert predictions[label].is_between(2 * table[label].min() - 1e3, 3e3).all()
        assert run.result["test/mae"] < 2 * table[label].std()
    assert f"true {label}" in capsys.readouterr().out


def test_parts_are_as_asked():
    config = TABLES["rides"]
    table = jaxnn.read_table(config.data)
    train, validation, test = parts(replace(config, time="start"), table)
    assert train["start"].max() < validation["start"].min()
    assert validation["start"].max() < test["start"].min()
    grouped = parts(replace(config, group="weather"), table)
    assert len({name for part in grouped for name in part["weather"].unique()}) == 4
    assert sum(part["weather"].n_unique() for part in grouped) == 4
    assert [part.height for part in parts(config, table)] == [1280, 320, 400]


def test_an_unknown_column_is_named(tmp_path):
    with pytest.raises(InvalidValue, match="Did you mean 'status'"):
        config = replace(TABLES["customers"], labels=("statu",))
        main(config, jaxnn.Directory(tmp_path / "run", "table", config))
