"""The README is run as it stands: its example, its words, its commands."""

import json
import os
import re
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import jaxnn

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "experiments" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def run_examples(count):
    """Runs the first examples of the README, of which each goes on from the one before."""
    names = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.S)[:count]:
        assert 4 <= len([line for line in code.splitlines() if line.strip()]) <= 22
        exec(compile(code, "README.md", "exec"), names)
    return names


@pytest.mark.usefixtures("optimized", "cache_options")  # training takes its time
def test_the_example_trains_and_predicts(capsys):
    names = run_examples(1)
    assert names["run"].result["test/accuracy"] > 0.95
    # Its last line prints eight readings beside the truth; nearly all agree.
    read = names["run"].predict(names["test"]["inputs"][:8]).argmax(-1)
    assert np.mean(read == names["test"]["labels"][:8]) > 0.7
    assert str(read) in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("optimized", "cache_options")
def test_the_example_of_a_sweep_trains_many(capsys):
    names = run_examples(2)
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0.97
    assert len(names["population"].result["status"]) == 128


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_the_example_that_writes_runs(capsys):
    if not os.environ.get("JAXNN_DATA"):
        pytest.skip("The plays are not here: set JAXNN_DATA to a folder that holds them")
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (code,) = (block for block in blocks if "jaxnn.generate(" in block)
    code = code.replace("steps=2000", "steps=20").replace("prompt, 500", "prompt, 70")
    names = {"jax": jax, "jaxnn": jaxnn, "optax": optax}
    exec(compile(code, "README.md", "exec"), names)
    assert len(capsys.readouterr().out.splitlines()[-1]) > 0
    losses = [row["train/loss"] for row in names["run"].history]
    assert losses[-1] < 4.2 and names["page"].shape == (1, 70)


def test_every_word_is_explained():
    (glossary,) = re.findall(r"^## Glossary\n(.*?)^## ", README, re.M | re.S)
    words = re.findall(r"^\| (\w[\w -]*) \|", glossary, re.M)
    expected = ["node", "weight", "bias", "raw output", "activation", "layer", "hyper-parameter"]
    assert words == ["word", *expected, "training step", "epoch"]


def test_its_results_are_those_that_were_recorded():
    recorded = Path(__file__).parents[2] / "experiments" / "results"
    results = [json.loads(path.read_text()) for path in recorded.glob("*.json")]
    known = {result["command"]: result.get("test/accuracy") for result in results}
    rows = dict(re.findall(r"^\| `(python -m experiments\.[^`]*)` \| (0\.\d+)", README, re.M))
    assert len(rows) > 5
    assert rows == {command: f"{known[command]:.4f}" for command in rows}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_name_of_jaxnn_on_a_page_exists(page):
    for path in set(re.findall(r"\bjaxnn((?:\.[a-zA-Z]\w*)+)", page.read_text())):
        value = jaxnn
        for name in path[1:].split("."):
            if not hasattr(value, name):  # a module that `import jaxnn` leaves out
                import_module(f"{value.__name__}.{name}")
            value = getattr(value, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_to_a_file_leads_somewhere(page):
    for link in re.findall(r"\]\(\n?([^)#:]+?)(?:#[^)]*)?\)|src=\"([^\"]+)\"", page.read_text()):
        assert (page.parent / "".join(link)).exists(), link
