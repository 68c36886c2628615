"""The outcome of a run: the metrics of its best state if a metric is watched, else its last ones.

All that shows a result asks `outcome`: the catalog, pages, comparisons, and the last line of a
command. A result has the last value of each metric under its name, and that of the best state,
which `predict` uses, under `best/`:

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
    """Returns the metrics of the best state, `{}` if no metric is watched.

    Args:
      result: of a run, or of a sweep, which has the means of its best setting.
      rows: the reports, which complete a result that has the watched metric alone.
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
    """Returns the outcome in words, and behind it the last values if they are of another state.

    Args:
      result: of a run.
      part: the beginning of the names to show, `"test/"`; by default all.
    """
    parts = {n: v for n, v in outcome(with_nan(result)).items() if n.startswith(part)}
    ends = {n: v for n, v in last(with_nan(result)).items() if n in parts}
    words = describe(parts)
    step = result.get(STEP)
    if not best(result) or describe(ends) == words:
        return words
    where = f"best state, step {step}" if isinstance(step, int) else "best states"
    return f"{words} ({where}; last: {describe(ends)})"


def directions(known: Mapping[str, str | None], watch: Any = None) -> dict[str, dict[str, str]]:
    """Returns what a result says of its metrics' directions: where their names mislead.

    >>> directions({"test/ppl": "lower", "test/loss": "lower", "test/own": None})
    {'better': {'test/ppl': 'lower'}}
    """
    known = {**known, **({watch.metric: watch.better} if watch else {})}
    misleading = {
        name: better
        for name, better in known.items()
        if better and (better == "lower") != lower_is_better(name)
    }
    return {"better": misleading} if misleading else {}


def is_lower_better(result: Mapping[str, Any], metric: str) -> bool:
    """Whether lower is better, as a result says it, or else by the name of the metric."""
    better = (result.get("better") or {}).get(metric)
    return lower_is_better(metric) if better is None else better == "lower"


def at_steps(rows: Sequence[Mapping[str, Any]], steps: Any) -> dict[str, Any]:
    """Returns the metrics of the report at a step, for members those at the step of each.

    Step 0 stands for a best state that never was, for which the last one is used.
    """
    by_step = {row["step"]: last(row) for row in rows}
    by_step[0] = {name: value for row in rows for name, value in last(row).items()}
    if not isinstance(steps, list):
        return by_step.get(steps, {})
    own = [by_step.get(step, {}) for step in steps]
    names = dict.fromkeys(name for each in own for name in each)
    return {n: [each[n][i] if n in each else None for i, each in enumerate(own)] for n in names}


def best_steps(rows: Sequence[Mapping[str, Any]], watch: Mapping[str, Any]) -> Any:
    """Returns the step of the best state so far, as `Watch` decides it; 0 if there is none.

    Args:
      rows: the reports; for a population a list of steps is returned.
      watch: the fields of the `Watch`.
    """
    metric, better = str(watch.get("metric")), watch.get("better")
    sign = -1.0 if (lower_is_better(metric) if better is None else better == "lower") else 1.0
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
