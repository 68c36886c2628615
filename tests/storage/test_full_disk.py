"""A save or a row that fails is reported and tried again; only the last one ends in an error."""

import errno
import json
import os
import warnings

import jax
import optax
import pytest

import jaxnn
from jaxnn.storage import checkpoints, directory
from tests.harness import keep_pace
from tests.trees import assert_same_bits

STEPS = 6


# Compiled once, however many tests run it.
LINE = jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1))


def fit(out):
    data = jaxnn.resident({"inputs": [[1.0], [2.0]], "labels": [[3.0], [5.0]]}, batch_size=2)
    return jaxnn.fit(
        LINE, data, steps=STEPS,
        every=1, key=jax.random.key(0), quiet=True, out=out, saving=jaxnn.Saving(seconds=0.0),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def every_step_is_saved(monkeypatch):
    keep_pace(None, monkeypatch.setattr)


@pytest.fixture
def fail(monkeypatch):
    """Returns `fail(steps)`: the saves of these steps fail as on a full disk."""
    write, tried = checkpoints.write_checkpoint, []

    def fail(steps):
        def failing(folder, step, *rest, **more):
            tried.append(step)
            if step in steps:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(folder, step, *rest, **more)

        monkeypatch.setattr(checkpoints, "write_checkpoint", failing)
        return tried

    return fail


def test_a_save_that_fails_is_reported_and_training_continues(tmp_path, fail):
    whole = fit(tmp_path / "whole")
    fail(range(1, STEPS))
    with pytest.warns(jaxnn.checks.Caution, match="No space left.*training continues, and the n"):
        run = fit(tmp_path / "run")
    assert run.result["status"] == "done"
    assert [int(p.name) for p in checkpoints.folders(tmp_path / "run" / "checkpoints")] == [STEPS]
    assert_same_bits(run.state, whole.state)
    assert [row["step"] for row in run.history] == [*range(1, STEPS + 1)]


def test_the_next_moment_is_tried_again(tmp_path, fail):
    tried = fail({1})
    with pytest.warns(jaxnn.checks.Caution, match="step 1 was not saved"):
        fit(tmp_path / "run")
    assert tried[0] == 1 and tried[-1] == STEPS and len(tried) > 2
    saved = {int(path.name) for path in checkpoints.folders(tmp_path / "run" / "checkpoints")}
    assert saved <= {*tried[1:]} and STEPS in saved


def test_a_last_save_that_fails_ends_the_run_with_an_error(tmp_path, fail):
    fail({STEPS})
    with pytest.raises(OSError, match="No space left"), warnings.catch_warnings():
        warnings.simplefilter("error", jaxnn.checks.Caution)  # it is no warning
        fit(tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    fail(())
    assert fit(tmp_path / "run").result["status"] == "done"


# --- Rows ----------------------------------------------------------------------------------------


class Disk:
    """`os` of a disk that refuses some of the writes, the first being number 1.

    Attributes:
      refused: the numbers of those that fail.
      error: what they fail with; a full disk takes half of what is written before.
    """

    def __init__(self, refused, error=errno.ENOSPC):
        self.refused, self.error, self.tried = refused, error, 0

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, file, content):
        self.tried += 1
        if self.tried not in self.refused:
            return os.write(file, content)
        if self.error == errno.ENOSPC:
            return os.write(file, content[: len(content) // 2])
        raise OSError(self.error, os.strerror(self.error))


def rows_of(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{**row, "seconds": 0} for row in rows]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("refused", [{1}, {2, 3, 4, 5}], ids=["the_first", "several"])
def test_a_row_that_is_refused_is_written_with_the_next_one(refused, error, tmp_path, monkeypatch):
    whole = fit(tmp_path / "whole")
    monkeypatch.setattr(directory, "os", Disk(refused, error))
    with pytest.warns(jaxnn.checks.Caution) as seen:
        run = fit(tmp_path / "run")
    words = [str(each.message) for each in seen if "the row of" in str(each.message)]
    assert len(words) == 1 and f"row of step {min(refused)} was not written" in words[0]
    assert os.strerror(error) in words[0] and "training continues" in words[0]
    assert rows_of(run.out) == rows_of(whole.out) and len(rows_of(run.out)) == STEPS
    assert_same_bits(run.state, whole.state)


@pytest.mark.filterwarnings("ignore:step . was not saved")
def test_rows_come_before_checkpoints(tmp_path, monkeypatch):
    """A checkpoint whose rows are missing could not be resumed from: it is not saved."""
    monkeypatch.setattr(directory, "os", Disk(range(3, 1000), errno.EIO))
    with (
        pytest.warns(jaxnn.checks.Caution, match="row of step 3 was not written"),
        pytest.raises(OSError, match="Input/output error"),
    ):
        fit(tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    saved = [int(path.name) for path in checkpoints.folders(tmp_path / "run" / "checkpoints")]
    assert max(saved) <= 2 and [row["step"] for row in rows_of(tmp_path / "run")] == [1, 2]
    monkeypatch.undo()
    assert fit(tmp_path / "run").result["status"] == "done"
    assert [row["step"] for row in rows_of(tmp_path / "run")] == [*range(1, STEPS + 1)]
