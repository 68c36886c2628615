"""`fit_sweep`: trains every run of a sweep, and records which setting is best.

    def train(values, runs, out):
        network = jaxnn.mlp(values["hidden"], 10)
        learner = jaxnn.learner(network, jaxnn.classification(), lambda h: optax.adam(h["rate"]))
        return jaxnn.fit(learner, data, steps=500, key=runs.key, hparams=runs.hparams, out=out)

    rates = jaxnn.log_range(1e-4, 1e-1, 16)
    sweep = jaxnn.sweep({"rate": rates, "hidden": [(64,), (64, 64)]}, seeds=8)
    jaxnn.fit_sweep(sweep, train, structural=["hidden"], out="runs/mine")

Its directory holds that of each group's `fit`, `sweep.csv` with a row for each run, a picture of
them, `sweep.png`, last `result.json`, and a page about all of them, `report.html`. A sweep
that was interrupted resumes there, in the middle of its group.
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

# What settings are ranked by, the first of these that is reported.
RANKING = ("validation/accuracy", "validation/loss", *METRICS)


@dataclass(frozen=True)
class Swept:
    """A finished sweep.

    Attributes:
      result: flat: `experiment`, `runs`, `groups`, `steps` and `seconds` in all, how many
        `diverged`, the `metric` by which settings are ranked, the fields of the best setting
        (`best/learning_rate`), and the mean over its seeds of each metric, with
        those of the best states (`best/test/accuracy`) if a metric is watched.
      rows: for each run its fields, seed, status, steps and metrics, as in `sweep.csv`.
      out: the directory.
    """

    result: dict[str, Any]
    rows: list[dict[str, Any]]
    out: Path

    def _repr_html_(self) -> str:
        from jaxnn.report import notebook  # with all that draws

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
    """Trains the runs of a sweep, group by group, and returns the `Swept`.

    A group has no page of its own, since that of the sweep has all runs;
    `dataclasses.replace(out, report=True)` makes one.

    Args:
      sweep: which runs.
      train: `(values, runs, out)`: trains the runs of a group with `fit`, as one population, into
        `out`, a `Directory` inside that of the sweep; `values` are those of the structural fields,
        and the rest is in `runs.key` and `runs.hparams`.
      out: the directory to write, a path or a `Directory`.
      structural: the fields that are no inputs of the compiled program.
      metric: by what settings are ranked, lower or higher being better as it says, or by its name;
        by default the first of `RANKING` that is reported, a validation set before the test set.
      quiet: whether to print nothing.

    Raises:
      Invalid: if the metric is none, as far as it is known before training, or a field is unknown.
      NotFinite: if every run diverged.
      NoCheckpoint: if `resume` demands a sweep, and there is none.
      DirectoryInUse: if another process is writing to `out`.
      OSError: if `out` cannot be written.
    """
    if metric is not None and len(metric.split("/")) < 2:
        raise InvalidValue(
            "fit_sweep",
            "metric names no metric",
            got=f"metric={metric!r}",
            expected="the name of the data and that of the metric, as in test/accuracy",
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
            ranked = _metric(metric, results[0])  # an unknown one is said after the first group
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
    """Records what the best network of a group predicts; a page can do without it.

    That of the best group is copied to the sweep, also if the group was trained by an earlier call.
    """
    if not isinstance(run, Run) or run.training is None:
        return
    state = run.best
    if run.members is not None:
        state = jax.tree.map(lambda array: array[member], state)
    try:
        record_best(directory, run.training, state)
    except Exception as error:
        text = f"what the best network predicts is not on the page ({error})"
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
