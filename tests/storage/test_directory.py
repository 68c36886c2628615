"""The run directory on its own: what `fit` relies on when two runs meet."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.storage.json_files import plain
from jaxnn.storage.lock import DirectoryInUse
from jaxnn.storage.opening import open_directory, unfinished


def test_a_run_that_finished_meanwhile_is_not_erased(tmp_path, monkeypatch):
    """Another process may end its run between the look at the directory and the lock."""
    path = unfinished(tmp_path / "run")
    with open_directory(path, {"seed": 0}) as directory:
        directory.append({"step": 1})
        directory.finish({"steps": 1})
    monkeypatch.setattr("jaxnn.storage.opening.unfinished", lambda path: path)
    with pytest.raises(DirectoryInUse, match="Start again"):
        with open_directory(path, {"seed": 0}):
            pass
    monkeypatch.undo()
    assert (path / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert unfinished(path).name == "run-2"


def test_the_working_directory_has_a_sibling_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    assert unfinished(type(tmp_path)(".")) == tmp_path.with_name(tmp_path.name + "-2")


def test_arrays_of_any_kind_are_kept_to_the_last_number():
    for array in (np.arange(2000), jnp.arange(2000)):
        assert plain({"rates": array, "one": array[1]}) == {"rates": list(range(2000)), "one": 1}
