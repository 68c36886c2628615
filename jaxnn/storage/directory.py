"""The run directory: its configuration (`config.json`), journal (`metrics.jsonl`) and result.

`result.json` is written last and atomically, so a directory that contains one is that of a finished
run. Only one process writes to a directory at a time. The operating system releases its lock when
the process ends for any reason.
"""

import errno
import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxnn.checks import Caution, Explained, InvalidType, InvalidValue
from jaxnn.scale import processes
from jaxnn.storage import command, files, journal, json_files
from jaxnn.storage.journal import Journal
from jaxnn.storage.json_files import CorruptFile, plain
from jaxnn.storage.lock import in_use, owner

CONFIG, ROWS, RESULT, CHECKPOINTS = "config.json", journal.FILE, "result.json", "checkpoints"
COLUMNS = "columns.json"  # the columns of the training table
MEANING = "predict.json"  # the kind of the outputs, and the names of classes or tokens
SPEED = "speed.json"  # timings, which differ from run to run


@dataclass(frozen=True)
class Directory:
    """Options of a run directory; `fit(out="runs/mine")` is short for `Directory("runs/mine")`.

    Attributes:
      path: the path of the directory. An unfinished run there is resumed; if the run there is
        finished, a new one starts in a numbered sibling directory.
      name: the name of the run in its result.
      config: the configuration for `config.json`, a dataclass or a mapping; by default the
        hyper-parameters, or the values and seeds of a sweep.
      resume: whether to require a run to resume. A finished run is returned unchanged, or trained
        further if `"steps"` is in `allow_change`.
      allow_change: the names of what may differ from the resumed run: fields of the configuration,
        hyper-parameters, `"steps"`, `"data"`, `"program"`, or other names from the error message.
      report: whether to record the run and write `report.html` at the end, a page with the timeline
        of training.

    Raises:
      InvalidType: if `path` is not a path, or `allow_change` is not a list of strings.
    """

    path: str | Path
    name: str | None = None
    config: Any = None
    resume: bool = False
    allow_change: Sequence[str] = ()
    report: bool = True

    def __post_init__(self):
        path, names = self.path, self.allow_change
        if not isinstance(path, str | os.PathLike) or str(path) == "" or "\0" in str(path):
            raise InvalidType(
                "run directory",
                "out is not a path",
                got=f"out={path!r}",
                expected="the path of a directory",
                fix="Pass, say, out='runs/mine'",
            )
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise InvalidType(
                "run directory",
                "allow_change has the wrong type",
                got=f"allow_change={names!r}",
                expected="a list of names",
                fix="Pass, say, allow_change=['learning_rate']",
            )
        if str(path).startswith("~"):
            object.__setattr__(self, "path", Path(path).expanduser())


def destination(out: str | Path | Directory) -> Directory:
    """Returns `out` as a `Directory`."""
    return out if isinstance(out, Directory) else Directory(out)


class NoCheckpoint(Explained):
    """There is no checkpoint to resume from."""


def digest(config: Any) -> str:
    """Returns ten hexadecimal digits that identify a configuration."""
    return hashlib.sha256(json_files.encode(plain(config), sort_keys=True)).hexdigest()[:10]


