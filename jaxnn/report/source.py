"""The source of a report: all files of a run, read once.

No file is trusted. If a file is missing, its section is left out; a corrupt file is reported.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.catalog import entries as catalog
from jaxnn.catalog import sweeps
from jaxnn.catalog.contents import Contents
from jaxnn.catalog.contents import read as read_contents
from jaxnn.catalog.entries import Entry
from jaxnn.checks import InvalidValue
from jaxnn.report.examples import with_classes
from jaxnn.report.units import columns_of, in_units
from jaxnn.storage import json_files, recording
from jaxnn.storage.json_files import number
from jaxnn.storage.recording import Recording
from jaxnn.tables import Columns

NOTHING = Recording(about={}, probe={}, frames=[], end={})


@dataclass(frozen=True)
class Source:
    """The files of a run, as the source of its report."""

    contents: Contents  # of the run directory
    about: Entry  # in the catalog
    recorded: Recording  # of the network; `NOTHING` if there is none
    table: list[dict[str, Any]]  # for a sweep or a population, a row for each run
    fields: list[str]  # the swept columns of the table, without the seed
    groups: list[tuple[list[dict[str, Any]], list[int]]]  # of a sweep: reports, rows in the table
    errors: dict[str, str]  # of corrupt files, with those of `contents`
    columns: Columns | None  # of the training table, if there is one

    @property
    def config(self) -> dict[str, Any]:
        """The configuration; `{}` if it is unknown."""
        return self.contents.config or {}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The reports."""
        return self.contents.journal.rows

    @property
    def result(self) -> dict[str, Any]:
        """The result; `{}` unless the run is finished."""
        return self.contents.result or {}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The identity in its checkpoints; of a sweep, what all runs share; `{}` if unknown."""
        known = self.contents.newest.get("identity")
        if known is not None:
            return known
        try:
            parts = [read_contents(path) for path in catalog.parts(self.contents.path) if self.many]
        except InvalidValue:  # a newer jaxnn has written the checkpoint
            return {}
        first, *others = [part.newest.get("identity", {}) for part in parts] or [{}]
        return {n: v for n, v in first.items() if all(n in o and o[n] == v for o in others)}

    @property
    def last(self) -> dict[str, Any]:
        """The last value of each metric; NaN if it is not finite."""
        return {name: number(value) for name, value in self.contents.last.items()}

    @property
    def outcome(self) -> dict[str, Any]:
        """The metrics of the best state if a metric is watched, else the last ones."""
        return {name: number(value) for name, value in self.contents.outcome.items()}

    @property
    def many(self) -> bool:
        """Whether it is a sweep or a population, not a single run."""
        return bool(self.table)

    @property
    def diverged(self) -> bool:
        """Whether its loss was not finite at the end."""
        return "diverged" in (self.contents.status, self.result.get("status"))

    @property
    def step(self) -> int:
        """The number of completed training steps."""
        return self.about.step or 0

    @property
    def best_step(self) -> int | None:
        """The step of the best state of a single run; `None` unless it differs from the last."""
        step = self.contents.best_step
        return step if isinstance(step, int) and 0 < step != self.step else None

    @property
    def steps(self) -> int | None:
        """The planned number of training steps; `None` if it is unknown."""
        moments = self.recorded.about.get("moments")
        last = moments[-1:] if isinstance(moments, list) else []
        return next((n for n in (self.about.steps, *last) if isinstance(n, int) and n), None)

    @cached_property
    def metric(self) -> str:
        """The metric that ranks the run, or the rows of its table; `""` if there is none."""
        metric = self.contents.metric or ""
        names = self.table[0] if self.many else [metric]
        return metric if metric in names else next((n for n in names if "/" in n), "")

    @property
    def lower_is_better(self) -> bool:
        """Whether lower values of the metric are better."""
        return self.contents.is_lower_better(self.metric)

    @cached_property
    def settings(self) -> list[sweeps.Setting]:
        """The settings of a sweep, the best first."""
        return sweeps.summary(self.table, self.fields, self.metric, self.lower_is_better)

    @cached_property
    def ranked(self) -> list[dict[str, Any]]:
        """The rows of the table, the best first; diverged networks come last."""
        sign = 1.0 if self.lower_is_better else -1.0

        def order(row: dict[str, Any]) -> tuple[bool, bool, float]:
            value = self.value(row)
            return row["status"] == "diverged", math.isnan(value), sign * value

        return sorted(self.table, key=order)

    def value(self, row: dict[str, Any]) -> float:
        """Returns the metric of a row of the table, for its best state if it has one."""
        return row[sweeps.outcome_name(row, self.metric)]

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the steps at which a metric was reported, and its values, NaN if not finite."""
        pairs = [(row["step"], number(row[name])) for row in self.rows if name in row]
        pairs = [(step, value) for step, value in pairs if isinstance(value, float)]
        return np.array([s for s, _ in pairs], int), np.array([v for _, v in pairs], float)


