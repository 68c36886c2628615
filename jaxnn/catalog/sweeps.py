"""The results of a sweep: a row for each run, and a summary of each setting over its seeds.

>>> settings = [{"learning_rate": rate, "seed": seed} for rate in (0.1, 0.01) for seed in (0, 1)]
>>> result = {"members": 4, "status": ["done"] * 3 + ["diverged"], "steps": [8, 8, 8, 4]}
>>> result |= {"test/loss": [3, 2, 1, None]}
>>> table = rows(settings, result)
>>> table[0]
{'learning_rate': 0.1, 'seed': 0, 'status': 'done', 'steps': 8, 'test/loss': 3.0}
>>> for setting in summary(table, ["learning_rate"], "test/loss"):
...     print(setting.values, setting.mean, setting.best, setting.diverged)
{'learning_rate': 0.01} 1.0 1.0 1
{'learning_rate': 0.1} 2.5 2.0 0
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnn.catalog.outcome import BEST, STEP
from jaxnn.checks import InvalidValue
from jaxnn.formatting import aligned, brief, comma_separated, count
from jaxnn.metrics import lower_is_better
from jaxnn.storage import json_files

FILE = "sweep.json"
SHOWN = 20  # maximum number of settings; the file contains all


class Setting(NamedTuple):
    """The results of all runs with one setting, which differ in their seeds.

    Attributes:
      values: the values of the swept fields.
      mean: the mean of the ranking metric over the runs that did not diverge.
      deviation: its standard deviation over these runs; NaN for a single one.
      best: its best value among these runs.
      runs: the number of runs.
      diverged: the number of diverged runs.
      metrics: the mean of each metric over the runs that did not diverge.
    """

    values: dict[str, Any]
    mean: float
    deviation: float
    best: float
    runs: int
    diverged: int
    metrics: dict[str, float]


class Table(NamedTuple):
    """The runs of a sweep, as saved in `sweep.json`.

    Attributes:
      fields: the names of the swept fields, without the seed.
      groups: pairs of the folder of a finished group and the number of its rows.
      rows: the rows of all runs, see `rows`.
    """

    fields: list[str]
    groups: list[tuple[str, int]]
    rows: list[dict[str, Any]]


def rows(settings: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a row for each run, with its settings, status, steps and metrics.

    Args:
      settings: the setting of each member, or of a single run.
      result: the result of the population or run.

    Raises:
      InvalidValue: if the population has a different size.
    """
    if result.get("members", 1) != len(settings):
        raise InvalidValue(
            "sweep",
            "a group of runs did not train as one population",
            got=f"{result.get('members', 1)} trained",
            expected=f"{len(settings)}, one for each seed and each value of a hyper-parameter",
            fix="Give all of them to fit: key=jaxnn.keys(seeds), hparams={'learning_rate': array}",
        )
    columns = {"status": result.get("status", "done"), "steps": result["steps"]}
    columns |= {name: np.array(value, float) for name, value in result.items() if "/" in name}
    names = sorted(columns, key=lambda name: name.startswith("best/"))
    values = zip(*(np.ravel(columns[name]).tolist() for name in names), strict=True)
    return [{**each, **dict(zip(names, row))} for each, row in zip(settings, values, strict=True)]


def encode(table: Table) -> bytes:
    """Returns a table as JSON."""
    return json_files.encode(table._asdict()) + b"\n"


def read(file: Path) -> Table:
    """Reads a table.

    Raises:
      CorruptFile: if the file does not contain a table.
    """
    content = json_files.read(file)
    try:
        fields = [*map(str, content["fields"])]
        groups = [(str(folder), int(count)) for folder, count in content["groups"]]
        rows = [{name: _cell(name, each) for name, each in row.items()} for row in content["rows"]]
        if sum(count for _, count in groups) != len(rows):
            raise ValueError(f"{len(rows)} rows for groups {groups}")
        if any({*fields, "seed", "status", "steps"} - row.keys() for row in rows):
            raise ValueError("a row without a setting")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise json_files.CorruptFile(
            "run directory",
            f"{file} cannot be read",
            got=repr(error),
            expected="the table of a sweep, as jaxnn writes it",
            fix="Give the command of the sweep again: it writes the table anew",
        ) from None
    return Table(fields, groups, rows)


