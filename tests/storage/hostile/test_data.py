"""Data that somebody else has written."""

import zipfile

import numpy as np
import pytest

import jaxnn
from jaxnn.checks import Invalid
from tests.promises import counted
from tests.small import there
from tests.storage.hostile.harm import HARM

pytestmark = [
    pytest.mark.slow,
    # Of an archive that is refused, NumPy leaves its file open.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def npz(header=None, name="inputs.npy", **arrays):
    """Writes an archive with arrays, and one of which the header alone is given."""

    def write(path):
        np.savez(path, **arrays)
        if header is not None:
            text = header.encode().ljust(118) + b"\n"
            with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(name, b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text)

    return write


def header(descr="'<f4'", shape="(2, 2)"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


DATA = {
    "objects": npz(inputs=np.array([None, "a"], object)),
    "objects beside numbers": npz(inputs=np.ones((2, 2)), labels=np.array([[1], "a"], object)),
    "records of objects": npz(header("[('a', '|O')]")),
    "a pickle": lambda path: path.write_bytes(HARM),
    "an array of its own": lambda path: np.save(path.open("wb"), np.ones(3)),
    "code": npz("__import__('os').system('touch harm')"),
    "code in a shape": npz(header(shape="(__import__('os').system('touch harm'),)")),
    "more than there is": npz(header(shape=f"({1 << 30},)")),
    "below zero": npz(header(shape="(-5,)")),
    "text": npz(inputs=np.array(["a", "b"])),
    "times": npz(inputs=np.array(["2026-01-01"], "datetime64[D]")),
    "raw bytes": npz(header("'|V8'", "(0,)")),
    "a path": npz(header(), name="../../inputs.npy"),
    "a petabyte": npz(header(shape=f"({1 << 48},)")),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_are_hostile(small, name):
    path = small.copy([]) / "data.npz"
    DATA[name](path)
    before = there(path.parents[1])
    with counted(P12="hostile files, each rejected without effect") as count:
        with pytest.raises(Invalid, match="examples: "):
            jaxnn.examples(path)
        assert there(path.parents[1]) == before
        count.append(name)