def finished(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Returns the result and the rows of a finished run; `None` if it is not finished.

    Raises:
      CorruptFile: if the files cannot be read.
    """
    if not (path / RESULT).exists():
        return None
    result, written = json_files.read(path / RESULT), journal.read(path)
    if written.error:
        raise corrupt_journal(path, written, "lines of JSON whose steps increase")
    return result, written.rows


def corrupt_journal(path: Path, written: Journal, expected: str) -> CorruptFile:
    """Returns the error for a corrupt journal."""
    good = f"{len(written.rows)} good lines of {written.size:,} bytes"
    return CorruptFile(
        "run directory",
        f"{path / ROWS} is corrupt",
        got=f"{good}, then {written.error or 'no more'}",
        expected=expected,
        fix="Restore it from a backup; the run cannot resume without it",
    )


class RunDirectory:
    """An open run directory: its `path`, and the requested options, a `Directory`, in `asked`.

    Only the first process of a run writes to it; in the others, nothing is written.
    """

    def __init__(self, path: Path, token: str, asked: Directory):
        self.path, self.token, self.asked = path, token, asked
        self.ends: dict[int, int] = {}  # the byte at which the row of each step ends
        self.unwritten: dict[int, bytes] = {}  # rows that the disk refused, by step
        self.torn: int | None = None  # the end of the last whole row, if a part of one follows

    def part(self, name: str) -> Directory:
        """Returns the directory of a part of this run: `fit(..., out=directory.part("settings"))`.

        If the part is finished, `fit` returns it without training again. Raises `InvalidValue` if
        the name could be a path outside of this directory.
        """
        if not files.is_safe(name):
            raise InvalidValue(
                "run directory",
                "the name of a part might lead out of the directory",
                got=f"part({name!r})",
                expected="letters, digits, and _ . - between them",
                fix="Pass part('settings'), for example",
            )
        path = self.path / name
        resume = processes.agree("part", lambda: finished(path) is not None)
        return replace(self.asked, path=path, resume=resume)

    def append(self, row: Mapping[str, Any]) -> None:
        """Appends a row to the journal in a single write.

        If the disk refuses it, this warns once, and the row is written with the next one. Before a
        checkpoint is saved or the run finishes, all rows must be written.
        """
        if not processes.is_first():
            return
        self.check_owner()
        was_refused = bool(self.unwritten)
        self.unwritten[row["step"]] = json_files.encode(row) + b"\n"
        try:
            self._write_rows()
        except OSError as error:
            if not was_refused:
                text = f"the row of step {row['step']} was not written ({error}); training"
                text += " continues, and it is written with the next one"
                warnings.warn(text, Caution, stacklevel=2)

    def _write_rows(self) -> None:
        """Writes all rows that are not in the journal yet.

        Raises:
          OSError: if the disk refuses them; they remain unwritten.
        """
        if not self.unwritten:
            return
        content = b"".join(self.unwritten.values())
        with open(self.path / ROWS, "ab", buffering=0) as file:
            if self.torn is not None:
                os.ftruncate(file.fileno(), self.torn)
            self.torn = end = file.seek(0, os.SEEK_END)
            if os.write(file.fileno(), content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / ROWS))
            self.torn = None
        for step, line in self.unwritten.items():
            self.ends[step] = end = end + len(line)
        self.unwritten = {}

    def size(self, step: int) -> int:
        """Syncs the rows to disk, and returns the number of bytes of those up to a step.

        Raises:
          OSError: if a row cannot be written.
        """
        self._write_rows()
        if processes.is_first() and (self.path / ROWS).exists():
            files.force(self.path / ROWS)
        return max((end for each, end in self.ends.items() if each <= step), default=0)

    def cut(self, size: int) -> list[dict[str, Any]]:
        """Truncates the journal to `size` bytes, and returns the remaining rows.

        Raises:
          InvalidValue: if rows are missing or corrupt; the journal is not changed then.
        """
        file = self.path / ROWS
        whole = journal.parse(file.read_bytes()[:size] if file.exists() else b"")
        if whole.size < size:
            raise InvalidValue(
                "run directory",
                f"{file} is corrupt",
                got=whole.error or f"{whole.size:,} bytes",
                expected=f"the {size:,} bytes of rows that the checkpoint was saved with",
                fix="Restore the file, or choose another directory (--out)",
            )
        if file.exists():
            os.truncate(file, size)
        self.ends = {row["step"]: end for row, end in zip(whole.rows, whole.ends)}
        return whole.rows

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes `result.json`, which finishes the run."""
        self.size(0)  # syncs the rows to disk
        self.write_json(RESULT, result)

    @property
    def speed(self) -> dict[str, Any]:
        """The timings of the finished run; `{}` if they are unknown."""
        return json_files.read(self.path / SPEED) if (self.path / SPEED).exists() else {}

    def unfinish(self) -> None:
        """Deletes the result, so that the run can resume."""
        self.check_owner()
        if processes.is_first():
            (self.path / RESULT).unlink(missing_ok=True)

    def write_command(self, line: str | None) -> None:
        """Writes the command line of the run; `None` deletes it."""
        if line is not None:
            self.write(command.FILE, f"{line}\n".encode(errors="backslashreplace"))
        else:
            self.check_owner()
            (self.path / command.FILE).unlink(missing_ok=True)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file atomically, even if the machine crashes."""
        self.check_owner()
        if processes.is_first():
            files.write(self.path / name, content)

    def write_json(self, name: str, fields: Mapping[str, Any]) -> None:
        """Writes a JSON file atomically."""
        self.write(name, json_files.encode(dict(fields), indent=2) + b"\n")

    def check_owner(self) -> None:
        """Raises `DirectoryInUse` if another process has taken over the directory."""
        if processes.is_first() and owner(self.path).get("token") != self.token:
            raise in_use(self.path, "another process has taken the directory")
