"""Text files of every encoding and length: read whole, or refused by the row."""

import gzip
import re

import pytest

import jaxnn
from jaxnn.checks import Invalid
from tests.reading.test_read_table import written

pytest.importorskip("polars")
TEXT = "Größe,Art\n1,ä\n2,ö\n"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8-sig", "utf-16", "mac-roman"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_encoding_reads_the_same(tmp_path, encoding, compressed):
    path = written(tmp_path, TEXT, encoding=encoding)
    if compressed:
        content = path.read_bytes()
        path = tmp_path / "rows.csv.gz"
        path.write_bytes(gzip.compress(content))
    table = jaxnn.read_table(path, encoding=encoding)
    assert table.columns == ["Größe", "Art"] and table.rows() == [(1, "ä"), (2, "ö")]


def test_letters_of_a_header_are_not_lost(tmp_path):
    path = written(tmp_path, "Größe,n\n1,2\n", encoding="latin-1")
    with pytest.raises(Invalid, match="encoding='latin-1'"):
        jaxnn.read_table(path)


def test_a_file_of_utf_16_is_known(tmp_path):
    with pytest.raises(Invalid, match="encoding='utf-16'"):
        jaxnn.read_table(written(tmp_path, TEXT, encoding="utf-16"))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_short_row_is_refused_in_every_file(tmp_path, encoding, compressed):
    path = written(tmp_path, "a,b,c\n1,2,3\n4,5\n6,7,8\n", encoding=encoding)
    if compressed:
        path = written(tmp_path, "", "rows.csv.gz")
        content = "a,b,c\n1,2,3\n4,5\n6,7,8\n".encode(encoding)
        path.write_bytes(gzip.compress(content))
    words = rf"row 3 of {re.escape(path.name)} has the wrong length. Got 2 fields"
    with pytest.raises(Invalid, match=words):
        jaxnn.read_table(path, encoding=encoding)


def test_a_name_over_two_lines_is_one(tmp_path):
    table = jaxnn.read_table(written(tmp_path, 'x,"y\nz"\n1,2\n'))
    assert table.columns == ["x", "y\nz"]


def test_endings_of_any_case(tmp_path):
    assert jaxnn.read_table(written(tmp_path, "a,b\n1,2\n", "ROWS.CSV")).rows() == [(1, 2)]


@pytest.mark.parametrize(
    ("content", "row"), [("a,b,c\n1,2\n3,4\n,,\n5,6,7\n", 2), ("a,b\n1,2\n,\n3,4\n5", 5)]
)
def test_an_empty_row_does_not_hide_short_rows(tmp_path, content, row):
    with pytest.raises(Invalid, match=rf"row {row} of rows\.csv has the wrong length"):
        jaxnn.read_table(written(tmp_path, content))


def test_a_blank_line_within_quotes_is_text(tmp_path):
    table = jaxnn.read_table(written(tmp_path, 'a,b\n"x\n\ny",1\n\nz,2\n'))
    assert table.rows() == [("x\n\ny", 1), ("z", 2)]


@pytest.mark.parametrize("word", [" ", " NA", "? "])
@pytest.mark.parametrize("numbers", [["1", "2.5"], [" 1", " 2.5"]])
def test_words_for_missing_numbers_may_have_spaces(tmp_path, word, numbers):
    rows = [*numbers, word] * 10
    table = jaxnn.read_table(written(tmp_path, "a,b\n" + "".join(f"{x},u\n" for x in rows)))
    assert table["a"].to_list() == [1.0, 2.5, None] * 10
