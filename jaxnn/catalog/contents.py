"""Reads the contents of a run directory, without changing it.

This requires neither the program of the run nor a device, and works while the run is training:
files that were just deleted are skipped, and so is an incomplete row.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxnn.catalog import outcome
from jaxnn.storage import checkpoints, journal, json_files
from jaxnn.storage.directory import CHECKPOINTS, CONFIG, RESULT, ROWS, SPEED, corrupt_journal
from jaxnn.storage.journal import Journal
from jaxnn.storage.json_files import CorruptFile
from jaxnn.storage.lock import LOCK, alive, owner
from jaxnn.storage.manifest import CorruptCheckpoint, read_manifest

# A run without a watched metric is ranked by the first of these that it reports.
METRICS = ("test/accuracy", "test/loss", "train/loss")


@dataclass(frozen=True)
class Contents:
    """The contents of a run directory.

    Attributes:
      path: the path of the directory.
      config: the configuration; `None` if it cannot be read.
      result: the result; `None` unless the run is finished.
      speed: the timings; `{}` unless the run is finished.
      journal: the rows of metrics.
      manifests: the manifests of the checkpoints by step, the newest first.
      errors: the error for each corrupt file or folder, by name.
      written: whether a process is writing to the directory; `None` if it is on another machine.
    """

    path: Path
    config: dict[str, Any] | None
    result: dict[str, Any] | None
    speed: dict[str, Any]
    journal: Journal
    manifests: dict[int, dict[str, Any]]
    errors: dict[str, str]
    written: bool | None

    @property
    def status(self) -> str:
        """The state of the run.

        `done`, `running`, `diverged` (its loss was not finite), `interrupted` (unfinished, no
        process writes), `unfinished` (started on another machine, of which nothing is known here),
        or `corrupt` (its configuration or its result cannot be read).
        """
        if {CONFIG, RESULT} & self.errors.keys():
            return "corrupt"
        if self.result is not None:
            return "done"
        if self.written is not False:
            return "running" if self.written else "unfinished"
        return "diverged" if has_diverged(self.journal.rows) else "interrupted"

    @property
    def newest(self) -> dict[str, Any]:
        """The manifest of the newest checkpoint, `{}` if there is none."""
        return next(iter(self.manifests.values()), {})

    @property
    def last(self) -> dict[str, Any]:
        """The last value of each metric."""
        return outcome.last(self._known)

    @property
    def outcome(self) -> dict[str, Any]:
        """The metrics of the best state if a metric is watched, else the last ones."""
        return outcome.outcome(self._known, self.journal.rows)

    @property
    def best_step(self) -> Any:
        """The step of the best state, a list for a population; `None` if no metric is watched."""
        return self._known.get(outcome.STEP)

    @property
    def watch(self) -> dict[str, Any]:
        """The fields of the `Watch` of the run, `{}` if it has none or no checkpoint has it."""
        watch = self.newest.get("identity", {}).get("watch")
        return watch if isinstance(watch, dict) else {}

    @property
    def metric(self) -> str | None:
        """The metric that ranks the run: that of a sweep, the watched one, or the usual."""
        ranked, known = str((self.result or {}).get("metric")), self.outcome
        wanted = (ranked, str(self.watch.get("metric")), *METRICS, *known)
        return next((name for name in wanted if name in known), None)

    def is_lower_better(self, metric: str) -> bool:
        """Whether lower values of a metric are better."""
        return outcome.is_lower_better(self._known, metric, self.watch)

    @cached_property
    def _known(self) -> dict[str, Any]:
        """The result, or its equivalent at this time for an unfinished run."""
        rows = self.journal.rows
        known = {name: value for row in rows for name, value in row.items()} | (self.result or {})
        if self.result is None and self.watch and rows:
            known[outcome.STEP] = outcome.best_steps(rows, self.watch)
        return known


def has_diverged(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a loss in the last row is not finite."""
    last = rows[-1] if rows else {}
    return any(name.endswith("loss") and last[name] is None for name in last)


def read(path: Path) -> Contents:
    """Reads a run directory.

    Raises:
      InvalidValue: if it was written by a newer jaxnn.
    """
    errors: dict[str, str] = {}

    def document(name):
        try:
            return json_files.read(path / name)
        except CorruptFile as error:
            errors[name] = str(error)
            return None

    # Checks the lock before the result, so that a run that ends meanwhile is not interrupted.
    writing = not (path / RESULT).exists() and written(path)
    finished = (path / RESULT).exists()
    config, result = document(CONFIG), document(RESULT) if finished else None
    speed = document(SPEED) if (path / SPEED).exists() else None
    # Reads checkpoints before rows, so that no row of a checkpoint is missing.
    manifests = {}
    for folder in checkpoints.folders(path / CHECKPOINTS):
        try:
            manifests[int(folder.name)] = read_manifest(folder)
        except (CorruptCheckpoint, OSError) as error:
            if folder.is_dir():  # otherwise, the run has just deleted the checkpoint
                errors[f"checkpoint {int(folder.name)}"] = str(error)
    rows = journal.read(path)
    saved = next(iter(manifests.values()), {"rows": 0})["rows"]
    if error := journal_error(path, rows, saved, finished=finished):
        errors[ROWS] = error
    return Contents(path, config, result, speed or {}, rows, manifests, errors, writing)


def journal_error(path: Path, rows: Journal, saved: int, *, finished: bool) -> str:
    """Returns the error of a journal, or `""` if it is intact.

    It must contain all bytes that it had when the newest checkpoint was `saved`. In an unfinished
    run, later bytes do not matter, since they are truncated on resuming.
    """
    if rows.size >= saved and not (finished and rows.error):
        return ""
    at_least = f"at least the {saved:,} bytes of when the newest checkpoint was saved"
    expected = at_least if rows.size < saved else "lines of JSON whose steps increase"
    return str(corrupt_journal(path, rows, expected))


def written(path: Path) -> bool | None:
    """Returns whether a process is writing to a run directory, from its lock or its owner.

    The lock is acquired as a shared lock, and released immediately.
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
    return not has_locks and alive(who.get("process"))  # on network drives without locks
