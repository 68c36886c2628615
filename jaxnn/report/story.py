"""The result of a run in one sentence."""

import math

import numpy as np

from jaxnn.catalog import sweeps
from jaxnn.formatting import brief
from jaxnn.metrics import lower_is_better
from jaxnn.report.phrases import (
    display_name,
    figure,
    is_share,
    listed,
    percent,
    spaced,
    steps,
    time,
)
from jaxnn.report.source import Source

_LEARNS = {
    "running": "So far the network",
    "unfinished": "So far the network",
    "stopped": "When it was stopped, the network",
}


def sentence(source: Source) -> str:
    """Returns what came of a run, as one would tell it."""
    if source.many and ranked(source):
        return _sweep(source)
    metric = source.contents.metric
    if metric is None:
        return "Nothing has been reported of this run yet."
    # What is easier to grasp.
    share = f"{metric.partition('/')[0]}/accuracy"
    metric = share if metric.endswith("/loss") and share in source.last else metric
    status = source.contents.status
    if status == "diverged" or "diverged" == source.result.get("status"):
        return f"The training diverged: after {steps(source.step)} its loss was no number any more."
    value = source.last[metric]
    value = value if isinstance(value, float) else float(np.nanmedian(value))
    who = _LEARNS.get(status, "The network")
    classifies = source.recorded is None or source.recorded.about.get("classes")
    if metric.rpartition("/")[2] == "accuracy" and classifies:
        what = f"{who} gets {percent(value)} of the {_examples(source, metric)} right"
    else:
        what = f"{_so_far(status)}{display_name(metric)} is {figure(metric, value)}"
    return f"{_capital(what)}, after {_took(source)}."


def ranked(source: Source) -> str | None:
    """Returns the metric by which the runs of a sweep or a population are ranked."""
    metric = source.contents.metric
    known = metric is not None and metric in (source.table or [{}])[0]
    return metric if known else next((n for n in (source.table or [{}])[0] if "/" in n), None)


def settings(source: Source) -> list[sweeps.Setting]:
    """Returns the settings of a sweep, the best first."""
    return sweeps.summary(source.table, source.fields, ranked(source) or "")


def setting_words(values: dict) -> str:
    """Returns a setting as one says it: "learning rate 0.003"."""
    return listed([f"{spaced(name)} {brief(value)}" for name, value in values.items()])


def _sweep(source: Source) -> str:
    metric = ranked(source) or ""
    runs = [row[metric] for row in source.table if row["status"] != "diverged"]
    finite = np.array([v for v in runs if isinstance(v, float) and math.isfinite(v)])
    if not len(finite):
        return f"All {len(source.table)} networks diverged: no loss was a number at the end."
    if not source.fields:
        middle, best = np.median(finite), (np.min if lower_is_better(metric) else np.max)(finite)
        what = f"{len(source.table)} networks, the same but for their seeds"
        if is_share(metric):
            words = f"get {percent(middle)} of the {_examples(source, metric)} right in the middle"
            return f"{what}, {words}, and the best of them {percent(best)}."
        return (
            f"{what}: {display_name(metric)} is {figure(metric, middle)} in the middle, and at best"
            + (f" {figure(metric, best)}.")
        )
    best = settings(source)[0]
    seeds = f", on average of {best.runs} seeds" if best.runs > 1 else ""
    reached = (
        f"{percent(best.mean)} of the {_examples(source, metric)} right"
        if metric.endswith("accuracy")
        else f"{display_name(metric)} {figure(metric, best.mean)}"
    )
    tried = len(settings(source))
    return f"Of {tried} settings, {setting_words(best.values)} was the best: {reached}{seeds}."


def _examples(source: Source, metric: str) -> str:
    """Returns which examples a metric is of, and how many, if that is known."""
    part = metric.partition("/")[0]
    words = {"train": "training examples", "test": "held-out examples"}
    counts = source.recorded.end.get("confusion") if source.recorded else None
    count = ""
    if counts is not None and counts.ndim == 2 and counts.sum() > 0:
        right = np.trace(counts) / counts.sum()
        # Of a run whose best state was saved, or of very many examples, it is of others.
        if np.isclose(right, source.last.get(metric, np.nan), atol=1e-6):
            count = f"{int(counts.sum()):,} "
    return count + words.get(part, f"{part} examples")


def _took(source: Source) -> str:
    planned, seconds = source.steps, source.about.seconds
    of = f" of {planned:,}" if planned and planned != source.step else ""
    count = f"{source.step:,}{of} training steps" if of else steps(source.step)
    return count + (f" in {time(seconds)}" if seconds is not None else "")


def _so_far(status: str) -> str:
    return "so far the " if status in ("running", "unfinished") else "the "


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
