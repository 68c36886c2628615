"""The page about models of others is run as it stands, on weights that a package carries."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.pretrained.peers import minilm, peer

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("optimized", "cache_options")
def test_a_folder_becomes_a_model_of_ones_own(tmp_path, monkeypatch, capsys):
    peer("tokenizers")
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(minilm())
    monkeypatch.chdir(tmp_path)
    first, second, *_ = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len([line for line in first.splitlines() if line]) <= 20
    names = {}
    exec(compile(first, "models.md", "exec"), names)
    assert "[0 1]" in capsys.readouterr().out
    exec(compile(second, "models.md", "exec"), names)
    again = names["jaxnn"].pretrained.load("trains-or-weather")
    own = again.params["body"]["embed"]["tokens"]["weight"]
    trained = names["run"].best.params["encoder"]["body"]["embed"]["tokens"]["weight"]
    np.testing.assert_array_equal(own, trained)
