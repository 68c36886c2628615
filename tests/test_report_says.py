"""A report says what is known, and no more: facts about the words on a page."""

import re

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import report
from tests.recorded import curve, digits, write


def words(file):
    """Returns the text of a page, in one line."""
    page = re.sub(r"<(script|style)\b.*?</\1>", " ", file.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_that_a_diverged_run_leaves_says_so(tmp_path):
    draws = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    data = jaxnn.resident({"inputs": draws, "labels": 1e4 * draws[:, :1]}, batch_size=8)
    wild = jaxnn.learner(jaxnn.mlp([4], 1), jaxnn.regression(), optax.sgd(1e3))
    with pytest.raises(jaxnn.NotFinite, match=r"first in step (\d+)") as caught:
        jaxnn.fit(
            wild, data, steps=20, key=jax.random.key(0), out=tmp_path / "wild", quiet=True,
            report=True,
        )  # fmt: skip
    said = words(tmp_path / "wild" / "report.html")
    began = re.findall(r"first in step (\d+)", str(caught.value))[0]
    assert "diverged · step" in said and "It is going on" not in said
    assert f"It began in step {began}." in said
    assert f"python -m jaxnn diagnose {tmp_path / 'wild'}" in said
