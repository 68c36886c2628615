"""The page about scale is run as it stands, on eight simulated devices."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.scale.simulated import on_devices

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def printed():
    output, names = io.StringIO(), {}
    with contextlib.redirect_stdout(output):
        for block in BLOCKS:
            exec(compile(block, "scale.md", "exec"), names)
    return output.getvalue()


@pytest.mark.slow
def test_the_lines_run_one_after_the_other_and_print_what_the_page_says(tmp_path):
    lines = on_devices(8, printed, tmp_path).splitlines()
    for shown in re.findall(r"^# (.*)$", "\n".join(BLOCKS), re.M):
        assert shown in lines
