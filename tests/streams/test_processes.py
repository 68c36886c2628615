"""Processes that train together each read their rows of the same global batches."""

import numpy as np
import pytest

from tests import together
from tests.runs.test_processes import close, newest, stopped
from tests.together import ended

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("count", "split"),
    [(1, True), (2, True), (2, False), (4, True)],
    ids=["one", "two", "two-replicated", "four"],
)
def test_a_stream_trains_in_many_processes_as_resident_data(count, split, tmp_path):
    """The bits are the same, so each batch has the same rows in the same order."""
    endings = []
    for options in (["--streamed"], []):
        out = tmp_path / f"run{len(endings)}"
        options = [*options, "--steps", "20", *([] if split else ["--no-split"])]
        group = together.start(count, out, *options)
        assert group.codes() == [0] * count, group.said
        endings.append(ended(out))
    streamed, resident = endings
    assert streamed.bits == resident.bits and streamed.rows == resident.rows


def test_any_number_of_processes_resumes_a_stream(tmp_path):
    """Four, one and two take turns; the order of the examples does not depend on their number."""
    whole, out = tmp_path / "whole", tmp_path / "turns"
    assert together.start(2, whole, "--streamed").codes() == [0, 0]
    for count in (4, 1):
        before = newest(out)
        stopped(together.start(count, out, "--streamed", pace=0.5), out, after=before)
    assert together.start(2, out, "--streamed").codes() == [0, 0]
    close(ended(out), ended(whole))


def test_members_of_a_population_stream_in_two_processes(tmp_path):
    endings = []
    for options in (["--streamed"], []):
        out = tmp_path / f"run{len(endings)}"
        group = together.start(2, out, "--members", "2", "--steps", "12", *options)
        assert group.codes() == [0, 0], group.said
        endings.append(ended(out))
    streamed, resident = endings
    assert streamed.rows == resident.rows
    for name, array in streamed.arrays.items():
        np.testing.assert_array_equal(array, resident.arrays[name])
