"""The page about sequences is run as it stands."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "sequences.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("cache_options")
def test_the_lines_run_one_after_the_other_and_print_what_the_page_says(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names = {}
    for block in blocks:
        exec(compile(block, "sequences.md", "exec"), names)
    printed = capsys.readouterr().out
    for shown in re.findall(r"^(?:print.*  )?# ([({].*)$", "\n".join(blocks), re.M):
        assert shown.removesuffix("...") in printed
    accuracy = re.search(r"^0\.\d+$|^1\.0$", printed, re.M)
    assert accuracy and float(accuracy[0]) > 0.9