def _cell(name: str, value: Any) -> Any:
    if "/" in name:
        return json_files.number(value)
    if isinstance(value, list):
        return tuple(_cell(name, each) for each in value)
    if not isinstance(value, str | int | float | None):
        raise ValueError(f"{name} is a {type(value).__name__}")
    return value


def to_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Returns rows as comma-separated values with a header; cells with NaN are empty."""

    def cell(value):
        if isinstance(value, tuple):
            return brief(value)
        return value if value == value else None

    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[cell(row.get(name)) for name in names] for row in rows]
    return comma_separated(names, cells).encode()


def summary(
    rows: Sequence[Mapping[str, Any]], fields: Sequence[str], metric: str, lower: bool | None = None
) -> list[Setting]:
    """Returns the settings, sorted by mean, the best first.

    Settings with more than half of their runs diverged come last. `lower` is whether lower is
    better; by default it depends on the name of the metric.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in fields), []).append(row)
    lower = lower_is_better(metric) if lower is None else lower
    settings = [_setting(dict(zip(fields, v)), each, metric, lower) for v, each in groups.items()]
    sign = 1.0 if lower else -1.0

    def rank(setting):
        unreliable = 2 * setting.diverged > setting.runs
        return np.isnan(setting.mean), unreliable, sign * setting.mean

    return sorted(settings, key=rank)


def best_row(
    rows: Sequence[Mapping[str, Any]], fields: Sequence[str], metric: str, lower: bool
) -> int:
    """Returns the index of the best run of the best setting."""
    best, name = summary(rows, fields, metric, lower)[0], outcome_name(rows[0], metric)
    mine = [place for place, row in enumerate(rows) if best.values.items() <= row.items()]
    sign = 1.0 if lower else -1.0
    finished = [place for place in mine if rows[place]["status"] != "diverged"]
    return min(finished or mine, key=lambda i: (np.isnan(rows[i][name]), sign * rows[i][name]))


def table(settings: Sequence[Setting], metric: str) -> str:
    """Returns a table of the settings, the first `SHOWN` of them."""
    rows = [[*settings[0].values, "mean", "deviation", "best run", "runs", "diverged"]]
    for setting in settings[:SHOWN]:
        figures = [setting.mean, setting.deviation, setting.best]
        cells = [*setting.values.values(), *figures, setting.runs, setting.diverged or ""]
        rows.append([brief(cell) if cell == cell else "" for cell in cells])
    if not any(setting.diverged for setting in settings):
        rows = [row[:-1] for row in rows]
    more = len(settings) - SHOWN
    rest = [f"and {count(more, 'more setting')} in sweep.csv"] if more > 0 else []
    return "\n".join([f"{metric}, best first", aligned(rows, ">" * len(rows[0])), *rest])


def outcome_name(row: Mapping[str, Any], metric: str) -> str:
    """Returns the column of a metric for the best states, if there is one, else its own column."""
    return f"{BEST}{metric}" if f"{BEST}{metric}" in row else metric


def _setting(
    values: dict[str, Any], rows: list[Mapping[str, Any]], metric: str, lower: bool
) -> Setting:
    finished = [row for row in rows if row["status"] != "diverged"]
    names = [name for name in rows[0] if "/" in name and name != STEP]
    arrays = {name: np.array([row[name] for row in finished], float) for name in names}
    figures = {name: array[np.isfinite(array)] for name, array in arrays.items()}
    means = {name: float(each.mean()) if len(each) else np.nan for name, each in figures.items()}
    ranked = figures[outcome_name(rows[0], metric)]
    return Setting(
        values=values,
        mean=means[outcome_name(rows[0], metric)],
        deviation=float(ranked.std(ddof=1)) if len(ranked) > 1 else np.nan,
        best=float((np.min if lower else np.max)(ranked)) if len(ranked) else np.nan,
        runs=len(rows),
        diverged=len(rows) - len(finished),
        metrics=means,
    )
