"""The page about scikit-learn is run as it stands."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "scikit-learn.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.mark.slow
def test_the_page_runs_as_it_stands(capsys):
    pytest.importorskip("sklearn")
    names = {}
    for block in BLOCKS:
        exec(compile(block, "scikit-learn.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert names["search"].best_params_["classifier__learning_rate_init"] == 1e-2
    assert float(lines[0]) > 0.9 and float(lines[1].split()[0]) > 0.95
