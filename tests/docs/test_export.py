"""The page about model files is run as it stands."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()


@pytest.mark.slow
def test_the_page_runs_as_it_stands(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(block, "export.md", "exec"), {})
    accuracy, described = capsys.readouterr().out.splitlines()[-2:]
    assert float(accuracy) > 0.9 and described.startswith("image uint8[8, 8]")
