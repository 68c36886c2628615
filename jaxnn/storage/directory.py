"""The run directory: its configuration (`config.json`), journal (`metrics.jsonl`) and result.

`result.json` is written last and at once: a directory that has one is that of a finished run. One
process writes to a directory at a time; the system frees the lock, whatever ends the process.
"""

import errno
import hashlib
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxnn.checks import Explained, Invalid, InvalidType, InvalidValue
from jaxnn.storage import command, files, journal, json_files
from jaxnn.storage.journal import Journal
from jaxnn.storage.json_files import CorruptFile, plain
from jaxnn.storage.lock import LOCK, DirectoryInUse, in_use, locked, owner
from jaxnn.storage.recording import FOLDER

CONFIG, ROWS, RESULT, CHECKPOINTS = "config.json", journal.FILE, "result.json", "checkpoints"
COLUMNS = "columns.json"  # of the table that was trained on
SPEED = "speed.json"  # numbers of the machine, which differ from run to run


@dataclass(frozen=True)
class Directory:
    """The run directory to write; `fit(out="runs/mine")` is short for `Directory("runs/mine")`.

    Attributes:
      path: an unfinished run there is resumed, and where one is finished already a numbered sibling
        is begun.
      name: what the run is called in its result.
      config: what was asked, a dataclass or a mapping, for `config.json`; by default the
        hyper-parameters, or the values and seeds of a sweep.
      resume: whether there must be a run to resume. A finished one is returned as it is, or trained
        further if `steps` was changed on purpose.
      allow_change: what may differ from the run that is resumed: fields of the configuration,
        hyper-parameters, `"steps"`, `"data"`, `"program"`, or what else the error names.
      report: whether the run is recorded, and gets a `report.html` in the end: a page with the
        timeline of its training.
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
    """Returns the result and the rows of the run at `path`, `None` unless it is finished.

    Raises:
      CorruptFile: if they cannot be read.
    """
    if not (path / RESULT).exists():
        return None
    result, written = json_files.read(path / RESULT), journal.read(path)
    if written.error:
        raise corrupt_journal(path, written, "lines of JSON whose steps increase")
    return result, written.rows


def corrupt_journal(path: Path, written: Journal, expected: str) -> CorruptFile:
    """Returns the error about a journal whose rows cannot all be read."""
    good = f"{len(written.rows)} good lines of {written.size:,} bytes"
    return CorruptFile(
        "run directory",
        f"{path / ROWS} is corrupt",
        got=f"{good}, then {written.error or 'no more'}",
        expected=expected,
        fix="Restore it from a copy, without which the run cannot resume",
    )


class RunDirectory:
    """An open run directory: its `path`, and the `Directory` that was `asked` for."""

    def __init__(self, path: Path, token: str, asked: Directory):
        self.path, self.token, self.asked = path, token, asked
        self.ends: dict[int, int] = {}  # the byte at which the row of each step ends

    def part(self, name: str) -> Directory:
        """Returns the directory of a part of this run, `fit(..., out=directory.part("settings"))`.

        A finished one is returned, not repeated.
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
        return replace(self.asked, path=path, resume=finished(path) is not None)

    def append(self, row: Mapping[str, Any]) -> None:
        """Appends a row to the journal, in one write."""
        self.check_owner()
        line = json_files.encode(row) + b"\n"
        with open(self.path / ROWS, "ab", buffering=0) as file:
            if os.write(file.fileno(), line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / ROWS))
            self.ends[row["step"]] = file.tell()

    def size(self, step: int) -> int:
        """Forces the rows to the disk, and returns the bytes of those up to a step."""
        if (self.path / ROWS).exists():
            files.force(self.path / ROWS)
        return max((end for each, end in self.ends.items() if each <= step), default=0)

    def cut(self, size: int) -> list[dict[str, Any]]:
        """Cuts the journal to so many bytes, and returns the rows in them.

        Raises:
          InvalidValue: if rows are missing or corrupt; nothing is cut then.
        """
        file = self.path / ROWS
        whole = journal.parse(file.read_bytes()[:size] if file.exists() else b"")
        if whole.size < size:
            raise InvalidValue(
                "run directory",
                f"{file} is corrupt",
                got=whole.error or f"{whole.size:,} bytes",
                expected=f"the {size:,} bytes of rows that the checkpoint was saved with",
                fix="Restore the file, or name another directory (--out)",
            )
        if file.exists():
            os.truncate(file, size)
        self.ends = {row["step"]: end for row, end in zip(whole.rows, whole.ends)}
        return whole.rows

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes `result.json`, which finishes the run."""
        self.size(0)  # forces the rows to the disk
        self.write_json(RESULT, result)

    @property
    def speed(self) -> dict[str, Any]:
        """The speed of the finished run, as far as it is known."""
        return json_files.read(self.path / SPEED) if (self.path / SPEED).exists() else {}

    def unfinish(self) -> None:
        """Deletes the result, so that the run may resume."""
        self.check_owner()
        (self.path / RESULT).unlink(missing_ok=True)

    def write_command(self, line: str | None) -> None:
        """Writes the command line of the run; `None` deletes it."""
        if line is not None:
            self.write(command.FILE, f"{line}\n".encode(errors="backslashreplace"))
        else:
            self.check_owner()
            (self.path / command.FILE).unlink(missing_ok=True)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole or not at all, even if the machine stops."""
        self.check_owner()
        files.write(self.path / name, content)

    def write_json(self, name: str, fields: Mapping[str, Any]) -> None:
        """Writes a JSON file in the same way."""
        self.write(name, json_files.encode(dict(fields), indent=2) + b"\n")

    def check_owner(self) -> None:
        """Raises `DirectoryInUse` if another process has taken the directory, locked or not."""
        if owner(self.path).get("token") != self.token:
            raise in_use(self.path, "another process has taken the directory")


