"""New files are read as the one was that a run was trained on, in another process too."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import jaxnn
from jaxnn.checks import Caution, Invalid
from jaxnn.reading import options
from tests.reading.test_read_table import read, written
from tests.tables.people import people

polars = pytest.importorskip("polars")

MESSY = (
    "Größe;Tag;PLZ;Art;Preis\n"
    "1.250,5;28/11/2026;01234;a;-999\n"
    "12,25;01/02/2026;99999;b;10\n"
    "7,0;03/02/2026;01234;a;20\n"
)
OPTIONS = {
    "dates": {"Tag": "%d/%m/%Y"},
    "text": ["PLZ"],
    "missing": ["", "-999"],
    "encoding": "latin-1",
    "decimal": ",",
}


@pytest.fixture
def messy(tmp_path):
    """Returns columns that were fitted on a file as spreadsheets save it, and its path."""
    path = written(tmp_path, MESSY, encoding="latin-1")
    table = jaxnn.read_table(path, **OPTIONS).filter(polars.col("Größe") > 0)  # a frame of its own
    return jaxnn.fit_columns(table, labels="Art"), path


def flat(examples):
    return np.concatenate([*examples["inputs"].values()], axis=1)


def test_a_file_is_read_as_its_options_say(tmp_path):
    table = jaxnn.read_table(written(tmp_path, MESSY, encoding="latin-1"), **OPTIONS)
    assert table["Größe"].to_list() == [1250.5, 12.25, 7.0]
    assert [str(day) for day in table["Tag"]] == ["2026-11-28", "2026-02-01", "2026-02-03"]
    assert table["PLZ"].to_list() == ["01234", "99999", "01234"]
    assert table["Preis"].to_list() == [None, 10, 20]


def test_how_a_file_was_read_is_saved_with_its_columns(messy):
    columns, path = messy
    again = jaxnn.Columns.from_json(columns.to_json())
    assert again == columns
    saved = json.loads(columns.to_json())["reading"]
    names = ["Größe", "Tag", "PLZ", "Art", "Preis"]
    assert saved == {**OPTIONS, "delimiter": ";", "header": True, "names": names}
    expected = columns.encode(jaxnn.read_table(path, **OPTIONS))
    np.testing.assert_array_equal(flat(again.encode(path)), flat(expected))


def test_new_rows_without_the_label_are_read_alike(messy, tmp_path):
    columns, path = messy
    lines = [line.split(";") for line in MESSY.splitlines()]
    text = "\n".join(";".join(f for i, f in enumerate(line) if i != 3) for line in lines)
    new = written(tmp_path, text, "new.csv", "latin-1")
    np.testing.assert_array_equal(flat(columns.encode(new)), flat(columns.encode(path)))
    other = written(tmp_path, text.replace(";", "\t"), "new.tsv", "latin-1")  # of another program
    np.testing.assert_array_equal(flat(columns.encode(other)), flat(columns.encode(path)))


def test_another_process_reads_alike(messy, tmp_path):
    columns, path = messy
    (tmp_path / "columns.json").write_text(columns.to_json())
    program = (
        "import sys, jaxnn\n"
        "columns = jaxnn.Columns.from_json(open(sys.argv[1]).read())\n"
        "inputs = columns.encode(sys.argv[2])['inputs']\n"
        "print([inputs['numbers'].tolist(), inputs['categories'].tolist()])\n"
    )
    command = [sys.executable, "-c", program, tmp_path / "columns.json", path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    numbers, categories = json.loads(done.stdout)
    expected = columns.encode(path)["inputs"]
    np.testing.assert_array_equal(np.float32(numbers), expected["numbers"])
    assert categories == expected["categories"].tolist()


def test_the_reading_may_be_named_for_frames_of_another_library(tmp_path):
    path = written(tmp_path, MESSY, encoding="latin-1")
    frame = jaxnn.read_table(path, **OPTIONS).rename({"Größe": "size"})
    new = written(tmp_path, MESSY.replace("Größe", "size"), "new.csv", "latin-1")
    assert jaxnn.fit_columns(frame, labels="Art").reading is None
    columns = jaxnn.fit_columns(frame, labels="Art", reading=OPTIONS)
    assert len(columns.encode(new)["labels"]) == 3


def test_the_last_file_with_all_columns_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(options, "_READ", {})
    for delimiter in (",", ";"):
        text = people(20).write_csv(separator=delimiter)
        table = jaxnn.read_table(written(tmp_path, text))
        columns = jaxnn.fit_columns(table, labels="quality", ignore="id")
        saved = json.loads(columns.to_json())["reading"]
        assert saved["delimiter"] == delimiter
    derived = table.with_columns(twice=polars.col("age") * 2)
    assert jaxnn.fit_columns(derived, labels="quality", ignore="id").reading is None


HEADLESS = "b,1,5.5,x\na,2,6.5,y\nb,4,7.5,x\n"


def test_a_file_without_a_header_may_lack_its_labels(tmp_path):
    table = read(tmp_path, HEADLESS, header=None)
    columns = jaxnn.fit_columns(table, labels="column_1", ignore=["column_4"])
    expected = columns.encode(table)["inputs"]

    def encoded(text):
        return columns.encode(written(tmp_path, text, "new.csv"))["inputs"]

    without = "\n".join(line[2:] for line in HEADLESS.splitlines())
    named = "column_2,column_3\n1,5.5\n2,6.5\n4,7.5\n"
    for text in (HEADLESS, without, named):
        np.testing.assert_array_equal(encoded(text), expected)
    # One column less, and each would be taken for its neighbour.
    with pytest.raises(
        Invalid, match=re.escape("Got 2 columns; expected 4, or 3 without column_1")
    ):
        encoded("1,5.5\n2,6.5\n")


def test_names_stay_text_in_new_files(tmp_path):
    codes = {"code": ["007", "True", "2026-11-28"] * 20, "y": [0, 1, 1, 2] * 15}
    columns = jaxnn.fit_columns(codes, labels="y")
    for code in ("007", "True", "2026-11-28"):
        rows = columns.encode(written(tmp_path, f"code\n{code}\n"))["inputs"]
        assert rows["categories"].tolist() == [[["007", "2026-11-28", "True"].index(code)]]


# --- Numbers with one reading --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, decimal, expected",
    [
        ("1.234,5|-7|2", ",", [1234.5, -7, 2]),
        ("1.234|5.678.901", ",", [1234, 5678901]),
        ("1,234.5|-7|2", ".", [1234.5, -7, 2]),
        ("1,234|5", ".", [1234, 5]),
        ("1.5|2", ".", [1.5, 2]),
        ("0,5|1e3", ",", [0.5, 1000]),
        ("1,5|12,25", None, [1.5, 12.25]),
        ("1.234,5|-7|850,25", None, [1234.5, -7, 850.25]),
        ("1.234.567|2", None, [1234567, 2]),
        ("1,234.5|2", None, [1234.5, 2]),
    ],
)
def test_decimal_marks(tmp_path, text, decimal, expected):
    rows = text.replace("|", ";x\n")
    assert read(tmp_path, f"a;b\n{rows};x\n", decimal=decimal)["a"].to_list() == expected


@pytest.mark.parametrize("text", ["1,234|2,345", "950|1,234"])
def test_numbers_that_can_be_read_in_two_ways_are_refused(tmp_path, text):
    rows = text.replace("|", ";x\n")
    with pytest.raises(Invalid, match=r"mark in column 'a' is ambiguous.*decimal='\.'"):
        read(tmp_path, f"a;b\n{rows};x\n")
    assert read(tmp_path, f"a;b\n{rows};x\n", text=["a"])["a"].to_list() == text.split("|")


def test_two_marks_in_a_file_are_refused(tmp_path):
    with pytest.raises(Invalid, match="'a' has decimal commas, and column 'b' decimal points"):
        read(tmp_path, "a;b\n1,5;2.25\n2,5;3.75\n")
    assert read(tmp_path, "a;b\n1,5;2.25\n", text=["b"]).rows() == [(1.5, "2.25")]


def test_a_few_words_among_numbers_are_said(tmp_path):
    rows = "\n".join(["5,x"] * 30 + ["unknown,x", "-,x"])
    words = r"'a' is text, because of 2 of 32 values: 'unknown', '-'.*missing=\['', 'NA', 'unknown'"
    with pytest.warns(Caution, match=words):
        read(tmp_path, f"a,b\n{rows}\n")
    assert read(tmp_path, f"a,b\n{rows}\n", missing=["unknown", "-"])["a"].null_count() == 2
    assert read(tmp_path, f"a,b\n{rows}\n", text=["a"])["a"].null_count() == 0


def test_dates_of_other_forms_are_said(tmp_path):
    with pytest.warns(
        Caution, match=r"column 'a' is text such as '01/02/2026'.*%d/%m/%Y.* or .*%m"
    ):
        read(tmp_path, "a,b\n01/02/2026,1\n03/04/2026,2\n")
    with pytest.warns(Caution, match=r"for dates, dates=\{'a': '%d.%m.%Y %H:%M'\}$"):
        read(tmp_path, "a,b\n01.02.2026 10:30,1\n13.04.2026 11:30,2\n")


@pytest.mark.parametrize("before", [0, 12_000])
def test_leading_zeros_make_names(tmp_path, before):
    rows = "\n".join(["53111,1,0.5,x"] * before + ["01234,2,0.25,y", '"99999",3,-0.5,z'])
    table = read(tmp_path, f"zip,n,x,t\n{rows}\n")
    assert table["zip"].to_list()[before:] == ["01234", "99999"]
    assert [str(dtype) for dtype in table.dtypes[1:]] == ["Int64", "Float64", "String"]
    assert read(tmp_path, "a,b\n0,00:30\n-5,01:30\n")["a"].to_list() == [0, -5]


def test_numbers_of_rows_have_a_name(tmp_path):
    assert read(tmp_path, ",a\n0,5\n1,6\n").columns == ["column_1", "a"]


def test_whole_numbers_of_more_than_64_bits_are_names(tmp_path):
    table = read(tmp_path, "key,n\n12345678901234567890123456789012345678901,1\n3,2\n")
    assert table["key"].dtype == polars.String


@pytest.mark.parametrize(
    "options, words",
    [
        ({"delimiter": "::"}, "the delimiter is not a single ASCII character"),
        ({"decimal": "'"}, "the decimal mark"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, options, words):
    with pytest.raises(Invalid, match=words):
        read(tmp_path, "a,b\n1,2\n", **options)
