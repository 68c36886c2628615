"""Each complaint has tests, and they are there."""

import re
from pathlib import Path

import pytest

from tests.complaints import COMPLAINTS


@pytest.mark.parametrize("name", COMPLAINTS)
def test_a_complaint_has_its_tests(name):
    assert COMPLAINTS[name].tests
    for test in COMPLAINTS[name].tests:
        file, function = test.split("::")
        text = (Path(__file__).parent / file).read_text()
        assert re.search(rf"^def {function}\(", text, re.MULTILINE), test
