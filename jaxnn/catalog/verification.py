"""Verifies every file of a run against its digest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from jaxnn.catalog.contents import journal_error
from jaxnn.catalog.entries import parts
from jaxnn.formatting import aligned, amount, count, wrapped
from jaxnn.storage import checkpoints, journal, json_files, program_file
from jaxnn.storage.directory import CHECKPOINTS, COLUMNS, CONFIG, MEANING, RESULT, ROWS, SPEED
from jaxnn.storage.frozen import CorruptBase
from jaxnn.storage.manifest import CorruptCheckpoint, read_verified


@dataclass(frozen=True)
class Check:
    """The state of a file or a checkpoint.

    Attributes:
      what: its name, such as `checkpoint 45`, or in a part, `population/checkpoint 45`.
      state: `good`, `corrupt`, or `missing`.
      note: a description of its contents, or the error.
    """

    what: str
    state: str
    note: str


def verify(path: Path) -> Iterator[Check]:
    """Yields the state of each file and checkpoint of a run and its parts.

    Every array of every checkpoint is read and compared with its digest.

    Raises:
      InvalidValue: if a checkpoint was written by a newer jaxnn.
    """
    finished, inner = (path / RESULT).exists(), parts(path)
    optional = [name for name in (COLUMNS, MEANING, SPEED) if (path / name).exists()]
    documents = [CONFIG, *[RESULT] * finished, *optional]
    readers = {name: partial(json_files.read, path / name) for name in documents}
    programs = (program_file.FILE, program_file.WRITER, program_file.LAYERS)
    readers |= {name: partial(program_file.read, path, name) for name in programs}
    for name, read in readers.items():
        try:
            if read() is not None:
                yield Check(name, "good", "")
        except (json_files.CorruptFile, OSError) as error:
            yield Check(name, "corrupt", str(error))
    newest = None
    # Reads checkpoints before rows, so that no row of a checkpoint is missing.
    for folder in checkpoints.folders(path / CHECKPOINTS):
        what = f"checkpoint {int(folder.name)}"
        try:
            content = read_verified(folder)
            arrays = checkpoints.read_checkpoint(folder, content)
        except (CorruptCheckpoint, CorruptBase, OSError) as error:
            if folder.is_dir():  # otherwise, the run has just deleted the checkpoint
                yield Check(what, "corrupt", str(error))
            continue
        newest, size = newest or content, sum(array.nbytes for array in arrays.values())
        yield Check(what, "good", f"{count(len(arrays), 'array')}, {amount(size, 'B')}")
    if newest is None and not inner:
        yield Check(CHECKPOINTS, "missing", "There is no good one from which the run could resume.")
    if (path / ROWS).exists() or newest or (finished and not inner):
        yield _of_rows(path, newest["rows"] if newest else 0, finished)
    for part in inner:
        name = part.relative_to(path).as_posix()
        yield from (replace(check, what=f"{name}/{check.what}") for check in verify(part))


def text(checks: Sequence[Check]) -> str:
    """Returns the states as text."""
    rows = [(c.state, c.what, c.note if c.state == "good" else "") for c in checks]
    lines = []
    for check, line in zip(checks, aligned(rows, "<<<").splitlines()):
        lines.append(line)
        if check.state != "good":  # an error does not fit into a column
            lines.append(wrapped(check.note, "    "))
    bad = sum(check.state != "good" for check in checks)
    lines += ["", f"{bad} of {len(checks)} not good" if bad else "all is good"]
    return "\n".join(lines)


def _of_rows(path: Path, saved: int, finished: bool) -> Check:
    rows, _, torn = written = journal.read(path)
    error = journal_error(path, written, saved, finished=finished)
    if error:
        return Check(ROWS, "corrupt", error)
    last = f", to step {rows[-1]['step']}" if rows else ""
    cut = f"; {torn}, and is cut when the run resumes" if torn else ""
    return Check(ROWS, "good", f"{count(len(rows), 'row')}{last}{cut}")
