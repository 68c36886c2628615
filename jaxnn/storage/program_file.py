"""The files of a run's programs: a sha256, and a `Program` as a line of JSON and its code."""

import hashlib
from pathlib import Path

from jaxnn.formatting import reason
from jaxnn.storage import files, json_files, recording
from jaxnn.storage.json_files import CorruptFile
from jaxnn.storage.program import Program

FILE = "predict.bin"
WRITER = "writer.bin"  # of language models, see `jaxnn.runs.writing`
LAYERS = f"{recording.FOLDER}/layers.bin"  # see `jaxnn.runs.layers`


def write(run: Path, program: Program, name: str = FILE) -> None:
    """Writes a program of a run."""
    content = json_files.encode(program.to_json()) + b"\n" + program.code
    files.write(run / name, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read(run: Path, name: str = FILE) -> Program | None:
    """Returns a program of a run; `None` if it has none.

    Raises:
      CorruptFile: if the file is corrupt.
    """
    try:
        digest, _, content = files.read(run / name).partition(b"\n")
        about, _, code = content.partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise ValueError(f"{len(content):,} bytes of another digest")
        return Program.from_json(json_files.decode(about), code)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFile(
            "run directory",
            f"{run / name} is corrupt",
            got=reason(error),
            expected="the bytes that were written",
            fix="Delete it: the run writes it again when it resumes",
        ) from None
