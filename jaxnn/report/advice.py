"""Detects problems of a run, and advises what to do about them.

Each rule reads a `Source` and yields `Advice` if it applies. The thresholds are chosen so that a
good run receives no advice.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxnn.catalog.failures import reports
from jaxnn.checks import Explained
from jaxnn.formatting import count
from jaxnn.markup import cut
from jaxnn.report.phrases import BLANK, display_name, examples_of, figure, listed, percent, spaced
from jaxnn.report.sections import under
from jaxnn.report.source import Source

OVERFIT = 0.20  # relative increase of a held-out loss above its minimum
PARTED = 2.0  # ratio of the held-out loss to the training loss, if their curves diverge
GAP = 0.10  # difference between the accuracies on training and held-out examples
DEAD = 0.10  # fraction of the nodes of a layer that are inactive
WAITING = 0.05  # fraction of the time that devices wait for data
FLAT = 0.01  # relative decrease of a loss in the last third


class Advice(NamedTuple):
    """A problem of a run: a short title, the evidence, and a remedy."""

    title: str
    what: str
    do: str


def advice(source: Source) -> list[Advice]:
    """Returns all advice about a run, the most important first."""
    return [each for rule in RULES for each in rule(source)]


def otherwise(source: Source) -> str:
    """Returns a summary for a single run without advice."""
    parts = _held_out(source)
    calm = "Nothing: every number that was reported is finite."
    if not parts:
        return f"{calm} No examples were held out, so its performance on other examples is unknown."
    seen, other = (source.last.get(f"{part}/loss") for part in ("train", parts[0]))
    if not isinstance(seen, float) or not isinstance(other, float):
        return calm
    at, values = source.series(f"{parts[0]}/loss")
    calm += f" At the end, the {display_name('train/loss')} is {figure('loss', seen)}, and that on"
    calm += f" {examples_of(parts[0])} {figure('loss', other)}"
    if len(values) and values.min() < other:
        lowest = figure("loss", float(values.min()))
        calm += f" (lowest at step {at[values.argmin()]:,}, {lowest})"
    if other > PARTED * seen > 0:
        calm += ": it knows the examples that it trained on better than others"
    rise = f"{100 * OVERFIT:.0f}{BLANK}%"
    return f"{calm}. A rise of the second by {rise} while the first falls is called over-fitting."


def _held_out(source: Source) -> list[str]:
    """Returns the evaluation datasets for which a loss was reported."""
    parts = [name.partition("/")[0] for name in source.contents.last if name.endswith("/loss")]
    return [part for part in parts if part != "train"]


def _corrupt(source: Source) -> Iterator[Advice]:
    for name, words in {**source.contents.errors, **source.errors}.items():
        yield Advice(
            f"{name} is corrupt",
            words,
            "What it held is missing on this page. python -m jaxnn verify"
            f" {cut(source.contents.path)} checks every file.",
        )


def _diverged(source: Source) -> Iterator[Advice]:
    if source.many:
        lost = [row for row in source.table if row.get("status") == "diverged"]
        if lost:
            of = f"{len(lost)} of {len(source.table)}"
            yield Advice(
                f"{of} networks diverged",
                "Their loss grew until it was no longer finite. They are left out of the means.",
                "Steps were too large: try lower learning rates, or clip the gradients.",
            )
    elif source.diverged:
        try:
            steps = [each.get("step") for each in reports(source.contents.path)[:1]]
        except Explained:  # the file is corrupt, which `diagnose` reports
            steps = []
        began = "".join(f" It began in step {n:,}." for n in steps if isinstance(n, int))
        yield Advice(
            "The training diverged",
            f"At training step {source.step:,} the loss was infinite or not a number.{began}",
            "The steps were most likely too large: lower the learning rate, or clip the gradients."
            f" python -m jaxnn diagnose {cut(source.contents.path)} says which step, which examples"
            " and which operation.",
        )


def _skipped(source: Source) -> Iterator[Advice]:
    at, values = source.series("train/skipped")
    share = float(np.nanmean(values)) if len(values) and np.isfinite(values).any() else 0.0
    if share > 0:
        yield Advice(
            f"{percent(share)} of the training steps were skipped",
            "Their loss or their gradient was not finite, so they changed nothing.",
            "A few do no harm. If there are many, lower the learning rate or look at the data.",
        )
    others = [name for name in source.contents.last if name != "train/skipped"]
    gaps = [name for name in others if np.isnan(source.series(name)[1]).any()]
    if gaps and source.contents.status != "diverged":
        yield Advice(
            "Some numbers were not finite",
            f"At times {listed([display_name(name) for name in gaps[:4]])} could not be computed:"
            " the curves have gaps there.",
            "Look for divisions and logarithms, or lower the learning rate.",
        )


def _overfitting(source: Source) -> Iterator[Advice]:
    _, trained = source.series("train/loss")
    for part in _held_out(source):
        at, values = source.series(f"{part}/loss")
        if len(values) < 4 or not np.isfinite(values).all():
            continue
        lowest = int(np.argmin(values))
        low, last = values[lowest], float(np.mean(values[-2:]))
        # Compares the training loss at the same reports.
        falls = len(trained) == len(values) and trained[-1] < trained[lowest]
        if falls and low > 0 and last > low * (1 + OVERFIT) and lowest < len(values) - 2:
            yield Advice(
                "It over-fits: it learns its training examples by heart",
                f"The loss on {examples_of(part)} was lowest at step {at[lowest]:,}"
                f" ({figure('loss', low)}), and rose to {figure('loss', last)}, while that on"
                " training examples continued to fall.",
                "Stop where it was lowest (watch=), train on more or altered examples, or hold the"
                " network back: more dropout, weight decay, fewer nodes.",
            )
            return
        seen, other = (source.outcome.get(f"{p}/accuracy") for p in ("train", part))
        if isinstance(seen, float) and isinstance(other, float) and seen - other > GAP:
            yield Advice(
                "It does much better on what it was trained on",
                f"It gets {percent(seen)} of the training examples right, and {percent(other)} of"
                f" the {examples_of(part)}.",
                "More or altered examples help most; then more dropout, weight decay, fewer nodes.",
            )
            return


def _dead(source: Source) -> Iterator[Advice]:
    if source.diverged:
        return  # divergence explains dead nodes
    dead = [
        f"{percent(float(share))} of the nodes of {spaced(name)}"
        for frame in source.recorded.frames[-1:]
        for name, share in under(frame, "quiet/").items()
        if share.ndim == 0 and share >= DEAD
    ]
    if dead:
        yield Advice(
            "Some nodes do nothing",
            f"{listed(dead[:4])} gave 0 for every observed example. No gradient reaches such nodes:"
            " they cannot learn.",
            "With a lower learning rate fewer of them die; with an activation that is nowhere flat,"
            " such as gelu, none do; or the layer needs fewer nodes.",
        )


def _plateau(source: Source) -> Iterator[Advice]:
    at, values = source.series("train/loss")
    if len(values) < 9 or not np.isfinite(values).all():
        return
    third = len(values) // 3
    thirds = values[:third], values[third : 2 * third], values[-third:]
    first, middle, last = (float(each.mean()) for each in thirds)
    if first > 0 and last > first * (1 - FLAT):
        yield Advice(
            "It has hardly learned",
            f"The loss on training examples was {figure('loss', float(values[0]))} at the first"
            f" report, and {figure('loss', float(values[-1]))} at the last.",
            "Try learning rates ten times higher and lower, as a sweep does at once, and check that"
            " the inputs have mean 0 and standard deviation 1, and that each label belongs to its"
            " input.",
        )
    elif middle > 0 and abs(middle - last) < FLAT * middle:
        yield Advice(
            "The last third changed nothing",
            f"Since step {at[-third]:,} the loss on training examples has stayed at about"
            f" {figure('loss', last)}.",
            "If that is good enough, train for fewer steps. If not, try another learning rate, or a"
            " larger network.",
        )


def _edge(source: Source) -> Iterator[Advice]:
    if not source.fields or not source.metric:
        return
    best = source.settings[0]
    for name, value in best.values.items():
        tried = {row[name] for row in source.table}
        if len(tried) < 3 or not all(isinstance(v, int | float) for v in tried):
            continue
        low, high = min(tried), max(tried)
        if value in (low, high) and math.isfinite(best.mean):
            side, beyond = ("lowest", "lower") if value == low else ("highest", "higher")
            yield Advice(
                f"The best {spaced(name)} is at the edge of the sweep",
                f"It is {figure(name, value)}, the {side} of {len(tried)} that were tried.",
                f"A {beyond} one may be better still: sweep further in that direction.",
            )


def _ended(source: Source) -> Iterator[Advice]:
    status = source.contents.status
    if status == "interrupted":
        planned = f" of {source.steps:,}" if source.steps else ""
        yield Advice(
            "It was interrupted before its end",
            f"It reached step {source.step:,}{planned}.",
            "Run the same command again: it resumes from the newest checkpoint.",
        )
    elif source.result.get("status") == "stopped":
        metric = source.contents.watch.get("metric")
        what = f"the {display_name(metric)}" if isinstance(metric, str) else "what was watched"
        yield Advice(
            "It stopped early, as it was asked to",
            f"After {count(source.step, 'training step')} {what} had not improved for a while.",
            "The best state is saved: predict uses it. To train longer, raise Watch(patience=...).",
        )


def _waiting(source: Source) -> Iterator[Advice]:
    speed = source.contents.speed
    share, skipped = speed.get("data_wait_share"), speed.get("examples_skipped")
    if isinstance(share, float) and share > WAITING:
        yield Advice(
            f"It waited for data {percent(share)} of the time",
            "The devices had nothing to do because the next examples had not been read yet.",
            "Read with more threads (workers= of stream), further ahead (ahead=), or do what read="
            " does once and for all: python -m jaxnn pack writes decoded examples to a file. Files"
            " on a network are read faster from a copy on a local disk.",
        )
    if isinstance(skipped, int) and skipped > 0:
        yield Advice(
            f"{count(skipped, 'example')} could not be read",
            "What cannot be read is counted and left out, as on_error='skip' asks.",
            "With on_error='raise' the run stops at the first one and names its file.",
        )


RULES = (_corrupt, _diverged, _ended, _skipped, _waiting, _overfitting, _plateau, _dead, _edge)
