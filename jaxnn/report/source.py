"""What a report is written from: everything that a run has left, read once.

Nothing is believed: a file that is missing leaves a section out, one that is corrupt is passed over
and said.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.catalog import entries as catalog
from jaxnn.catalog import sweeps
from jaxnn.catalog.contents import Contents
from jaxnn.catalog.contents import read as read_contents
from jaxnn.catalog.entries import Entry
from jaxnn.report.examples import with_classes
from jaxnn.storage import json_files, recording
from jaxnn.storage.json_files import number
from jaxnn.storage.recording import Recording


@dataclass(frozen=True)
class Source:
    """What there is to tell of a run.

    Attributes:
      contents: its files.
      about: how it stands.
      recorded: what its network was like while it trained, if that was recorded.
      table: for a sweep or a population, a row for each run, as in `sweep.csv`.
      fields: the columns of that in which the runs differ on purpose, without the seed.
      groups: the reports of each of the populations that a sweep is, and which rows of the table
        they are of.
      errors: what is not as it was written.
    """

    contents: Contents
    about: Entry
    recorded: Recording | None
    table: list[dict[str, Any]] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    groups: list[tuple[list[dict[str, Any]], list[int]]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def speed(self) -> dict[str, Any]:
        """Numbers of the machine."""
        return self.contents.speed

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its reports."""
        return self.contents.journal.rows

    @property
    def result(self) -> dict[str, Any]:
        """What came of it, `{}` unless it is finished."""
        return self.contents.result or {}

    @property
    def last(self) -> dict[str, Any]:
        """The last value of each metric, not finite ones as NaN."""
        return {name: number(value) for name, value in self.contents.last.items()}

    @property
    def many(self) -> bool:
        """Whether it is a sweep or a population, and no single run."""
        return bool(self.table)

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.about.experiment or self.contents.path.resolve().name)

    @property
    def step(self) -> int:
        """How far it came."""
        return self.about.step or 0

    @property
    def steps(self) -> int | None:
        """How far it is to come; `None` where that is not known."""
        planned = self.recorded.about.get("moments") if self.recorded else None
        known = self.about.steps if isinstance(self.about.steps, int) else None
        return known or (_last(planned) if isinstance(planned, list) else None)

    @property
    def environment(self) -> dict[str, Any]:
        """The environment of the run."""
        saved = self.contents.newest.get("environment", {})
        said = {
            name: self.result[name] for name in ("device", "jax", "form") if name in self.result
        }
        return {n: v for n, v in {**said, **saved}.items() if v not in (None, "")}

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the steps at which a metric was reported, and its values, NaN if not finite."""
        pairs = [(row["step"], number(row[name])) for row in self.rows if name in row]
        pairs = [(step, value) for step, value in pairs if isinstance(value, float)]
        return np.array([s for s, _ in pairs], int), np.array([v for _, v in pairs], float)


def read(path: Path) -> Source:
    """Reads the directory of a run.

    Raises:
      InvalidValue: if it is none, or was written by a newer jaxnn.
    """
    content = read_contents(catalog.find(path))
    about = catalog.entry(content, content.path.resolve().name)
    errors = {**content.errors}
    recorded = recording.read(content.path)
    if recorded is None and (content.path / recording.FOLDER).is_dir():
        errors[recording.FOLDER] = "what was recorded during the training cannot be read"
    elif recorded is not None:
        recorded = with_classes(recorded)
        missing = len(recording.steps(content.path / recording.FOLDER)) - len(recorded.frames)
        if missing:
            errors[recording.FOLDER] = f"{missing} of the recorded moments cannot be read"
    table, fields, groups = _sweep(content, errors)
    if not table:
        table, fields, groups = _population(content)
    return Source(content, about, recorded, table, fields, groups, errors)


def _sweep(content: Contents, errors: dict[str, str]) -> tuple[list, list, list]:
    """Returns the table of a sweep, its fields and its groups."""
    file = content.path / sweeps.FILE
    if not file.exists():
        return [], [], []
    try:
        fields, sizes, rows = sweeps.read(file)
    except json_files.CorruptFile as error:
        errors[sweeps.FILE] = str(error)
        return [], [], []
    parts = {
        part.relative_to(content.path).as_posix(): part for part in catalog.parts(content.path)
    }
    groups, start = [], 0
    for name, size in sizes:
        if name in parts:
            journal = read_contents(parts[name]).journal
            groups.append((journal.rows, [*range(start, start + size)]))
        start += size
    return rows, fields, groups


def _population(content: Contents) -> tuple[list, list, list]:
    """Returns the table of its members, its fields and its reports, as those of a sweep."""
    last = content.journal.rows[-1] if content.journal.rows else {}
    lists = [value for name, value in last.items() if "/" in name and isinstance(value, list)]
    members = (content.result or {}).get("members") or (len(lists[0]) if lists else None)
    if not isinstance(members, int) or members < 1:
        return [], [], []
    config = {n: v for n, v in (content.config or {}).items() if _is_column(v, members)}
    columns = {name: values for name, values in config.items() if name != "seed"}
    fields = [name for name, values in columns.items() if len(set(values)) > 1]
    seeds = config.get("seed", [*range(members)])
    settings = [
        {**{name: columns[name][i] for name in fields}, "seed": seeds[i]} for i in range(members)
    ]
    steps = [last.get("step", 0)] * members
    known = {"members": members, "steps": steps, "status": ["running"] * members, **last}
    result = content.result or {k: v for k, v in known.items() if k != "step"}
    try:
        table = sweeps.rows(settings, result, content.journal.rows)
    except (ValueError, TypeError, KeyError, IndexError):
        return [], [], []
    return table, fields, [(content.journal.rows, [*range(members)])]


def _is_column(value: Any, members: int) -> bool:
    scalars = isinstance(value, list) and all(isinstance(v, int | float | str) for v in value)
    return scalars and len(value) == members > 1


def _last(moments: list[Any]) -> int | None:
    return moments[-1] if moments and isinstance(moments[-1], int) else None
