"""A file that is larger than memory allows trains: the README's example, on 20 GB of tokens."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
LIMIT = 2 * 10**9


@pytest.mark.slow
def test_the_example_for_large_data_needs_little_memory(tmp_path):
    (code,) = (x for x in re.findall(r"```python\n(.*?)```", README, re.S) if "streams." in x)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    with (tmp_path / "train.bin").open("wb") as file:
        file.truncate(20 * 10**9)  # sparse: it takes no room on the disk
    # Not `ru_maxrss`: on Linux it begins at the memory of the process that started this one.
    code += "\nfrom jaxnn.scale.memory import used_by; print(used_by().peak)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "Waited for data" in done.stdout
    assert int(done.stdout.split()[-1]) < LIMIT
