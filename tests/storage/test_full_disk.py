"""A disk that is full: the error says how much is needed where, and what to do."""

import errno

import numpy as np
import pytest

from jaxnn.storage import checkpoints
from jaxnn.storage.manifest import leaves_of

SAID = ("RESOURCE_EXHAUSTED: .draft-3/_sharding.__lock: No space left on device", None)


@pytest.mark.parametrize("error", [OSError(SAID[0]), OSError(errno.ENOSPC, "full")], ids=str)
def test_the_error_says_how_much_is_needed_and_what_to_do(tmp_path, monkeypatch, error):
    def refuse(folder, arrays):
        raise error

    monkeypatch.setattr(checkpoints, "write_arrays", refuse)
    arrays = [np.zeros((10_000, 2), np.float32)]
    with pytest.raises(OSError, match="the disk is full") as caught:
        checkpoints.write_checkpoint(tmp_path, 3, leaves_of(arrays), arrays, {})
    words = str(caught.value)
    assert "80.0 kB for the checkpoint of step 3" in words and "the run resumes" in words
    assert "__lock" not in words and not list(tmp_path.iterdir())


def test_another_error_is_raised_as_it_is(tmp_path, monkeypatch):
    def refuse(folder, arrays):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(checkpoints, "write_arrays", refuse)
    with pytest.raises(OSError, match="broken"):
        checkpoints.write_checkpoint(tmp_path, 3, [], [], {})
