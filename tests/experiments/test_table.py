"""The experiment of tables: from each file that is here to predictions of the rows held out."""

import sys
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import polars
import pytest

import jaxnn
from experiments.benchmarks.tables import TABLES
from experiments.command import command
from experiments.table import Config, main, parts, read
from jaxnn.checks import InvalidValue
from jaxnn.reading._read_table import import_polars

SMALL = {"epochs": 3, "hidden": (8,)}


@pytest.mark.parametrize(
    "name", [n if n == "customers" else pytest.param(n, marks=pytest.mark.slow) for n in TABLES]
)
def test_held_out_rows_are_predicted_by_name(name, tmp_path, capsys):
    config = replace(TABLES[name], **SMALL, balanced=name == "customers")
    run = main(config, jaxnn.Directory(tmp_path / "run", "table", config))
    predictions = polars.read_csv(tmp_path / "run" / "predictions.csv")
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


def test_without_polars_one_line_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setattr(sys, "argv", ["table"])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(SystemExit, match="2"):
        command(Config, main, check=partial(import_polars, "table"))
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert "pip install 'jaxnn-toolkit[data]'" in shown.err


MESSY = """Kunde;Größe;Tag;PLZ;Zufrieden;Umsatz;Urteil
{}"""


@pytest.fixture
def messy(tmp_path):
    """Returns the path of a file as a spreadsheet saves it in German, and how it is read."""
    draw = np.random.default_rng(3)
    lines = []
    for row in range(150):
        size, code = draw.normal(170, 10), draw.choice(["01234", "53111", "89073"])
        revenue = f"{np.exp(draw.normal(7, 1)):,.2f}".translate(str.maketrans(",.", ".,"))
        fields = [
            str(1000 + row), f"{size:.1f}".replace(".", ","),
            f"{draw.integers(1, 29)}.{draw.integers(1, 13)}.2025", code,
            draw.choice(["ja", "nein", ""]), "-999" if row % 20 == 3 else revenue,
            "" if row % 30 == 7 else ["schlecht", "gut"][int(size > 170)],
        ]  # fmt: skip
        lines.append(";".join(fields))
    path = tmp_path / "messy.csv"
    path.write_text(MESSY.format("\n".join(lines)), encoding="latin-1")
    options = {
        "encoding": "latin-1",
        "date_formats": (("Tag", "%d.%m.%Y"),),
        "missing": ("-999",),
        "ignore": ("Kunde",),
    }
    return replace(Config(), data=path, labels=("Urteil",), **options, **SMALL)


def test_a_file_as_spreadsheets_save_it(messy, tmp_path, capsys):
    out = tmp_path / "run"
    main(messy, jaxnn.Directory(out, "table", messy))
    printed = capsys.readouterr().out
    assert "5 rows of 150 without Urteil left out" in printed
    columns = jaxnn.load(out).columns
    assert columns is not None
    kinds = {c.name: c.kind for c in columns.inputs}
    assert list(kinds.values()) == ["left out", "number", "date", "category", "category", "number"]
    lines = messy.data.read_text("latin-1").splitlines()
    new = tmp_path / "new.csv"
    new.write_text("\n".join(line.rpartition(";")[0] for line in lines), encoding="latin-1")
    there = jaxnn.load(out).predict(new)
    table = read(messy)
    here = jaxnn.load(out).predict(table)
    answered = [bool(line.rpartition(";")[2]) for line in lines[1:]]
    assert there.filter(answered).equals(here)


@pytest.mark.filterwarnings("ignore::jaxnn.Caution")
def test_mistakes_are_said_in_a_line(messy, tmp_path):
    def out():
        return jaxnn.Directory(tmp_path / "run", "table", messy)

    lines = messy.data.read_text("latin-1").splitlines()
    one = tmp_path / "one.csv"
    for text, words in [
        ("\n".join(lines[:2]), "labels in column 'Urteil' are all the same"),
        ("\n".join([*lines, lines[1].rpartition(";")[0] + ";neu"]), "has classes of too few rows"),
        ("\n".join(line.rpartition(";")[2] or "gut" for line in lines), "no input column remains"),
    ]:
        one.write_text(text, encoding="latin-1")
        with pytest.raises(InvalidValue, match=words):
            config = replace(messy, data=one, ignore=(), date_formats=())
            main(config, out())
    for changes, words in [
        ({"encoding": "utf-8"}, "encoding='latin-1'"),
        ({"labels": ("urteil",)}, "Did you mean 'Urteil'"),
        ({"data": tmp_path / "nowhere.csv"}, "does not exist"),
        ({"kinds": (("PLZ", "words"),)}, "a kind is unknown"),
        ({"delimiter": ","}, "Did you mean|is unknown"),
    ]:
        with pytest.raises(InvalidValue, match=words):
            main(replace(messy, **changes), out())
