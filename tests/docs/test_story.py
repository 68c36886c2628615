"""The page that explains neural networks is run as it stands: its numbers and pictures are true."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
STORY = (ROOT / "docs" / "what-is-a-neural-network.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", STORY, re.S)
SHOWN = re.findall(r"\]\(\n?pictures/(\w+)\.png\)", STORY)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    place, names = tmp_path_factory.mktemp("story"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for code in CODE:
            exec(compile(code, "what-is-a-neural-network.md", "exec"), names)
    return place, names


@pytest.mark.slow
def test_its_lines_run_and_make_each_picture_that_it_shows(told):
    place, names = told
    assert {path.stem for path in place.glob("*.png")} == set(SHOWN)
    assert names["run"].result["test/accuracy"] > 0.95
    assert len(names["accuracy"]) == 64 and max(names["accuracy"]) > 0.96


@pytest.mark.slow
def test_its_numbers_are_those_that_come_out(told):
    _, names = told
    node = names["node"]
    learned = [*np.ravel(node["weight"]), *node["bias"]]
    np.testing.assert_allclose(learned, [*names["weight"], names["bias"]], atol=0.005)
    assert f"the *raw output* is\n{names['raw_output']:.2f}." in STORY
    assert f"It is {names['output']:.2f}." in STORY
    for weight in names["weight"]:
        assert f"{weight:.2f}" in STORY


def test_its_pictures_are_there_and_have_words_for_those_who_cannot_see_them():
    for name in SHOWN:
        assert (ROOT / "docs" / "pictures" / f"{name}.png").stat().st_size < 500_000
    assert len(re.findall(r"!\[[^\]]{20,}\]", STORY)) == len(SHOWN) >= 7


@pytest.mark.parametrize(
    "word",
    ["node", "weight", "bias", "activation", "layer", "hidden", "deep", "training step", "epoch",
     "loss", "gradient", "hyper-parameters", "learning rate", "label", "batch"],
)  # fmt: skip
def test_every_word_is_said_where_it_is_explained(word):
    assert re.search(rf"\*{word}s?\*|^## .*\b{word}\b", STORY, re.M | re.I)
    assert word in STORY
