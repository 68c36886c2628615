"""Later rows get the numbers that the same values got in training, in whatever form they come."""

import datetime

import numpy as np
import pandas
import polars
import pytest

import jaxnn
from jaxnn.checks import Invalid
from tests.reading.test_read_table import written

TIMES = [datetime.datetime(2026, 1, 1, 23, 30) + datetime.timedelta(hours=7 * i) for i in range(8)]
NUMBERS = [0.5 * i for i in range(8)]
LONG = [2**64 - 1, 2**64 - 2, 3, 2**64 - 1]
UTC = polars.Series("when", TIMES).dt.replace_time_zone("UTC")


def fitted(values, **options):
    return jaxnn.fit_columns({"x": values, "y": NUMBERS}, labels="y", **options)


def codes(columns, rows):
    return columns.encode(rows)["inputs"]["categories"].ravel().tolist()


def test_a_file_without_decimals_has_the_marks_of_the_training_file(tmp_path):
    path = written(tmp_path, "price;y\n" + "1.234,50;a\n999,00;b\n12.000,75;a\n")
    columns = jaxnn.fit_columns(jaxnn.read_table(path), labels="y")
    read = jaxnn.Columns.from_json(columns.to_json())
    later = read.encode(written(tmp_path, "price\n1.234\n12.000\n"))["inputs"]
    np.testing.assert_array_equal(later, columns.encode({"price": [1234, 12000]})["inputs"])


@pytest.mark.parametrize("kind", ["frame of another zone", "pandas", "nanoseconds"])
def test_one_instant_has_one_encoding(kind):
    dates = ("time", "hour", "weekday", "time_of_day")
    columns = jaxnn.fit_columns({"when": UTC, "y": NUMBERS}, labels="y", dates=dates)
    tokyo = UTC.dt.convert_time_zone("Asia/Tokyo")
    form = {
        "frame of another zone": polars.DataFrame({"when": tokyo}),
        "pandas": pandas.DataFrame(
            {"when": pandas.to_datetime(TIMES).tz_localize("UTC").tz_convert("Asia/Tokyo")}
        ),
        "nanoseconds": {"when": UTC.dt.cast_time_unit("ns")},
    }[kind]
    expected = columns.encode({"when": TIMES})["inputs"]
    np.testing.assert_array_equal(columns.encode(form)["inputs"], expected)


@pytest.mark.parametrize("form", ["2026-01-0{} 10:30", "2026-01-0{}T10:30:00", "2026-01-0{}"])
def test_a_date_is_the_same_category_in_a_frame_and_in_a_file(tmp_path, form):
    path = written(
        tmp_path, "x,y\n" + "".join(f"{form.format(i % 4 + 1)},{i}.5\n" for i in range(8))
    )
    table = jaxnn.read_table(path)
    columns = jaxnn.fit_columns(table, labels="y", kinds={"x": "category"})
    assert codes(columns, table) == codes(columns, path) == [0, 1, 2, 3] * 2
    assert codes(columns, table.with_columns(polars.col("x").cast(polars.Datetime("ns")))) == codes(
        columns, table
    )


def test_whole_numbers_beside_a_gap_are_the_categories_of_their_digits():
    """pandas reads a column of 1, 2 and a gap as floats."""
    columns = fitted(["1", "2", "A", "2.5", "1", "2", "A", "2.5"])
    assert codes(columns, {"x": ["1", "2", "2.5", "3"]}) == [0, 1, 2, 4]
    later = pandas.DataFrame({"x": [1, 2, 2.5, 3, None]})
    assert codes(columns, later) == [0, 1, 2, 4, 4]
    exact = fitted(["1.0", "2", "A", "A", "1.0", "2", "A", "A"])
    assert codes(exact, {"x": [1.0, 2.0]}) == [0, 1]


def test_integers_of_64_bits_without_a_sign_are_categories():
    keys = polars.Series(LONG * 2, dtype=polars.UInt64)
    columns = fitted(keys, kinds={"x": "category"})
    assert columns.inputs[0].values == (3, 2**64 - 2, 2**64 - 1)
    restored = jaxnn.Columns.from_json(columns.to_json())
    assert codes(restored, {"x": keys}) == [2, 1, 0, 2] * 2
    assert codes(restored, {"x": [3, 4]}) == [0, 3]
    labels = jaxnn.fit_columns({"x": NUMBERS, "key": keys}, labels="key")
    assert labels.decode([[0, 1, 0]])["key"].to_list() == [2**64 - 2]


def test_short_durations_are_not_rounded_to_microseconds():
    spans = np.arange(100, 900, 100)
    of_polars = polars.Series(spans, dtype=polars.Int64).cast(polars.Duration("ns"))
    of_pandas = pandas.DataFrame({"x": pandas.to_timedelta(spans, unit="ns")})
    expected = (spans - spans.mean()) / spans.std()
    columns = fitted(of_polars)
    for rows in ({"x": of_polars}, of_pandas):
        encoded = columns.encode(rows)["inputs"][:, 0]
        np.testing.assert_allclose(encoded, expected, rtol=1e-6)


def test_dates_without_times_are_midnight():
    columns = fitted(TIMES, dates=("hour", "minute", "year"))
    day = columns.encode({"x": [datetime.date(2026, 1, 1)]})["inputs"]
    midnight = columns.encode({"x": [datetime.datetime(2026, 1, 1)]})["inputs"]
    np.testing.assert_array_equal(day, midnight)


def test_a_time_of_day_is_no_date():
    with pytest.raises(Invalid, match="does not contain dates. Got Time"):
        fitted([each.time() for each in TIMES], kinds={"x": "date"})


@pytest.mark.parametrize("task", [None, "regression"])
def test_labels_that_are_all_missing(task):
    with pytest.raises(Invalid, match="labels are missing in column 'y'. Got 8 of 8 rows"):
        jaxnn.fit_columns({"x": NUMBERS, "y": [None] * 8}, labels="y", task=task)
