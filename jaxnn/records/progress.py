"""Showing a run while it goes on: a bar on a terminal, plain lines elsewhere.

>>> with shown(total=200, quiet=False) as show:
...     show(100, {"train/loss": 0.25})                          # doctest: +ELLIPSIS
step 100/200, train/loss 0.25, ... steps/s, 0:00:00 left
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from jaxnn.metrics import lower_is_better

# Off a terminal a run writes about this many lines, however often it reports.
LINES = 20

Show = Callable[[int, Mapping[str, Any]], None]


@contextmanager
def shown(total: int, *, quiet: bool = False) -> Iterator[Show]:
    """Shows the progress of a run of `total` steps; yields `show(step, metrics)`.

    `metrics` are the last ones known; empty ones leave those shown before.
    """
    if quiet:
        yield lambda step, metrics: None
        return
    # Imported here: a tenth of a second that no library user pays who shows nothing.
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        yield _lines(total)
        return
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    bar = Progress(
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    # Below the bar, since both would not fit in a line of 80 columns.
    words = Text(no_wrap=True, overflow="ellipsis")
    task = bar.add_task("", total=total, rate="")
    rate = _Rate()

    def show(step, metrics):
        bar.update(task, completed=step, rate=f"{rate(step):,.0f} steps/s")
        if metrics:
            words.plain = describe(metrics)

    with Live(Group(bar, words), console=console):
        yield show


def describe(metrics: Mapping[str, Any]) -> str:
    """Returns what a row says of learning: `"train/loss 0.25, test/accuracy 0.981"`.

    That is its metrics, the names with a slash, but for the learning rate; those of a population by
    the mean and the best of its members.
    """
    shown = {k: v for k, v in metrics.items() if "/" in k and not k.endswith("/learning_rate")}
    shown = {k: v for k, v in shown.items() if not k.startswith("select/")}
    running = [f"{metrics['running']} running"] if "running" in metrics else []
    return ", ".join(running + [f"{name} {_figure(name, value)}" for name, value in shown.items()])


def _figure(name: str, value: float | list[float]) -> str:
    """Returns a value, or of a population the mean of its finite values and the best one."""
    if not isinstance(value, list):
        return f"{value:.4g}"
    finite = [figure for figure in value if math.isfinite(figure)] or [math.nan]
    best = (min if lower_is_better(name) else max)(finite)
    return f"{sum(finite) / len(finite):.4g} (best {best:.4g})"


def _lines(total: int) -> Show:
    rate = _Rate()
    state = {"next": 0.0}

    def show(step, metrics):
        if metrics and (step >= state["next"] or step == total):
            state["next"] = step + total / LINES
            speed = rate(step)
            left = timedelta(seconds=round((total - step) / max(speed, 1e-9)))
            print(
                f"step {step}/{total}, {describe(metrics)}, {speed:,.0f} steps/s, {left} left",
                flush=True,
            )

    return show


class _Rate:
    """Steps per second since the first chunk, whose compiling would spoil the figure."""

    def __init__(self):
        self.first = None
        self.began = time.perf_counter()

    def __call__(self, step: int) -> float:
        now = time.perf_counter()
        if self.first is None:
            self.first = (step, now)
            return step / (now - self.began)
        begin, then = self.first
        return (step - begin) / (now - then) if step > begin else step / (now - self.began)
