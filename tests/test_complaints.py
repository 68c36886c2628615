"""Each complaint has tests, and they are there."""

import re
from pathlib import Path

import pytest

from tests.complaints import COMPLAINTS


def exists(test):
    file, function = test.split("::")
    path = Path(__file__).parent / file
    return path.exists() and re.search(rf"^def {function}\(", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", COMPLAINTS)
def test_a_complaint_has_tests_that_are_there(name):
    missing = [test for test in COMPLAINTS[name].tests if not exists(test)]
    assert COMPLAINTS[name].tests and not missing, missing
