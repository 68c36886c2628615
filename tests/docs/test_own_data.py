"""The page about tables is run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import polars
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-data.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("cache_options")
def test_the_example_goes_from_a_file_to_predictions(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    lines = [line for line in code.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 10
    text = (ROOT / "experiments" / "tables" / "customers.csv").read_text()
    Path("customers.csv").write_text(text)
    new = polars.read_csv("customers.csv", separator=";").drop("status").head(5)
    new.write_csv("new.csv", separator=";")
    names = {}
    exec(compile(code, "own-data.md", "exec"), names)
    assert names["run"].result["test/accuracy"] > 0.55  # a third of them stays
    printed = capsys.readouterr().out
    assert "probability of leaves" in printed and "shape: (5, 4)" in printed
    own = names["columns"].encode("new.csv", labels=False)["inputs"]
    here = names["columns"].decode(names["run"].predict(own))
    command = [sys.executable, "-m", "jaxnn", "predict", "runs/customers", "new.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    there = polars.read_csv(done.stdout.encode())
    assert there["status"].to_list() == here["status"].to_list()
    assert there.columns == here.columns
