"""Model files that older versions of jax wrote, within its window for exports and beyond it."""

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn.runs.executable import NoProgram
from tests.golden.make_models import FOLDER, KINDS, TABLE

FILES = sorted(FOLDER.glob("*.jaxnn"))


def version(text):
    return tuple(int(number) for number in text.split(".")[:2])


def test_every_kind_is_there_of_two_versions():
    assert len(FILES) == 2 * len(KINDS)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_file_of_another_version_opens_and_predicts(path):
    """On opening, the outputs of the two examples are compared with those of when it was written.

    An older version of jax than the one that wrote it may not know the file's StableHLO.
    """
    written = path.stem.rpartition("-")[2]
    try:
        model = jaxnn.load_model(path)
    except NoProgram as error:
        assert version(jax.__version__) < version(written)
        assert f"which jax {written} wrote" in str(error)
        return
    kind = path.stem.partition("-")[0]
    if kind == "image":
        images = np.zeros((3, 8, 8, 1), np.uint8)
        assert model.predict(images).shape == (3, 3)
        assert model.description.classes == ("a", "b", "c")
    elif kind == "text":
        assert len(model.generate("ab", 10, temperature=0)) == 10
    else:
        pytest.importorskip("polars")
        assert model.predict(TABLE).columns[0] == "dear"
        assert set(model.predict({"size": [1.0], "city": ["Bern"]})["dear"]) <= {"no", "yes"}
