"""Runs that older versions have saved: they are read to the last bit, and resumed.

Each format of checkpoints has its runs in `tests/golden`, which are never written again.
"""

import json
import shutil
import warnings

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn.storage.checkpoints import name, newest
from jaxnn.storage.identity import identity
from jaxnn.storage.manifest import FORMAT, read_verified
from tests.golden import make
from tests.promises import counted

pytestmark = pytest.mark.slow
RUNS = [(number, kind) for number in range(1, FORMAT + 1) for kind in make.KINDS[number]]
# Compiling a population takes longer.
GOING = [pytest.param(*run, marks=pytest.mark.slow if "population" in run else ()) for run in RUNS]
IDS = [f"format {number}: {kind}" for number, kind in RUNS]


def golden(number, kind):
    folder = make.FOLDER / f"format-{number}"
    return folder / kind, json.loads((folder / f"{kind}.json").read_text())


def test_every_format_has_its_runs():
    folders = {path.name for path in make.FOLDER.glob("format-*")}
    assert folders == {f"format-{number}" for number in range(1, FORMAT + 1)}


@pytest.mark.parametrize("number, kind", RUNS, ids=IDS)
def test_a_run_of_an_older_version_is_read_to_the_last_bit(number, kind):
    def on_corrupt(path, error):
        raise error

    path, expected = golden(number, kind)
    with counted(P13="old runs, each read bit for bit") as count:
        like = make.shapes(kind)
        content, trial = newest(path / "checkpoints", like, lambda content: None, on_corrupt)
        assert content["format"] == number and content["step"] == make.KEPT
        assert make.digest(trial) == expected["kept"]["digest"]
        predicted = make.predicted(kind, trial.state)
        np.testing.assert_allclose(predicted, expected["kept"]["predicted"], rtol=1e-6, atol=1e-6)
        count.append(kind)


@pytest.mark.parametrize("number, kind", GOING, ids=IDS)
def test_a_run_of_an_older_version_goes_on(number, kind, tmp_path):
    path, expected = golden(number, kind)
    out = tmp_path / kind
    shutil.copytree(path, out)
    saved = read_verified(path / "checkpoints" / name(make.KEPT))
    training = jaxnn.train(make.learner(kind), make.DATA, **make.arguments(kind))
    # A newer jaxnn may do the same in another program, which it must then be allowed.
    same = jax.__version__ != saved["environment"]["jax"] or (
        identity(training)["program"] == saved["identity"]["program"]
    )
    with counted(P13="old runs, each resumed and completed") as count:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", jaxnn.Caution)  # another machine, other versions
            run = make.resume(kind, out, resume=True, allow_change=[] if same else ["program"])
        for row, whole in zip(run.history, expected["end"]["history"], strict=True):
            for each in row.keys() - {"seconds"}:
                np.testing.assert_allclose(row[each], whole[each], rtol=1e-4, err_msg=each)
        predicted = make.predicted(kind, run.state)
        np.testing.assert_allclose(predicted, expected["end"]["predicted"], rtol=1e-4, atol=1e-5)
        assert not (out / "quarantine").exists()
        count.append(kind)
