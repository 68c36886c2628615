"""The files of a run's programs: a sha256, a line feed, and the `jax.export` bytes."""

import hashlib
from pathlib import Path

from jaxnn.storage import files, recording
from jaxnn.storage.json_files import CorruptFile

FILE = "predict.bin"
WRITER = "writer.bin"  # of language models, see `jaxnn.runs.writing`
LAYERS = f"{recording.FOLDER}/layers.bin"  # see `jaxnn.runs.layers`


def write(run: Path, content: bytes, name: str = FILE) -> None:
    """Writes a program of a run."""
    files.write(run / name, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read(run: Path, name: str = FILE) -> bytes | None:
    """Returns a program of a run; `None` if it has none.

    Raises:
      CorruptFile: if the file is corrupt.
    """
    try:
        digest, _, content = files.read(run / name).partition(b"\n")
    except FileNotFoundError:
        return None
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise CorruptFile(
            "run directory",
            f"{run / name} is corrupt",
            got=f"{len(content):,} bytes of another digest",
            expected="the bytes that were written",
            fix="Delete it: the run writes it again when it resumes",
        )
    return content
