"""A save that fails is reported and tried again; only the last one ends the run with an error."""

import errno
import warnings

import jax
import optax
import pytest

import jaxnn
from jaxnn.storage import checkpoints
from tests.trees import assert_same_bits

STEPS = 6


def fit(out):
    data = jaxnn.resident({"inputs": [[1.0], [2.0]], "labels": [[3.0], [5.0]]}, batch_size=2)
    return jaxnn.fit(
        jaxnn.learner(jaxnn.linear(1), jaxnn.regression(), optax.sgd(0.1)), data, steps=STEPS,
        every=1, key=jax.random.key(0), quiet=True, out=out, saving=jaxnn.Saving(seconds=0.0),
    )  # fmt: skip


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
