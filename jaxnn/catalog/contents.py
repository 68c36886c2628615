"""What a run directory holds, read without touching it.

It has all that there is to know about its run in plain files. Reading them needs neither the
program that wrote them nor a device, changes nothing, and may be done while the run goes on: what
it has just deleted is passed over, and a row that it is writing is not read yet.
"""

import errno
import fcntl
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxnn.storage import checkpoints, journal, json_files
from jaxnn.storage.directory import CHECKPOINTS, CONFIG, RESULT, ROWS, corrupt_journal
from jaxnn.storage.journal import Journal
from jaxnn.storage.json_files import CorruptFile
from jaxnn.storage.lock import LOCK, alive, owner
from jaxnn.storage.manifest import CorruptCheckpoint, read_manifest

# What a run is told by unless it watched something: the first of these that it reports.
METRICS = ("test/accuracy", "test/loss", "train/loss")


@dataclass(frozen=True)
class Contents:
    """What a run directory holds.

    Attributes:
      path: the directory.
      config: what was asked; `None` if it cannot be read.
      result: what came of it; `None` unless it is finished.
      journal: its rows.
      manifests: those of its checkpoints by their steps, the newest first.
      errors: what is not as it was written, by the name of the file or the folder.
      written: whether a process is writing there; `None` if that cannot be told from here.
    """

    path: Path
    config: dict[str, Any] | None
    result: dict[str, Any] | None
    journal: Journal
    manifests: dict[int, dict[str, Any]]
    errors: dict[str, str]
    written: bool | None

    @property
    def status(self) -> str:
        """What has become of the run.

        `done`, `running`, `diverged` (its loss was not finite), `stopped` (it is unfinished, and
        nobody writes), `unfinished` (begun on another machine, of which nothing is known here), or
        `corrupt` (its configuration or its result cannot be read).
        """
        if {CONFIG, RESULT} & self.errors.keys():
            return "corrupt"
        if self.result is not None:
            return "done"
        if self.written is not False:
            return "running" if self.written else "unfinished"
        last = self.journal.rows[-1] if self.journal.rows else {}
        lost = any(name.endswith("loss") and last[name] is None for name in last)
        return "diverged" if lost else "stopped"

    @property
    def newest(self) -> dict[str, Any]:
        """The manifest of the newest checkpoint, `{}` if there is none."""
        return next(iter(self.manifests.values()), {})

    @property
    def last(self) -> dict[str, Any]:
        """The last value of each metric."""
        rows = [*self.journal.rows, self.result or {}]
        known = {name: value for row in rows for name, value in row.items() if "/" in name}
        return {k: v for k, v in known.items() if not k.startswith(("best/", "select/"))}

    @property
    def metric(self) -> str | None:
        """The metric that ranks the run: that of a sweep, the watched one, or the usual."""
        ranked = str((self.result or {}).get("metric"))
        watch = self.newest.get("identity", {}).get("watch")
        watched = str(watch.get("metric")) if isinstance(watch, dict) else ""
        wanted = (ranked, watched, *METRICS, *self.last)
        return next((name for name in wanted if name in self.last), None)


def read(path: Path) -> Contents:
    """Reads a run directory.

    Raises:
      InvalidValue: if it was written by a newer jaxnn.
    """
    errors: dict[str, str] = {}

    def tried(name):
        try:
            return json_files.read(path / name)
        except CorruptFile as error:
            errors[name] = str(error)
            return None

    # Asked before the result is read, so that a run that ends meanwhile is not called stopped.
    writing = not (path / RESULT).exists() and written(path)
    finished = (path / RESULT).exists()
    config, result = tried(CONFIG), tried(RESULT) if finished else None
    # Read before the rows, of which there are then never fewer than when it was saved.
    manifests, broken = _manifests(path)
    found = journal.read(path)
    saved = next(iter(manifests.values()), {"rows": 0})["rows"]
    trouble = journal_error(path, found, saved, finished=finished)
    errors |= broken | ({ROWS: trouble} if trouble else {})
    return Contents(path, config, result, found, manifests, errors, writing)


def journal_error(path: Path, found: Journal, saved: int, *, finished: bool) -> str:
    """Returns what is wrong with the rows of a run, `""` if nothing is.

    Of an unfinished one what follows its newest checkpoint does not matter: it is cut.

    Args:
      path: of the run.
      found: its rows.
      saved: the bytes of those that it had at its newest checkpoint.
      finished: whether it is.
    """
    if found.size >= saved and not (finished and found.error):
        return ""
    at_least = f"at least the {saved:,} bytes of when the newest checkpoint was saved"
    expected = at_least if found.size < saved else "lines of JSON whose steps increase"
    return str(corrupt_journal(path, found, expected))


def written(path: Path) -> bool | None:
    """Whether a process is writing to a run directory, as its lock tells, or else its owner.

    The lock is asked for in such a way that it is only shared, and given back at once.
    """
    try:
        number = os.open(path / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(number)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return True
        has_locks = error.errno == errno.ENOENT
    else:
        has_locks = True
    who = owner(path)
    if who and who.get("host") != socket.gethostname():
        return None
    return not has_locks and alive(who.get("process"))  # on some network drives


def _manifests(path: Path) -> tuple[dict[int, dict[str, Any]], dict[str, str]]:
    """Returns the manifests of the checkpoints, the newest first, and what is corrupt."""
    found, broken = {}, {}
    for step in checkpoints.steps(path / CHECKPOINTS):
        folder = path / CHECKPOINTS / checkpoints.name(step)
        try:
            found[step] = read_manifest(folder)
        except (CorruptCheckpoint, OSError) as error:
            if folder.is_dir():  # else a run that goes on has just deleted it
                broken[f"checkpoint {step}"] = str(error)
    return found, broken
