"""Files that somebody else has written, to do harm: how they are refused, and do none.

No code of theirs is run, nothing is written outside the run directory, no memory is asked for that
they have not filled, and each is refused at once, with words that say what is wrong.
"""

import os
import pickle

import pytest

from jaxnn import Caution
from jaxnn.storage.checkpoints import read_checkpoint
from jaxnn.storage.manifest import CorruptCheckpoint, read_verified
from tests.promises import counted
from tests.small import NEWEST, there
from tests.trees import assert_same_bits


class Harm:
    """Is harm when a pickle of it is read."""

    def __reduce__(self):
        return os.system, ("touch harm",)


HARM = pickle.dumps(Harm())


def outside(out):
    """What is beside a run directory, which nothing may change."""
    return {name: it for name, it in there(out.parent).items() if name.split("/")[0] != "run"}


def newest(small):
    return small.copy([12]) / "checkpoints" / NEWEST


def refused(small, folder, words):
    """Asserts that a checkpoint is distinguished from a good one."""
    before = there(folder.parents[2])
    with counted(P12="hostile files, each rejected without effect") as count:
        with pytest.raises(CorruptCheckpoint, match=words):
            read_checkpoint(folder, read_verified(folder), small.restored[12].trial)
        assert there(folder.parents[2]) == before
        count.append(words)


def left_out(small, out, words):
    """Asserts that a run resumes from the checkpoint before."""
    before = outside(out)
    with counted(P12="hostile files, each rejected without effect") as count:
        with pytest.warns(Caution, match=f"{NEWEST} is corrupt. Got .*{words}"):
            restored = small.restore(out)
        assert restored.step == 8
        assert_same_bits(restored.trial, small.restored[8].trial)
        assert (out / "quarantine" / f"{NEWEST}-1.txt").read_text()
        assert outside(out) == before
        count.append(words)


def untouched(small, out, error, words):
    """Asserts that a run is refused, and left as it is."""
    before = there(out.parent)
    with counted(P12="hostile files, each rejected without effect") as count:
        with pytest.raises(error, match=words):
            small.restore(out)
        assert there(out.parent) | {"run/.lock": b""} == before | {"run/.lock": b""}
        count.append(words)


def of_array(**fields):
    return lambda content: content["arrays"][2].update(fields)


def replaced(make):
    """Another thing instead of a file: `make(path, where it is now)`."""

    def replace(path):
        place = path.parents[path.parts[::-1].index("run")] / "elsewhere"
        path.rename(place)
        make(path, place)

    return replace


def large(path, place):
    with path.open("wb") as file:
        file.truncate(1 << 40)  # which takes no place on the disk


THINGS = {
    "a link to itself": lambda path, place: path.symlink_to(place),
    "a link to another file": lambda path, place: path.symlink_to("/etc/passwd"),
    "a link to what never ends": lambda path, place: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path, place: path.symlink_to(place / "none"),
    "a pipe": lambda path, place: os.mkfifo(path),
    "a folder": lambda path, place: path.mkdir(),
    "a terabyte": large,
    "a pickle": lambda path, place: path.write_bytes(HARM),
}
