"""Opens a run directory: the first process of a run writes to it, the others only read."""

import itertools
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxnn.checks import Invalid, InvalidValue
from jaxnn.scale import processes
from jaxnn.storage import command, files, json_files
from jaxnn.storage.directory import (
    CHECKPOINTS,
    CONFIG,
    RESULT,
    ROWS,
    SPEED,
    Directory,
    NoCheckpoint,
    RunDirectory,
    destination,
)
from jaxnn.storage.json_files import plain
from jaxnn.storage.lock import LOCK, DirectoryInUse, locked, owner
from jaxnn.storage.recording import FOLDER

# The maximum time in seconds until a network drive shows what another host has written.
_DELAY = 10.0


@contextmanager
def open_directory(out: str | Path | Directory, config: Any = None) -> Iterator[RunDirectory]:
    """Opens a run directory for one writer, and writes `config.json` and `command.txt`.

    All processes of a run open it; the first one is the writer.

    If the run in `out` is finished and need not be resumed, the first free directory among `out-2`,
    `out-3`, ... is opened. `config` is the configuration, unless `out` has one.

    Raises:
      InvalidValue: if `out` contains other files, or a run with another configuration, or is not
        visible to all processes.
      NoCheckpoint: if a run must be resumed and there is none.
      DirectoryInUse: if another process is writing there.
      OSError: if it cannot be written.
    """
    if processes.is_first():
        with _opened(out, config) as directory:
            processes.agree("directory", lambda: [directory.path.name, directory.token])
            processes.collect("seen", True)
            yield directory
        return
    out = destination(out)
    name, token = processes.agree("directory", lambda: None)
    path = Path(out.path).absolute().with_name(name)
    _check_seen(path, token)
    processes.collect("seen", True)
    yield RunDirectory(path, token, out)


@contextmanager
def _opened(out: str | Path | Directory, config: Any) -> Iterator[RunDirectory]:
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
                fix="Start again: the run then uses a numbered sibling directory",
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
        # A symbolic link may point anywhere, and writing to a pipe would block.
        if entry.is_symlink() or (entry.exists() and not right):
            raise _not_ours(path, f"{name} that is a symbolic link, or not a file or folder")
    if not (path / CONFIG).exists():
        # A run that stopped before it wrote its configuration leaves only these files.
        others = {entry.name for entry in path.iterdir()} - {LOCK}
        if [name for name in others if not name.startswith(files.DRAFT)]:
            raise _not_ours(path, "a directory with other files and no config.json")
        return
    try:
        before = _config(path)
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise _not_ours(path, "a config.json that is not JSON")
    changed = [f for f in {**before, **wanted} if before.get(f) != wanted.get(f)]
    if set(changed) - set(allow_change):
        names = [*dict.fromkeys([*filter(None, allow_change), *changed])]
        raise InvalidValue(
            "run directory",
            f"{path} belongs to a run with another configuration",
            got=", ".join(f"{f}={wanted.get(f)!r}" for f in changed),
            expected=", ".join(f"{f}={before.get(f)!r}" for f in changed),
            fix="Choose another directory (--out), delete that one, or resume with the change"
            f" (allow_change={names!r}, --allow-change {','.join(names)})",
        )


def _not_ours(path: Path, what: str) -> InvalidValue:
    return InvalidValue(
        "run directory",
        f"{path} is not a run directory",
        got=what,
        expected="a new or empty directory, or the directory of an unfinished run",
        fix="Choose another directory (--out)",
    )


def _check_seen(path: Path, token: str) -> None:
    until = time.monotonic() + _DELAY
    while owner(path).get("token") != token:
        if time.monotonic() > until:
            raise InvalidValue(
                "run directory",
                f"process {processes.index()} on {socket.gethostname()} does not see the directory"
                " of the first process",
                got=f"{path}, {'another one' if path.exists() else 'which does not exist'} here",
                expected="a directory on storage that all processes share",
                fix="Choose a directory on shared storage (--out)",
            )
        time.sleep(0.1)
