"""The headline of a page: the result of a run in one sentence, with notes on its interpretation.

Its metrics depend on the task: the accuracy for classification, R² and the error in the unit of
the labels for regression, perplexity and bits per character for text, else the ranking metric.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxnn.catalog import sweeps
from jaxnn.formatting import count
from jaxnn.report.phrases import (
    display_name,
    examples_of,
    figure,
    is_share,
    percent,
    setting_words,
    time,
)
from jaxnn.report.source import Source, median
from jaxnn.storage.recording import Recording

_BEGINS = {
    "running": "So far the",
    "unfinished": "So far the",
    "interrupted": "It was interrupted; so far the",
}
BYTES = 256  # maximum size of a vocabulary of bytes or characters
# Pairs of a headline and a secondary metric; the first pair that is reported is used.
PAIRS = (("perplexity", "bits_per_byte"), ("accuracy", "loss"), ("mae", "r2"), ("loss", ""))


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
        ended = "; it ended" if begin == "The" else ","
        took = f"in its best state, of step {source.best_step:,}{ended} {took}"
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


def reached(
    values: Mapping[str, Any], metric: str, recorded: Recording, examples: str | None = None
) -> str:
    """Returns the headline metrics on a dataset as a clause, for use after "the".

    Args:
      values: the metrics by name.
      metric: the ranking metric of the run, such as `"test/loss"`, which determines the dataset.
      recorded: the recording of the run, which determines the task.
      examples: a description of the dataset, with its size if that is known.
    """
    part = metric.partition("/")[0]
    on = examples or examples_of(part)

    def named(*names):
        shown = [figure(f"{part}/{name}", values.get(f"{part}/{name}")) for name in names]
        return shown if all(f"{part}/{name}" in values for name in names) else None

    if text := named("perplexity", "bits_per_byte"):
        unit = bits(recorded, values, part)
        return f"network reaches perplexity {text[0]}, {text[1]} {unit}, on {on}"
    classes = not recorded.about or recorded.about.get("classes")
    if (share := named("accuracy")) and classes:
        return f"network gets {share[0]} of the {on} right"
    if real := named("r2", "mae"):
        label = recorded.about.get("label")
        unit = f"in the unit of {label}" if label else "in labels' units"
        error = f"a mean absolute error of {real[1]}, {unit}"
        return f"network reaches R² {real[0]} and {error}, on {on}"
    return f"{display_name(metric)} is {figure(metric, values.get(metric))}"


def observed(recorded: Recording) -> str:
    """Returns the name of the dataset that was observed during training, such as "test"."""
    return str((recorded.about.get("probe") or {}).get("of") or "")


def leading(names: Collection[str]) -> tuple[str, str]:
    """Returns the headline metric among the metrics, and a secondary one or `""`.

    >>> leading(["accuracy", "loss"]), leading(["loss", "own"]), leading(["own"])
    (('accuracy', 'loss'), ('loss', ''), ('own', ''))
    """
    known = (pair for pair in PAIRS if {*filter(None, pair)} <= {*names})
    return next(known, (min(names, default=""), ""))


def confusion(recorded: Recording) -> np.ndarray | None:
    """Returns the confusion matrix of the final predictions, unless it is missing or empty."""
    counts = recorded.end.get("confusion")
    is_filled = counts is not None and counts.ndim == 2 and counts.sum() > 0
    return counts if is_filled else None


def bits(recorded: Recording, values: Mapping[str, Any], part: str) -> str:
    """Returns the unit of `bits_per_byte`: bits per token, unless the length of tokens is known."""
    perplexity, bits = (
        values.get(f"{part}/{name}", math.nan) for name in ("perplexity", "bits_per_byte")
    )
    real = all(isinstance(each, float) and each > 0 for each in (perplexity, bits))
    if not real or not math.isclose(math.log2(perplexity), bits, rel_tol=1e-3):
        return "bits per byte"
    return f"bits per {token(recorded)}"


def token(recorded: Recording) -> str:
    """Returns the name of a token: "character" if every token is a single character."""
    total = (recorded.about.get("table") or {}).get("total") or {}
    output = total.get("output") or []
    few = isinstance(output, list) and output and output[-1] <= BYTES
    return "character" if few else "token"