def median(value: Any) -> float:
    """Returns the median of the finite values of a metric: its own value for a single run."""
    values = np.asarray(value, float)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else math.nan


def read(path: Path) -> Source:
    """Reads the directory of a run.

    Raises:
      InvalidValue: if it is not a run directory, or was written by a newer jaxnn.
    """
    content = read_contents(catalog.find(path))
    about = catalog.entry(content, content.path.resolve().name)
    errors = {**content.errors}
    recorded, folder = recording.read(content.path), content.path / recording.FOLDER
    if recorded is None and folder.is_dir():
        errors[recording.FOLDER] = "what was recorded during the training cannot be read"
    columns = columns_of(content.path)
    recorded = with_classes(in_units(recorded, columns)) if recorded else NOTHING
    missing = len(recording.steps(folder)) - len(recorded.frames) if recorded.about else 0
    if missing:
        errors[recording.FOLDER] = f"{missing} of the recorded moments cannot be read"
    table, fields, groups = _sweep(content, errors) or _population(content) or ([], [], [])
    return Source(content, about, recorded, table, fields, groups, errors, columns)


def _sweep(content: Contents, errors: dict[str, str]) -> tuple[list, list, list] | None:
    """Returns the table of a sweep, its fields and its groups."""
    file = content.path / sweeps.FILE
    if not file.exists():
        return None
    try:
        fields, sizes, rows = sweeps.read(file)
    except json_files.CorruptFile as error:
        errors[sweeps.FILE] = str(error)
        return None
    parts, groups, start = {*catalog.parts(content.path)}, [], 0
    for name, size in sizes:
        if content.path / name in parts:
            journal = read_contents(content.path / name).journal
            groups.append((journal.rows, [*range(start, start + size)]))
        start += size
    return (rows, fields, groups) if rows else None


def _population(content: Contents) -> tuple[list, list, list] | None:
    """Returns the table, fields and reports for a population, in the form of a sweep."""
    last = content.journal.rows[-1] if content.journal.rows else {}
    lists = [value for name, value in last.items() if "/" in name and isinstance(value, list)]
    members = (content.result or {}).get("members") or (len(lists[0]) if lists else None)
    if not isinstance(members, int) or members < 1:
        return None
    config = {
        name: values
        for name, values in (content.config or {}).items()
        if isinstance(values, list) and len(values) == members > 1
        if all(isinstance(value, int | float | str) for value in values)
    }
    columns = {name: values for name, values in config.items() if name != "seed"}
    fields = [name for name, values in columns.items() if len(set(values)) > 1]
    seeds = config.get("seed", [*range(members)])
    settings = [{n: columns[n][i] for n in fields} | {"seed": seeds[i]} for i in range(members)]
    now = {"members": members, "steps": [last.get("step", 0)] * members}
    result = content.result or {**now, "status": ["running"] * members, **last}
    if content.best_step is not None:
        best = {**content.outcome, "step": content.best_step}
        result = {**result, **{f"best/{name}": value for name, value in best.items()}}
    try:
        table = sweeps.rows(settings, result)
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    return table, fields, [(content.journal.rows, [*range(members)])]
