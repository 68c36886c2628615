"""The outcome of a run: the metrics of its best state if a metric is watched, else its last ones.

The catalog, reports, comparisons and the last line of a command all use `outcome`. A result
contains the last value of each metric under its name, and the value for the best state, which
`predict` uses, under `best/`:

>>> outcome({"test/loss": 3.0, "best/test/loss": 1.0, "best/step": 40})
{'test/loss': 1.0}
>>> sentence({"test/loss": 3.0, "best/test/loss": 1.0, "best/step": 40})
'test/loss 1 (best state, step 40; last: test/loss 3)'
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxnn.metrics import lower_is_better
from jaxnn.progress.display import describe
from jaxnn.storage.json_files import finite, with_nan

BEST = "best/"
STEP = "best/step"


def last(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the last value of each metric in a result or a row."""
    known = {name: value for name, value in result.items() if "/" in name}
    return {n: v for n, v in known.items() if not n.startswith((BEST, "select/"))}


def best(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Returns the metrics of the best state; `{}` if no metric is watched.

    Args:
      result: the result of a run, or of a sweep, which contains the means of its best setting.
      rows: the reports, for results that contain only the watched metric.
    """
    own = {name.removeprefix(BEST): v for name, v in result.items() if name.startswith(BEST)}
    own = {name: value for name, value in own.items() if "/" in name}
    return (at_steps(rows, result[STEP]) if STEP in result else {}) | own


def outcome(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Returns the metrics of the best state if a metric is watched, else the last ones."""
    ends = last(result)
    known = best(result, rows)
    return {name: known[name] for name in [*ends, *known] if name in known} or ends


def sentence(result: Mapping[str, Any], part: str = "") -> str:
    """Returns the outcome as text, followed by the last values if they belong to another state.

    Args:
      result: the result of a run.
      part: the prefix of the metrics to show, such as `"test/"`; by default all.
    """
    parts = {n: v for n, v in outcome(with_nan(result)).items() if n.startswith(part)}
    ends = {n: v for n, v in last(with_nan(result)).items() if n in parts}
    words = describe(parts)
    step = result.get(STEP)
    if not best(result) or describe(ends) == words:
        return words
    where = f"best state, step {step}" if isinstance(step, int) else "best states"
    return f"{words} ({where}; last: {describe(ends)})"


def directions(known: Mapping[str, str | None], watch: Any) -> dict[str, dict[str, str]]:
    """Returns the directions of metrics that differ from the default for their names.

    >>> directions({"test/ppl": "lower", "test/loss": "lower", "test/own": None}, None)
    {'better': {'test/ppl': 'lower'}}
    """
    known = {**known, **({watch.metric: watch.better} if watch else {})}
    misleading = {
        name: better
        for name, better in known.items()
        if better and (better == "lower") != lower_is_better(name)
    }
    return {"better": misleading} if misleading else {}


def is_lower_better(
    result: Mapping[str, Any], metric: str, watch: Mapping[str, Any] | None = None
) -> bool:
    """Returns whether lower is better, from the `Watch`, the result, or the name of the metric."""
    better = (result.get("better") or {}).get(metric)
    if watch and watch.get("metric") == metric:
        better = watch.get("better") or better
    return lower_is_better(metric) if better is None else better == "lower"


def at_steps(rows: Sequence[Mapping[str, Any]], steps: Any) -> dict[str, Any]:
    """Returns the metrics of the report at a step; for a population, at the step of each member.

    Step 0 means that there is no best state; then the last report is used.
    """
    by_step = {row["step"]: last(row) for row in rows}
    by_step[0] = {name: value for row in rows for name, value in last(row).items()}
    if not isinstance(steps, list):
        return by_step.get(steps, {})
    own = [by_step.get(step, {}) for step in steps]
    names = dict.fromkeys(name for each in own for name in each)
    return {n: [each[n][i] if n in each else None for i, each in enumerate(own)] for n in names}


def best_steps(rows: Sequence[Mapping[str, Any]], watch: Mapping[str, Any]) -> Any:
    """Returns the step of the best state so far, by the rules of `Watch`; 0 if there is none.

    Args:
      rows: the reports; for a population, a list of steps is returned.
      watch: the fields of the `Watch`.
    """
    metric = str(watch.get("metric"))
    sign = -1.0 if is_lower_better({}, metric, watch) else 1.0
    known = [(row["step"], row[metric]) for row in rows if metric in row]
    many = [value for _, value in known if isinstance(value, list)]

    def step_of(values):
        step, top = 0, None
        for at, value in values:
            value = finite(value)
            if value is not None and (top is None or sign * value > top):
                step, top = at, sign * value + float(watch.get("margin") or 0.0)
        return step

    if not many:
        return step_of(known)
    return [step_of((at, value[i]) for at, value in known) for i in range(len(many[0]))]
