"""The result of a run in one sentence."""

import math
from typing import Any

import numpy as np

from jaxnn.catalog import sweeps
from jaxnn.formatting import brief, count
from jaxnn.metrics import lower_is_better
from jaxnn.report.phrases import display_name, examples_of, figure, is_share, listed, spaced, time
from jaxnn.report.source import Source


def sentence(source: Source) -> str:
    """Returns the result of a run, as one would say it."""
    if source.many and ranked(source):
        return _sweep(source)
    metric = source.contents.metric
    if metric is None:
        return "Nothing has been reported of this run yet."
    share = f"{metric.partition('/')[0]}/accuracy"  # is easier to grasp than a loss
    metric = share if metric.endswith("/loss") and share in source.last else metric
    if source.diverged:
        done = count(source.step, "training step")
        return f"The training diverged: after {done} its loss was no number any more."
    value = source.last[metric]
    value = value if isinstance(value, float) else float(np.nanmedian(value))
    status = source.contents.status
    early = "So far the " if status in ("running", "unfinished") else "The "
    about = source.recorded.about
    if metric.rpartition("/")[2] == "accuracy" and (not about or about.get("classes")):
        early = "When it was stopped, the " if status == "stopped" else early
        what = (
            f"{early}network gets {figure(metric, value)} of the {_examples(source, metric)} right"
        )
    else:
        what = f"{early}{display_name(metric)} is {figure(metric, value)}"
    planned, seconds = source.steps, source.about.seconds
    done = count(source.step, "training step")
    if planned and planned != source.step:
        done = f"{source.step:,} of {planned:,} training steps"
    return f"{what}, after {done}" + (f" in {time(seconds)}." if seconds is not None else ".")


def ranked(source: Source) -> str | None:
    """Returns the metric by which the runs of a sweep or a population are ranked."""
    names = [source.contents.metric, *(n for n in (source.table or [{}])[0] if "/" in n)]
    return next((n for n in names if n is not None and n in (source.table or [{}])[0]), None)


def settings(source: Source) -> list[sweeps.Setting]:
    """Returns the settings of a sweep, the best first."""
    return sweeps.summary(source.table, source.fields, ranked(source) or "")


def setting_words(values: dict[str, Any]) -> str:
    """Returns a setting as one says it: "learning rate 0.003"."""
    return listed([f"{spaced(name)} {brief(value)}" for name, value in values.items()])


def _sweep(source: Source) -> str:
    metric = ranked(source) or ""
    runs = [row[metric] for row in source.table if row["status"] != "diverged"]
    finite = np.array([v for v in runs if isinstance(v, float) and math.isfinite(v)])
    if not len(finite):
        return f"All {len(source.table)} networks diverged: no loss was a number at the end."
    of = f"of the {_examples(source, metric)} right"
    if not source.fields:
        middle = figure(metric, float(np.median(finite)))
        best = figure(metric, float((np.min if lower_is_better(metric) else np.max)(finite)))
        what = f"{len(source.table)} networks, the same but for their seeds"
        if is_share(metric):
            return f"{what}, get {middle} {of} in the middle, and the best of them {best}."
        return f"{what}: {display_name(metric)} is {middle} in the middle, and at best {best}."
    ranking = settings(source)
    best = ranking[0]
    seeds = f", on average of {best.runs} seeds" if best.runs > 1 else ""
    mean = figure(metric, best.mean)
    reached = f"{mean} {of}" if metric.endswith("accuracy") else f"{display_name(metric)} {mean}"
    what = f"Of {len(ranking)} settings, {setting_words(best.values)} was the best"
    return f"{what}: {reached}{seeds}."


def _examples(source: Source, metric: str) -> str:
    """Returns which examples a metric is of, and how many, if that is known."""
    counts, number = source.recorded.end.get("confusion"), ""
    if counts is not None and counts.ndim == 2 and counts.sum() > 0:
        right = np.trace(counts) / counts.sum()
        # Of a run whose best state was saved, or of very many examples, it is of others.
        if np.isclose(right, source.last.get(metric, np.nan), atol=1e-6):
            number = f"{int(counts.sum()):,} "
    return number + examples_of(metric.partition("/")[0])
