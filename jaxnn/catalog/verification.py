"""Verifying a run: that every file in which it is kept is what was written, to the last byte."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxnn.catalog.contents import journal_error
from jaxnn.catalog.entries import parts
from jaxnn.formatting import aligned, amount, count, wrapped
from jaxnn.storage import checkpoints, journal, json_files
from jaxnn.storage.directory import CHECKPOINTS, CONFIG, RESULT, ROWS
from jaxnn.storage.manifest import CorruptCheckpoint, read_verified


@dataclass(frozen=True)
class Check:
    """What was found of a file or a checkpoint.

    Attributes:
      what: which, below the run: `checkpoint 45`, or of a part `population/checkpoint 45`.
      state: `good`, `corrupt`, or `missing`.
      note: what is in it, or what is wrong.
    """

    what: str
    state: str
    note: str


def verify(path: Path) -> Iterator[Check]:
    """Yields what is found of each file of a run, of each checkpoint, and of its parts.

    Every array of a checkpoint is read, one checkpoint after another, and compared with its digest.

    Raises:
      InvalidValue: if a checkpoint was written by a newer jaxnn.
    """
    finished, inner = (path / RESULT).exists(), parts(path)
    for name in [CONFIG, RESULT] if finished else [CONFIG]:
        yield _of_json(path, name)
    newest = None
    # The checkpoints before the rows, of which there are then never fewer than when it was saved.
    for step in checkpoints.steps(path / CHECKPOINTS):
        checked = _of_checkpoint(path / CHECKPOINTS / checkpoints.name(step))
        if checked is not None:
            content, check = checked
            newest = newest or content
            yield check
    if newest is None and not inner:
        yield Check(CHECKPOINTS, "missing", "There is no good one, from which the run could go on.")
    if (path / ROWS).exists() or newest or (finished and not inner):
        yield _of_rows(path, newest["rows"] if newest else 0, finished)
    for part in inner:
        for check in verify(part):
            name = f"{part.relative_to(path).as_posix()}/{check.what}"
            yield Check(name, check.state, check.note)


def text(checks: Sequence[Check]) -> str:
    """Returns what was found as one reads it."""
    rows = [(c.state, c.what, c.note if c.state == "good" else "") for c in checks]
    lines = []
    for check, line in zip(checks, aligned(rows, "<<<").splitlines()):
        lines.append(line)
        if check.state != "good":  # takes a sentence, which would not fit into a column
            lines.append(wrapped(check.note, "    "))
    bad = sum(check.state != "good" for check in checks)
    lines += ["", f"{bad} of {len(checks)} not good" if bad else "all is good"]
    return "\n".join(lines)


def _of_json(path: Path, name: str) -> Check:
    try:
        json_files.read(path / name)
    except json_files.CorruptFile as error:
        return Check(name, "corrupt", str(error))
    return Check(name, "good", "")


def _of_checkpoint(folder: Path) -> tuple[dict[str, Any] | None, Check] | None:
    """Returns the manifest and what was found; `None` if it has just been deleted."""
    what = f"checkpoint {int(folder.name)}"
    try:
        content = read_verified(folder)
        arrays = checkpoints.read_checkpoint(folder, content)
    except (CorruptCheckpoint, OSError) as error:
        return (None, Check(what, "corrupt", str(error))) if folder.is_dir() else None
    size = sum(array.nbytes for array in arrays.values())
    return content, Check(what, "good", f"{count(len(arrays), 'array')}, {amount(size, 'B')}")


def _of_rows(path: Path, saved: int, finished: bool) -> Check:
    found = journal.read(path)
    error = journal_error(path, found, saved, finished=finished)
    if error:
        return Check(ROWS, "corrupt", error)
    last = f", to step {found.rows[-1]['step']}" if found.rows else ""
    torn = f"; {found.error}, and is cut when it goes on" if found.error else ""
    return Check(ROWS, "good", f"{count(len(found.rows), 'row')}{last}{torn}")
