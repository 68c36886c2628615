"""Showing a run while it goes on: its steps, its speed, its loss and its memory.

>>> with shown(total=200) as show:
...     show(50, {"train/loss": 0.75})
...     show(100, {"train/loss": 0.25})                          # doctest: +ELLIPSIS
step 50/200, train/loss 0.75
step 100/200, train/loss 0.25, ... steps/s, 0:00:00 left
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from jaxnn.progress.screen import Moment, screen
from jaxnn.scale.memory import used

Show = Callable[[int, Mapping[str, Any]], None]


@contextmanager
def shown(total: int, *, quiet: bool = False) -> Iterator[Show]:
    """Shows the progress of a run of `total` steps; yields `show(step, metrics)`.

    `metrics` are the last ones known; empty ones leave those shown before. See `screen` for what is
    shown where.
    """
    if quiet:
        yield lambda step, metrics: None
        return
    rate, losses = _Rate(), []
    known: Mapping[str, Any] = {}
    with screen() as draw:

        def show(step, metrics):
            nonlocal known
            if metrics:
                known = metrics
                losses.extend(loss_of([metrics]))
            draw(Moment(step, total, rate(step), known, losses, used, bool(metrics)))

        draw(Moment(0, total, report=False))
        yield show


def loss_of(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Returns the training loss of each row that has one, of a population the mean of the finite.

    >>> loss_of([{"train/loss": 2.0}, {"step": 3}, {"train/loss": [1.0, None, 3.0]}])
    [2.0, 2.0]
    """
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    return [_mean(loss if isinstance(loss, list) else [loss]) for loss in losses]


def _mean(values: Sequence[float | None]) -> float:
    finite = [each for each in values if each is not None and math.isfinite(each)]
    return sum(finite) / len(finite) if finite else math.nan


class _Rate:
    """Steps per second since the first chunk, whose compiling would spoil the figure."""

    def __init__(self):
        self.first: tuple[int, float] | None = None

    def __call__(self, step: int) -> float | None:
        now = time.perf_counter()
        if self.first is None:
            self.first = step, now
        begin, then = self.first
        return (step - begin) / (now - then) if step > begin else None
