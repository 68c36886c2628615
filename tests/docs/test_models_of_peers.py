"""The code of a Flax, an Equinox and a Haiku user, before and after, runs as it stands."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.split("## Models of Flax")[1], re.S)


def run(numbers, names=None):
    names = {} if names is None else names
    for number in numbers:
        exec(compile(SNIPPETS[number], "models.md", "exec"), names)
    return names


def test_what_flax_trains_jaxnn_trains():
    names = run([0, 1])
    assert len(SNIPPETS[1].splitlines()) < len(SNIPPETS[0].splitlines()) / 8
    outputs = names["Classifier"]().apply(names["variables"], names["x"], train=False)
    assert (outputs.argmax(-1) == names["y"]).mean() > 0.8


def test_what_equinox_trains_jaxnn_trains():
    pytest.importorskip("equinox", reason="Equinox is of the extra [peers]")
    names = run([0, 2])
    own = names["module"]
    run([3], names)
    leaves = [jax.tree.leaves(jax.tree.map(np.asarray, x.layers)) for x in (own, names["module"])]
    for a, b in zip(*leaves):
        if isinstance(a, np.ndarray):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_what_haiku_trains_jaxnn_trains():
    pytest.importorskip("haiku", reason="Haiku is of the extra [peers]")
    names = run([0, 4, 5])
    own = names["model"].apply(names["params"], names["x"])
    outputs = names["run"].predict(names["x"])
    assert (outputs.argmax(-1) == own.argmax(-1)).mean() > 0.8
