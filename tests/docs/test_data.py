"""The page about data is run as it stands."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def test_every_source_is_shown_and_can_be_run(capsys):
    pytest.importorskip("PIL")
    names = {}
    for code in BLOCKS:
        if "pyarrow" in code:
            pytest.importorskip("pyarrow")
            pytest.importorskip("array_record")
        exec(compile(code, "data.md", "exec"), names)
    read = names["jaxnn"].stream(names["Pairs"](), batch_size=20, read=names["named"]).read(0)
    assert read.arrays["inputs"].shape == (32, 20, 28, 28)
    out = capsys.readouterr().out
    assert "Stream(100 examples in batches of 20" in out and out.endswith("[1 0]\n")
    shown = {"tokens", "arrays", "images", "arrow", "records", "concatenate", "mix"}
    assert all(f"streams.{name}(" in PAGE for name in shown)
