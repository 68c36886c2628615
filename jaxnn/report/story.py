"""The result of a run in one sentence, with notes on its interpretation."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxnn.catalog import sweeps
from jaxnn.formatting import brief, count
from jaxnn.report.headline import confusion, observed, reached
from jaxnn.report.phrases import (
    display_name,
    examples_of,
    figure,
    is_share,
    listed,
    percent,
    spaced,
    time,
)
from jaxnn.report.source import Source, median

_BEGINS = {
    "running": "So far the",
    "unfinished": "So far the",
    "interrupted": "When it was interrupted, the",
}


def sentence(source: Source) -> str:
    """Returns the result of a run as a sentence."""
    if not source.metric:
        return "This run has not reported anything yet."
    if source.many:
        return _sweep(source)
    if source.diverged:
        done = count(source.step, "training step")
        return f"The training diverged: after {done} its loss was no longer finite."
    values = {name: median(value) for name, value in source.outcome.items()}
    metric = reported(values, source.metric)
    what = reached(values, metric, source.recorded, _examples(source, metric))
    begin = _BEGINS.get(source.contents.status, "The")
    planned, seconds = source.steps, source.about.seconds
    done = count(source.step, "training step")
    if planned and planned != source.step:
        done = f"{source.step:,} of {planned:,} training steps"
    took = f"after {done}" + (f" in {time(seconds)}" if seconds is not None else "")
    if source.best_step is not None:
        took = f"in its best state, of step {source.best_step:,}; it ended {took}"
    return f"{begin} {what}, {took}."


def notes(source: Source) -> Iterator[str]:
    """Yields notes on the sentence: the ranking, the last state and the largest class."""
    metric = source.metric
    if not metric or source.diverged:
        return
    if source.many and source.fields:
        yield _choice(source, metric)
    values = {name: median(value) for name, value in source.last.items()}
    watched = source.contents.watch.get("metric", metric)
    metric = metric if source.many else reported(values, metric)
    if source.best_step is not None and not source.many:
        last = reached(values, metric, source.recorded)
        yield (
            f"The best state has the best {display_name(str(watched))}; predict uses it."
            f" In the last state, of step {source.step:,}, the {last}."
        )
    counts = confusion(source.recorded)
    part = observed(source.recorded) or metric.partition("/")[0]
    if counts is not None and f"{part}/accuracy" in values:
        share = percent(float(counts.sum(1).max() / counts.sum()))
        words = "always predicting it gets that many right"
        yield f"The largest class is {share} of the {examples_of(part)}: {words}."


def setting_words(values: dict[str, Any]) -> str:
    """Returns a setting as text: "learning rate 0.003"."""
    return listed([f"{spaced(name)} {brief(value)}" for name, value in values.items()])


def reported(names: Iterable[str], metric: str) -> str:
    """Returns the metric to report: on the test set, if another dataset selected the best state."""
    tested = [name for name in names if name.startswith("test/")]
    if metric.startswith("test/") or not tested:
        return metric
    wanted = (f"test/{metric.partition('/')[2]}", "test/accuracy", "test/loss", *tested)
    return next(name for name in wanted if name in tested)


def _sweep(source: Source) -> str:
    metric = source.metric
    runs = [source.value(row) for row in source.ranked if row["status"] != "diverged"]
    finite = [value for value in runs if math.isfinite(value)]
    if not finite:
        return f"All {len(source.table)} networks diverged: no loss was finite at the end."
    of = f"of the {examples_of(metric.partition('/')[0])} right"
    if not source.fields:
        middle, best = figure(metric, median(finite)), figure(metric, finite[0])
        what = f"{len(source.table)} networks that differ only in their seeds"
        if is_share(metric):
            return f"{what}: the median gets {middle} {of}, and the best {best}."
        return f"{what}: the median {display_name(metric)} is {middle}, and the best is {best}."
    best = source.settings[0]
    seeds = f", on average over {best.runs} seeds" if best.runs > 1 else ""
    names = [name for name in best.metrics if not name.startswith("best/")]
    means = {name: best.metrics[sweeps.outcome_name(best.metrics, name)] for name in names}
    what = reached(means, reported(means, metric), source.recorded)
    chosen = setting_words(best.values)
    return f"Of {len(source.settings)} settings, {chosen} was the best: the {what}{seeds}."


def _choice(source: Source, metric: str) -> str:
    """Describes how the settings were ranked, and whether by the reported metric itself."""
    by = f"Settings are ranked by their {display_name(metric)}"
    part = metric.partition("/")[0]
    if reported(source.table[0], metric).partition("/")[0] != part:
        return f"{by}; the held-out examples that are reported had no part in the choice."
    return (
        f"{by}, the same that are reported here, so the best of many is a little lucky. A separate"
        " dataset to rank by, evaluate={'validation': ..., 'test': ...}, avoids this bias."
    )


def _examples(source: Source, metric: str) -> str:
    """Describes the examples of a metric, with their number if that is known."""
    counts, number, part = confusion(source.recorded), "", metric.partition("/")[0]
    if counts is not None:
        right = np.trace(counts) / counts.sum()
        # For very many examples, the final predictions only cover a subset.
        if np.isclose(right, median(source.outcome.get(f"{part}/accuracy", np.nan)), atol=1e-6):
            number = f"{int(counts.sum()):,} "
    return number + examples_of(part)
