"""Watching a run from another process, by its files alone, until it ends.

What is written is read as it comes: new lines of `metrics.jsonl`, the steps of the whole run where
a checkpoint or a recording tells them, and `result.json`, which ends it. A run that nobody writes
any more has stopped. Of a sweep, its groups are seen one after the other.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxnn.catalog import entries as catalog
from jaxnn.catalog.contents import written
from jaxnn.checks import Invalid
from jaxnn.formatting import count, duration
from jaxnn.progress.display import Moment, describe, screen
from jaxnn.scale.memory import used_by
from jaxnn.storage import checkpoints, journal, json_files, recording
from jaxnn.storage.directory import CHECKPOINTS, RESULT, ROWS
from jaxnn.storage.json_files import finite, with_nan
from jaxnn.storage.lock import owner
from jaxnn.storage.manifest import CorruptCheckpoint, read_manifest

# Seconds between two looks.
WAIT = 0.5
# The speed is that over so many of the last reports.
RECENT = 20


class Seen(NamedTuple):
    """What a look at a run has found.

    Attributes:
      status: `running`, or how it ended: `done`, `diverged`, `stopped`, `corrupt`. A run of another
        machine is running until it has a result: whether it has stopped cannot be told from here.
      rows: those that are new.
      moment: where it stands.
      result: of a run that is done.
    """

    status: str
    rows: list[dict[str, Any]]
    moment: Moment
    result: dict[str, Any]


class Watched:
    """A run that is looked at again and again.

    Attributes:
      path: its directory.
      rows: all of its reports that were read.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.read = 0
        self.total: int | None = None

    def look(self) -> Seen:
        """Returns what there is to see now."""
        # Asked first, so that of a run that ends meanwhile nothing is missed.
        status, result = _status(self.path)
        fresh = self._fresh()
        if status == "stopped" and any(v is None for k, v in _last(self.rows) if "loss" in k):
            status = "diverged"
        if self.total is None:
            self.total = _total(self.path)
        moment = self._moment(bool(fresh))
        if status not in ("running", "done"):  # no time is left
            moment = moment._replace(rate=None)
        return Seen(status, fresh, moment, result)

    def _fresh(self) -> list[dict[str, Any]]:
        """Returns the rows that are new, up to a line that is not whole yet."""
        try:
            if (self.path / ROWS).stat().st_size < self.read:  # it resumed from a checkpoint
                self.read, self.rows = 0, []
        except OSError:
            return []
        fresh = journal.read(self.path, self.read)
        self.read = max(self.read, fresh.size)
        self.rows += fresh.rows
        return fresh.rows

    def _moment(self, report: bool) -> Moment:
        rows = [with_nan(row) for row in self.rows[-RECENT:]]
        who = owner(self.path)
        return Moment(
            rows[-1]["step"] if rows else 0,
            self.total,
            _rate(rows),
            rows[-1] if rows else {},
            lambda: used_by(who.get("process", -1)),
            report,
        )


def follow(path: Path, wait: float = WAIT) -> Iterator[Seen]:
    """Yields what there is to see of a run, whenever that is new, until the run has ended.

    Of a sweep that is what there is to see of its groups, and at last its own end.

    Raises:
      InvalidValue: if there is no run.
    """
    path = catalog.find(path)
    watched, done = Watched(path), set()
    while True:
        seen = watched.look()
        parts = catalog.parts(path)
        for part in parts:
            if part not in done:
                yield from _inside(path, part, len(done), wait)
                done.add(part)
        if seen.status != "running":
            yield seen
            return
        if seen.rows or not (parts or watched.rows):
            yield seen
        time.sleep(wait)


def _inside(path: Path, part: Path, before: int, wait: float) -> Iterator[Seen]:
    """Yields what there is to see of a group of a sweep, until it has ended, or the sweep has."""
    name = part.relative_to(path).as_posix()
    watched = Watched(part)
    goes_on = True
    while goes_on:
        whole = _status(path)[0]
        seen = watched.look()
        # Between two groups of a sweep that goes on, nobody writes to the one that is to come.
        goes_on = whole == "running" and seen.status in ("running", "stopped")
        if seen.rows:
            yield seen._replace(
                status="running",
                rows=[{"part": name, **row} for row in seen.rows],
                moment=seen.moment._replace(name=f"{name}, after {count(before, 'group')}"),
            )
        if goes_on:
            time.sleep(wait)


def show(path: Path, wait: float = WAIT) -> Seen:
    """Shows a run on the screen until it has ended; returns how it did."""
    seen = None
    with screen() as draw:
        for seen in follow(path, wait):
            if seen.moment.metrics or seen.status == "running":
                draw(seen.moment)
    assert seen is not None
    return seen


def lines(path: Path, wait: float = WAIT) -> Iterator[str]:
    """Yields a line of JSON for each report of a run, and at last one that says how it ended."""
    for seen in follow(path, wait):
        documents = [*seen.rows]
        if seen.status != "running":
            documents.append({"status": seen.status, "result": seen.result or None})
        yield from (json_files.encode(each).decode() for each in documents)


def ending(seen: Seen, run: str = "RUN") -> str:
    """Returns in a sentence how a run ended, and if it diverged which command says why."""
    result = with_nan(seen.result)
    if seen.status != "done":
        of = "" if seen.moment.total is None else f" of {seen.moment.total}"
        words = f"{seen.status} at step {seen.moment.step}{of}"
        if seen.status == "diverged":
            return f"{words}: python -m jaxnn diagnose {run} says why"
        metrics = describe(seen.moment.metrics)
        return words + (f": {metrics}" if metrics else "")
    runs = result.get("runs") or result.get("members")
    words = [f"with {count(runs, 'run')}"] if isinstance(runs, int) else []
    seconds = finite(result.get("seconds"))
    words += [f"in {duration(seconds)}"] if seconds is not None else []
    metrics = {name: v for name, v in result.items() if not name.startswith("best/")}
    return f"{' '.join(['done', *words])}: {describe(metrics)}".removesuffix(": ")


def _status(path: Path) -> tuple[str, dict[str, Any]]:
    """Returns how a run stands, as far as its lock and its result tell."""
    writes = written(path)
    if (path / RESULT).exists():
        try:
            return "done", json_files.read(path / RESULT)
        except json_files.CorruptFile:
            return "corrupt", {}
    return ("stopped" if writes is False else "running"), {}


def _total(path: Path) -> int | None:
    """Returns the steps of the whole run, where a checkpoint or the recording tells them."""
    folder = path / CHECKPOINTS
    for step in checkpoints.steps(folder)[:1]:
        try:
            total = read_manifest(folder / checkpoints.name(step))["identity"].get("steps")
            return total if type(total) is int else None
        except (CorruptCheckpoint, Invalid, OSError):
            break
    try:
        total = max(json_files.read(path / recording.FOLDER / recording.ABOUT)["moments"])
    except (json_files.CorruptFile, ValueError, TypeError, KeyError):
        return None
    return total if type(total) is int else None


def _last(rows: list[dict[str, Any]]) -> Any:
    return rows[-1].items() if rows else ()


def _rate(rows: list[dict[str, Any]]) -> float | None:
    """Returns steps per second over the reports."""
    if not rows:
        return None
    first = rows[0] if len(rows) > 1 else {"step": 0, "seconds": 0.0}
    began, ended = (finite(row.get("seconds")) for row in (first, rows[-1]))
    if began is None or ended is None or ended <= began:
        return None
    return (rows[-1]["step"] - first["step"]) / (ended - began)