@contextmanager
def open_directory(out: str | Path | Directory, config: Any = None) -> Iterator[RunDirectory]:
    """Opens a run directory for one writer, and writes `config.json` and `command.txt`.

    If the run in `out` is finished, the first free one of `out-2`, `out-3`, ... is opened, unless
    it is to be resumed. `config` is the configuration, unless `out` has one.

    Raises:
      InvalidValue: if `out` holds other files, or a run with another configuration.
      NoCheckpoint: if a run must be resumed and there is none.
      DirectoryInUse: if another process is writing there.
      OSError: if it cannot be written.
    """
    out = destination(out)
    out = replace(out, config=config) if out.config is None else out
    resume, allow_change, wanted = out.resume, out.allow_change, plain(out.config)
    path = Path(out.path) if resume else unfinished(Path(out.path))
    if resume and not (path / CONFIG).exists():
        raise NoCheckpoint(
            "run directory",
            "there is no run to resume",
            got=f"no run in {path}",
            expected="the directory of a run",
            fix="Leave out resume (--resume) to start one, or name its directory (--out)",
        )
    _check_ours(path, wanted, allow_change)
    files.make(path)
    with locked(path) as token:
        # Checked again under the lock: another run may just have ended here.
        _check_ours(path, wanted, allow_change)
        if (path / RESULT).exists() and not resume:
            raise DirectoryInUse(
                "run directory",
                "another process has just finished its run there",
                got=str(path),
                expected="a directory that no run is using",
                fix="Start again: the run then takes a directory beside it",
            )
        directory = RunDirectory(path, token, out)
        files.sweep(path)
        files.sweep(path / CHECKPOINTS)
        before, command_before = _config(path), command.read(path)
        if before != wanted:
            directory.write_json(CONFIG, wanted)
            directory.write_command(command.current())
        try:
            yield directory
        except Invalid:
            if before not in (None, wanted):  # the change was refused
                directory.write_json(CONFIG, before)
                directory.write_command(command_before)
            raise


def unfinished(path: Path) -> Path:
    """Returns `path`, or the first free one of `path-2`, ... if the run there is finished."""
    path = path if path.name else path.resolve()  # "." has no name
    others = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], others) if not (each / RESULT).exists())


def _config(path: Path) -> Any:
    try:
        return json_files.decode(files.read(path / CONFIG))
    except FileNotFoundError:
        return None


def _check_ours(path: Path, wanted: dict[str, Any], allow_change: Collection[str]) -> None:
    if path.exists() and not path.is_dir():
        raise _not_ours(path, "a file")
    if not path.exists() or not any(path.iterdir()):
        return
    for name in (LOCK, CONFIG, command.FILE, ROWS, RESULT, SPEED, CHECKPOINTS, FOLDER):
        entry = path / name
        right = entry.is_dir() if name in (CHECKPOINTS, FOLDER) else entry.is_file()
        # A write to a symbolic link might land anywhere, and a pipe would block for ever.
        if entry.is_symlink() or (entry.exists() and not right):
            raise _not_ours(path, f"{name} that is a symbolic link, or not a file or folder")
    if not (path / CONFIG).exists():
        # A run that was stopped before it wrote its configuration leaves these alone.
        others = {entry.name for entry in path.iterdir()} - {LOCK}
        if [name for name in others if not name.startswith(files.DRAFT)]:
            raise _not_ours(path, "a directory with other files and no config.json")
        return
    try:
        before = _config(path)
        assert isinstance(before, dict)
    except (ValueError, AssertionError):
        raise _not_ours(path, "a config.json that is not JSON") from None
    changed = [f for f in {**before, **wanted} if before.get(f) != wanted.get(f)]
    if set(changed) - set(allow_change):
        names = [*dict.fromkeys([*filter(None, allow_change), *changed])]
        raise InvalidValue(
            "run directory",
            f"{path} belongs to a run with another configuration",
            got=", ".join(f"{f}={wanted.get(f)!r}" for f in changed),
            expected=", ".join(f"{f}={before.get(f)!r}" for f in changed),
            fix="Name another directory (--out), delete that one, or resume with the change"
            f" (allow_change={names!r}, --allow-change {','.join(names)})",
        )


def _not_ours(path: Path, what: str) -> InvalidValue:
    return InvalidValue(
        "run directory",
        f"{path} is not a run directory",
        got=what,
        expected="a new or empty directory, or that of an unfinished run",
        fix="Name another directory (--out)",
    )
