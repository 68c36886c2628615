"""The time and the memory of a large table, from a file to the device."""

import statistics

import pytest

from experiments.benchmarks.read_table import Config, compare, time_ratios


@pytest.mark.benchmark
def test_a_million_rows_take_three_times_what_pandas_takes_to_read_them_at_most():
    pytest.importorskip("pandas", reason="pandas is not installed")
    size, figures = compare(Config(pairs=3))
    ratios = time_ratios(figures)
    assert statistics.median(ratios) <= 3.0, ratios
    assert max(each["bytes"] for each in figures["jaxnn"]) <= 3 * size
