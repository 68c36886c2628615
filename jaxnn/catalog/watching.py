"""Watches a run from another process, through its files, until it ends.

The watcher follows the journal, reads the planned steps from a checkpoint or a recording, and stops
when `result.json` appears. A run without a result and without a writing process was interrupted.
The groups of a sweep are watched one after another.
"""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxnn.catalog import entries as catalog
from jaxnn.catalog import outcome
from jaxnn.catalog.contents import has_diverged, written
from jaxnn.checks import Explained
from jaxnn.formatting import count, duration
from jaxnn.progress.display import Moment, describe, screen
from jaxnn.scale.memory import used_by
from jaxnn.storage import checkpoints, journal, json_files, recording
from jaxnn.storage.directory import CHECKPOINTS, RESULT, ROWS
from jaxnn.storage.json_files import finite, with_nan
from jaxnn.storage.lock import owner
from jaxnn.storage.manifest import read_manifest

WAIT = 0.5  # seconds between two updates
RECENT = 20  # number of reports from which the speed is computed


class Update(NamedTuple):
    """The state of a run at one time.

    Attributes:
      status: `running`, or how it ended: `done`, `diverged`, `interrupted` or `corrupt`. A run on
        another machine counts as running until it has a result.
      rows: the new rows since the last update.
      moment: the progress, for the display.
      result: the result of a finished run.
    """

    status: str
    rows: list[dict[str, Any]]
    moment: Moment
    result: dict[str, Any]


class Watched:
    """A run in the directory `path`, whose `update` reads what is new; `rows` are its reports."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.read = 0
        self.steps: int | None = None

    def update(self) -> Update:
        """Reads the new rows and the status."""
        # Reads the status first, so that no row of a run that ends meanwhile is missed.
        status, result = _status(self.path)
        file = self.path / ROWS
        if file.exists() and file.stat().st_size < self.read:  # the run resumed from a checkpoint
            self.read, self.rows = 0, []
        new = journal.read(self.path, self.read)
        self.read = max(self.read, new.size)
        self.rows += new.rows
        rows = [with_nan(row) for row in self.rows[-RECENT:]]
        last = rows[-1] if rows else {}
        if status == "interrupted" and has_diverged(self.rows):
            status = "diverged"
        self.steps = self.steps or _planned_steps(self.path)
        rate = _rate(rows) if status in ("running", "done") else None  # else no time remains
        memory = partial(used_by, owner(self.path).get("process", -1))
        moment = Moment(last.get("step", 0), self.steps, rate, last, memory, bool(new.rows))
        return Update(status, new.rows, moment, result)


def follow(path: Path, wait: float = WAIT) -> Iterator[Update]:
    """Yields the updates of a run until it ends; for a sweep, also those of its groups.

    Raises:
      InvalidValue: if the path is not a run.
    """
    path = catalog.find(path)
    watched, done = Watched(path), set()
    while True:
        update = watched.update()
        parts = catalog.parts(path)
        for part in parts:
            if part not in done:
                yield from _follow_part(path, part, len(done), wait)
                done.add(part)
        if update.status != "running":
            yield update
            return
        if update.rows or not (parts or watched.rows):
            yield update
        time.sleep(wait)


def _follow_part(path: Path, part: Path, before: int, wait: float) -> Iterator[Update]:
    """Yields the updates of a group of a sweep, until the group or the sweep has ended."""
    name, watched, running = part.relative_to(path).as_posix(), Watched(part), True
    while running:
        whole, update = _status(path)[0], watched.update()
        # Between two groups of a running sweep, no process writes to the next one.
        running = whole == "running" and update.status in ("running", "interrupted")
        if update.rows:
            yield update._replace(
                status="running",
                rows=[{"part": name, **row} for row in update.rows],
                moment=update.moment._replace(name=f"{name}, after {count(before, 'group')}"),
            )
        if running:
            time.sleep(wait)


def show(path: Path, wait: float = WAIT) -> Update:
    """Displays a run until it ends; returns the last update."""
    update = None
    with screen() as draw:
        for update in follow(path, wait):
            if update.moment.metrics or update.status == "running":
                draw(update.moment)
    assert update is not None
    return update


def lines(path: Path, wait: float = WAIT) -> Iterator[str]:
    """Yields a JSON line for each report of a run, and a last one with the status and result."""
    for update in follow(path, wait):
        last = {"status": update.status, "result": update.result or None}
        documents = update.rows + [last] * (update.status != "running")
        yield from (json_files.encode(each).decode() for each in documents)


def ending(update: Update, run: str = "RUN") -> str:
    """Describes how a run ended in one sentence, with a command that explains a diverged run."""
    moment, result = update.moment, with_nan(update.result)
    if update.status == "done":
        runs, seconds = result.get("runs") or result.get("members"), finite(result.get("seconds"))
        words = [f"with {count(runs, 'run')}"] if isinstance(runs, int) else []
        words += [f"in {duration(seconds)}"] if seconds is not None else []
        return f"{' '.join(['done', *words])}: {outcome.sentence(result)}".removesuffix(": ")
    of = "" if moment.total is None else f" of {moment.total}"
    words = f"{update.status} at step {moment.step}{of}"
    if update.status == "diverged":
        return f"{words}: python -m jaxnn diagnose {run} says why"
    return f"{words}: {describe(moment.metrics)}".removesuffix(": ")


def _status(path: Path) -> tuple[str, dict[str, Any]]:
    """Returns the status and the result of a run, from its lock and its result file."""
    writes = written(path)
    if not (path / RESULT).exists():
        return "interrupted" if writes is False else "running", {}
    try:
        return "done", json_files.read(path / RESULT)
    except json_files.CorruptFile:
        return "corrupt", {}


def _planned_steps(path: Path) -> int | None:
    """Returns the planned steps of a run, if a checkpoint or the recording contains them."""
    try:
        if saved := checkpoints.folders(path / CHECKPOINTS):
            steps = read_manifest(saved[0])["identity"].get("steps")
        else:
            steps = max(json_files.read(path / recording.FOLDER / recording.ABOUT)["moments"])
    except (Explained, OSError, ValueError, TypeError, KeyError):
        return None
    return steps if type(steps) is int else None


def _rate(rows: list[dict[str, Any]]) -> float | None:
    """Returns steps per second over the reports."""
    if len(rows) < 2:  # the time until the first report includes compilation
        return None
    first, last = rows[0], rows[-1]
    began, ended = (finite(row.get("seconds")) for row in (first, last))
    if began is None or ended is None or ended <= began:
        return None
    return (last["step"] - first["step"]) / (ended - began)
