"""`fit_sweep`: trains every run of a sweep, and records which setting is best.

    def train(values, runs, out):
        network = jaxnn.mlp(values["hidden"], 10)
        learner = jaxnn.learner(network, jaxnn.classification(), lambda h: optax.adam(h["rate"]))
        return jaxnn.fit(learner, data, steps=500, key=runs.key, hparams=runs.hparams, out=out)

    rates = jaxnn.log_range(1e-4, 1e-1, 16)
    sweep = jaxnn.sweep({"rate": rates, "hidden": [(64,), (64, 64)]}, seeds=8)
    jaxnn.fit_sweep(sweep, train, structural=["hidden"], out="runs/mine")

The directory holds a run directory for each group, `sweep.csv` with a row for each run, a plot
`sweep.png`, `result.json` and a report `report.html`. The same call resumes an interrupted sweep,
even in the middle of a group.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import jax
import numpy as np

from jaxnn.catalog import outcome, sweeps
from jaxnn.catalog.contents import METRICS
from jaxnn.checks import Caution, InvalidValue, choice
from jaxnn.formatting import brief
from jaxnn.observing.recorder import record_best
from jaxnn.pictures._sweep import sweep as heat_map
from jaxnn.runs._fit import Run
from jaxnn.runs.exit_codes import exit_code
from jaxnn.runs.output import NotFinite, write_report
from jaxnn.scale import processes
from jaxnn.scale.watch import together
from jaxnn.search._sweep import Sweep
from jaxnn.storage import recording
from jaxnn.storage.directory import Directory, destination, finished
from jaxnn.storage.opening import open_directory
from jaxnn.typing import Any

# Settings are ranked by the first of these metrics that is reported.
RANKING = ("validation/accuracy", "validation/loss", *METRICS)


@dataclass(frozen=True)
class Swept:
    """A finished sweep.

    Attributes:
      result: a flat dict: `experiment`, `runs`, `groups`, the total `steps` and `seconds`, the
        number of `diverged` runs, the `metric` that ranks settings, the fields of the best setting
        (`best/learning_rate`), and the mean of each metric over its seeds. If a metric is watched,
        those of the best states (`best/test/accuracy`) are included.
      rows: the fields, seed, status, steps and metrics of each run, as in `sweep.csv`.
      out: the directory of the sweep.
    """

    result: dict[str, Any]
    rows: list[dict[str, Any]]
    out: Path

    def _repr_html_(self) -> str:
        from jaxnn.report import notebook  # imports the plotting code

        return notebook.sweep(self.result, self.rows, self.out)


@together(exit_code)
def fit_sweep(
    sweep: Sweep,
    train: Callable[[dict[str, Any], Sweep, Directory], Any],
    *,
    out: str | Path | Directory,
    structural: Sequence[str] = (),
    metric: str | None = None,
    quiet: bool = False,
) -> Swept:
    """Trains the runs of a sweep, group by group, and returns a `Swept`.

    The report of the sweep covers all runs, so groups have no reports of their own. To write one
    for a group, pass `dataclasses.replace(out, report=True)` to `fit`.

    Args:
      sweep: the runs to train.
      train: `(values, runs, out)`, a function that trains the runs of one group with `fit`, as one
        population. `values` are the values of the structural fields; the seeds and the other
        fields are in `runs.key` and `runs.hparams`; `out` is the `Directory` of the group.
      out: the directory to write, a path or a `Directory`.
      structural: the fields that are not inputs of the compiled program, such as layer sizes.
      metric: the metric to rank settings by. The default is the first of `RANKING` that is
        reported, which prefers a validation set to the test set.
      quiet: if true, nothing is printed.

    Raises:
      Invalid: if a field or the metric is unknown. Metric names are known after the first group.
      NotFinite: if every run diverged.
      NoCheckpoint: if `resume` requires an existing sweep, and there is none.
      DirectoryInUse: if another process is writing to `out`.
      OSError: if `out` cannot be written.
    """
    if metric is not None and len(metric.split("/")) < 2:
        raise InvalidValue(
            "fit_sweep",
            "metric is not the name of a metric",
            got=f"metric={metric!r}",
            expected="the names of a dataset and a metric, as in test/accuracy",
            fix=f"Pass test/{metric}, or train/{metric}",
        )
    groups = sweep.groups(structural)
    config = {field: list(dict.fromkeys(sweep.columns[field])) for field in sweep.columns}
    group = replace(destination(out), resume=False, report=False)
    rows: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    done: list[tuple[str, int]] = []
    ranked, lower = "", True  # known after the first group
    winner = Path()  # of the group with the best run
    with open_directory(out, config) as directory:
        for values, runs in groups:
            named = ",".join(f"{field}={brief(value, 15)}" for field, value in values.items())
            path = directory.path / (quote(named, safe="=,") or "population")
            if not quiet and values:
                print(f"{path.name}: {len(runs)} runs", flush=True)
            trained_now = None
            if finished(path) is None:
                trained_now = train(values, runs, replace(group, path=path))
            if (trained := finished(path)) is None:
                raise InvalidValue(
                    "fit_sweep",
                    "a group left no result",
                    got=f"nothing in {path}",
                    expected="the run directory of the group",
                    fix="In train(values, runs, out), pass out to fit: fit(..., out=out)",
                )
            result = trained[0]
            results.append(result)
            settings = [values | setting for setting in runs.settings()]
            rows += sweeps.rows(settings, result)
            done.append((path.name, len(runs)))
            fields = [name for name in settings[0] if name != "seed"]
            directory.write(sweeps.FILE, sweeps.encode(sweeps.Table(fields, done, rows)))
            directory.write("sweep.csv", sweeps.to_csv(rows))
            ranked = _metric(metric, results[0])  # raises for an unknown name
            lower = outcome.is_lower_better(result, ranked)
            before = len(rows) - len(runs)
            if directory.asked.report:
                _record(path, trained_now, sweeps.best_row(rows[before:], fields, ranked, lower))
            if sweeps.best_row(rows, fields, ranked, lower) >= before:
                winner = path
        directory.write("sweep.png", _picture(sweep, rows, ranked, lower))
        settings = sweeps.summary(rows, sweep.fields, ranked, lower)
        if not quiet:
            print(sweeps.table(settings, ranked))
        best = settings[0]
        if best.runs == best.diverged:
            raise NotFinite(
                "fit_sweep",
                "every run diverged",
                got=f"{len(rows)} runs with a loss that is not finite, see {directory.path}",
                expected="a finite loss in one of them",
                fix="Sweep lower learning rates",
            )
        result = {
            "experiment": group.name or "sweep",
            "runs": len(rows),
            "groups": len(groups),
            "steps": sum(row["steps"] for row in rows),
            "seconds": round(sum(result["seconds"] for result in results), 3),
            "diverged": sum(setting.diverged for setting in settings),
            "metric": ranked,
            **{f"best/{field}": value for field, value in best.values.items()},
            **best.metrics,
            **({"better": results[0]["better"]} if "better" in results[0] else {}),
            "device": results[0]["device"],
            "jax": results[0]["jax"],
        }
        if directory.asked.report and processes.is_first():
            recording.copy(winner, directory.path)
        directory.finish(result)
        if directory.asked.report and processes.is_first():
            write_report(directory.path)
    return Swept(result, rows, directory.path)


def _metric(metric: str | None, result: dict[str, Any]) -> str:
    names = [name for name in result if "/" in name and not name.startswith("best/")]
    if metric is None:
        return next((name for name in RANKING if name in names), names[0])
    choice("fit_sweep", "metric", metric, names)
    return metric


def _record(directory: Path, run: Any, member: int) -> None:
    """Records the predictions of a group's best network; the report can do without them.

    The record of the best group is copied to the sweep, even if an earlier call trained the group.
    """
    if not isinstance(run, Run) or run.training is None:
        return
    state = run.best
    if run.members is not None:
        state = jax.tree.map(lambda array: array[member], state)
    try:
        record_best(directory, run.training, state)
    except Exception as error:
        text = f"the report lacks the predictions of the best network ({error})"
        warnings.warn(text, Caution, stacklevel=3)


def _picture(sweep: Sweep, rows: list[dict[str, Any]], metric: str, lower: bool) -> bytes:
    values = [
        np.nan if row["status"] == "diverged" else row[sweeps.outcome_name(row, metric)]
        for row in rows
    ]
    columns = {
        field: [brief(v) if isinstance(v, tuple) else v for v in (row[field] for row in rows)]
        for field in sweep.columns
    }
    file = io.BytesIO()
    heat_map(columns, values, metric, lower).savefig(file, format="png", dpi=300)
    return file.getvalue()
