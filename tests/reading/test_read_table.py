"""Every way in gives one table, or says why not."""

import gzip
import re

import numpy as np
import pytest

import jaxnn
from jaxnn.checks import Caution, Invalid
from tests.tables.people import people

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")


def written(folder, text, name="rows.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def read(folder, rows, **options):
    return jaxnn.read_table(written(folder, rows), **options)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_detected_and_said(tmp_path, delimiter, capsys):
    text = people(40).write_csv(separator=delimiter)
    table = read(tmp_path, text)
    assert table.equals(people(40))
    named = "tab" if delimiter == "\t" else repr(delimiter)
    assert capsys.readouterr().err == f"rows.csv: 40 rows of 8 columns, delimiter {named}\n"
    assert read(tmp_path, text, delimiter=delimiter).equals(people(40))
    assert capsys.readouterr().err == ""


def test_types_are_those_of_all_values(tmp_path):
    table = read(
        tmp_path,
        "a,b,c,d,e,f,g\n"
        "1,0.5,True,2026-11-28,2026-11-28T10:00:00,x,1\n"
        ",nan,,,,,\n"
        "2,1e3,False,2026-11-29,2026-11-28T10:00:00.5,NA,x\n",
    )
    names = ["Int64", "Float64", "Boolean", "Date", "Datetime", "String", "String"]
    assert [str(dtype).split("(")[0] for dtype in table.dtypes] == names
    assert table["b"].to_list() == [0.5, None, 1000.0]
    assert table["c"].to_list() == [True, None, False]
    assert table["e"][2].microsecond == 500_000
    assert table["f"].null_count() == 2  # all that stands for a missing value


def test_nan_is_missing_in_every_source(tmp_path):
    assert read(tmp_path, "a,b\n1.5,-nan\n+NaN,2\n", missing=[""])["a"].to_list() == [1.5, None]
    assert jaxnn.read_table({"a": [1.5, float("nan")]})["a"].to_list() == [1.5, None]
    columns = jaxnn.fit_columns({"a": [1.0, 3.0, None]})
    assert columns.encode({"a": ["nan", "3"]})["inputs"].tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_the_type_of_a_late_row_counts(tmp_path):
    rows = ["n,t,gap"] + ["1,2,"] * 11_000 + ["1.5,word,7"]
    with pytest.warns(Caution, match=r"column 't' is text, because of 1 of 11,001 values: 'word'"):
        table = read(tmp_path, "\n".join(rows))
    assert table.dtypes == [polars.Float64, polars.String, polars.Int64]
    assert table["n"][-1] == 1.5 and table["t"][0] == "2" and table["gap"][-1] == 7


def test_a_decimal_comma_is_read_between_semicolons(tmp_path):
    table = read(tmp_path, "a;b\n1,5;x\n-2;y\n;z\n")
    assert table["a"].to_list() == [1.5, -2.0, None]
    with pytest.raises(Invalid, match="mark in column 'a' is ambiguous"):
        read(tmp_path, 'a,b\n"1,500",x\n"2,500",y\n')
    assert read(tmp_path, 'a,b\n"1,5",x\n')["a"].dtype == polars.String


def test_text_stays_text_where_it_should(tmp_path):
    table = read(tmp_path, "zip,n\n01234,1\n99999,2\n", text=["zip"])
    assert table["zip"].to_list() == ["01234", "99999"]


def test_other_formats_of_dates_are_named(tmp_path):
    text = "day,n\n28/11/2026,1\n01/02/2026,2\n"
    with pytest.warns(Caution, match="for dates, dates={'day': '%d/%m/%Y'}"):
        assert read(tmp_path, text)["day"].dtype == polars.String  # 1 February, or 2 January?
    days = read(tmp_path, text, dates={"day": "%d/%m/%Y"})["day"]
    assert [str(day) for day in days] == ["2026-11-28", "2026-02-01"]
    frame = jaxnn.read_table({"day": ["28.11.26 10:30"]}, dates={"day": "%d.%m.%y %H:%M"})
    assert str(frame["day"][0]) == "2026-11-28 10:30:00"


def test_a_header_is_not_guessed(tmp_path):
    path = written(tmp_path, "5.1,3.5,0\n4.9,3.0,1\n")
    with pytest.raises(Invalid, match="header=None"):
        jaxnn.read_table(path)
    table = jaxnn.read_table(path, header=None)
    assert table.columns == ["column_1", "column_2", "column_3"] and table.height == 2


def test_blank_lines_quotes_marks_and_endings(tmp_path):
    text = '\ufeffa,b\r\n1,"x, ""y""\nz"\r\n\r\n2,\r\n\r\n'
    table = read(tmp_path, text)
    assert table.rows() == [(1, 'x, "y"\nz'), (2, None)]


def test_encodings_and_compression(tmp_path):
    path = written(tmp_path, "city,n\nKöln,1\n", encoding="latin-1")
    with pytest.raises(Invalid, match="encoding='latin-1'"):
        jaxnn.read_table(path)
    assert jaxnn.read_table(path, encoding="latin-1")["city"][0] == "Köln"
    with gzip.open(tmp_path / "rows.csv.gz", "wt") as file:
        file.write("a,b\n1,2\n")
    assert jaxnn.read_table(tmp_path / "rows.csv.gz").rows() == [(1, 2)]


def test_parquet_arrow_and_feather(tmp_path):
    table = people(20)
    table.write_parquet(tmp_path / "rows.parquet")
    table.write_ipc(tmp_path / "rows.arrow")
    table.write_ipc(tmp_path / "rows.feather")
    for name in ("rows.parquet", "rows.arrow", "rows.feather"):
        assert jaxnn.read_table(str(tmp_path / name)).equals(table)


def test_frames_of_every_library():
    table = people(20)
    frame = pandas.DataFrame(table.to_dict(as_series=False))
    frame["since"] = pandas.to_datetime(frame["since"])
    frame["age"] = frame["age"].astype("Int64")
    frame.loc[0, "age"] = pandas.NA
    frame["city"] = frame["city"].astype("category")
    read = jaxnn.read_table(frame)
    assert read.columns == table.columns and read["age"].to_list() == [None, *table["age"][1:]]
    assert read["city"].cast(polars.String).equals(table["city"])
    assert read["since"].cast(polars.Date).equals(table["since"])
    assert read["income"].fill_nan(None).equals(table["income"])
    assert jaxnn.read_table(table.lazy()).equals(table)
    assert jaxnn.read_table(table.to_dict()).equals(table)
    assert jaxnn.read_table(table.to_dicts()).equals(table)


def test_numbers_that_pandas_declares_categories_stay_categories():
    """In the training rows and in later ones, however these are stored."""
    codes, gap = [3, 1, 20, 1], [3, 1, None, 1]
    frame = pandas.DataFrame({
        "whole": pandas.Categorical(codes),
        "gap": pandas.Categorical(gap),
        "floats": pandas.Categorical([3.0, 1.5, np.inf, 1.5]),
        "boolean": pandas.Categorical([True, False, None, True]),
    })  # fmt: skip
    table = jaxnn.read_table(frame)
    assert table["whole"].to_list() == ["3", "1", "20", "1"]
    assert table["gap"].to_list() == ["3", "1", None, "1"]
    assert table["floats"].to_list() == ["3", "1.5", "inf", "1.5"]
    assert table["boolean"].to_list() == [True, False, None, True]
    columns = jaxnn.fit_columns(table)
    encoded = columns.encode(table)["inputs"]
    plain = {"floats": [3.0, 1.5, np.inf, 1.5], "boolean": [True, False, None, True]}
    later = jaxnn.read_table({"whole": codes, "gap": np.array(gap, float), **plain})
    for name, values in columns.encode(later)["inputs"].items():
        np.testing.assert_array_equal(values, encoded[name])


def test_tables_of_pyarrow():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": [1, None], "b": ["x", "y"]})
    assert jaxnn.read_table(table).rows() == [(1, "x"), (None, "y")]
    assert jaxnn.read_table(table.to_batches()[0]).rows() == [(1, "x"), (None, "y")]


def test_what_numpy_holds():
    masked = np.ma.masked_array([1.0, -9999.0], mask=[False, True])
    table = jaxnn.read_table({"a": masked, "b": np.array([1, 2], ">i4"), "c": np.array(["x", "y"])})
    assert table.rows() == [(1.0, 1, "x"), (None, 2, "y")]
    assert jaxnn.read_table({"a": np.float16([1, 2])})["a"].to_list() == [1.0, 2.0]


MISTAKES = {
    "empty": ("", "rows.csv is empty. Got no line"),
    "no rows": ("a,b\n", "rows.csv is empty. Got no row below the header"),
    "short row": ("a,b,c\n1,2,3\n4,5\n6,7,8\n", "row 3 of rows.csv has the wrong length"),
    "long row": ("a,b\n1,2\n4,5,6\n", "row 3 of rows.csv has the wrong length. Got 3 fields"),
    "cut off": ("a,b,c\n1,2,3\n4,5", "row 3 of rows.csv has the wrong length. Got 2 fields"),
    "same names": ("a,a\n1,2\n", "distinct name for every"),
    "no name": ("a,\n1,2\n", "distinct name for every"),
}


@pytest.mark.parametrize("text, words", MISTAKES.values(), ids=MISTAKES)
def test_files_that_cannot_be_read(tmp_path, text, words):
    with pytest.raises(Invalid, match=re.escape(words)):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "source, words",
    [
        ("nowhere.csv", "nowhere.csv does not exist"),
        ("nowhere.parquet", "nowhere.parquet does not exist"),
        ("nowhere", "nowhere does not exist"),
        ("rows.json", "the ending of the path"),
        ("rows.xlsx", "read_table(pandas.read_excel(path))"),
        (3, "not a table"),
        ({"a": [1, 2], "b": [1]}, "a with 2 rows, b with 1 rows"),
        ({"a": [1, "x"]}, "column 'a' cannot be read"),
        ({"a": np.zeros((2, 2))}, "column 'a' cannot be read"),
    ],
)
def test_sources_that_are_none(source, words):
    with pytest.raises(Invalid, match=re.escape(words)):
        jaxnn.read_table(source)


def test_a_wrong_format_of_dates_names_the_value():
    with pytest.raises(Invalid, match=re.escape("'2026-11-28' with dates={'day': '%d/%m/%Y'}")):
        jaxnn.read_table({"day": ["2026-11-28"]}, dates={"day": "%d/%m/%Y"})


def test_without_polars_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(Invalid, match=re.escape("pip install 'jaxnn-toolkit[data]'")):
        jaxnn.read_table({"a": [1]})


def test_integers_and_floats_of_a_list_are_numbers():
    rows = [{"size": 1, "city": "Ulm"}, {"size": 2.5, "city": "Bonn"}, {"city": "Bonn"}]
    assert jaxnn.read_table(rows)["size"].to_list() == [1.0, 2.5, None]
    assert jaxnn.read_table({"size": (2.5, 1)})["size"].to_list() == [2.5, 1.0]
