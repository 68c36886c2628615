"""The page about plans is run as it stands."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "plans.md").read_text()


@pytest.mark.slow
def test_the_lines_run_one_after_the_other(capsys):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(block, "plans.md", "exec"), names)
    assert "Plan for cpu" in capsys.readouterr().out
    assert names["size"] == 64
