"""The progress display of a run, in a terminal, in a notebook, or as plain lines.

In a terminal, and in a notebook with ipywidgets, rich updates the display in place:

    step 1200/4000 ━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━━━ 2,345 steps/s, 0:00:01 left
    train/loss 0.25, test/accuracy 0.981
    loss █▆▅▄▃▂▂▁▁, memory 1.2 GB, peak 1.4 GB

Elsewhere, in a pipe or the log of a cluster, it prints a line from time to time:

>>> with shown(total=200, rate=lambda: 50.0) as show:
...     show(100, {"train/loss": 0.25})
compiling
step 100/200, train/loss 0.25, 50 steps/s, 0:00:02 left
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from jaxnn.formatting import amount, printable
from jaxnn.metrics import lower_is_better
from jaxnn.scale.memory import Used, used

NOTED = 0.02  # the minimum share of time waiting for data that is shown
LINES = 20  # the approximate number of lines that a run prints outside of a terminal
BLOCKS, WIDTH = "▁▂▃▄▅▆▇█", 20  # the characters and the width of a sparkline


class Moment(NamedTuple):
    """The progress of a run at one time; `None` for values that are unknown.

    Attributes:
      step: the number of completed steps.
      total: the planned number of steps.
      rate: the speed in steps per second.
      metrics: the last reported metrics, by name.
      memory: a function that returns the memory in use.
      report: whether the metrics are new.
      name: the name of the run, if there are several.
      waiting: the fraction of time that devices wait for data.
    """

    step: int
    total: int | None = None
    rate: float | None = None
    metrics: Mapping[str, Any] = {}
    memory: Callable[[], Used] | None = None
    report: bool = True
    name: str = ""
    waiting: float | None = None


Draw = Callable[[Moment], None]


@contextmanager
def shown(
    total: int,
    *,
    rate: Callable[[], float | None],
    waiting: Callable[[], float | None] = lambda: None,
    quiet: bool = False,
) -> Iterator[Callable[[int, Mapping[str, Any]], None]]:
    """Shows the progress of a run; yields `show(step, metrics)`.

    Args:
      total: the number of steps.
      rate: a function that returns the steps per second, or `None` if they are not known yet.
      waiting: a function that returns the fraction of time that devices wait for data.
      quiet: if true, nothing is shown.

    If `show` receives empty metrics, the previous metrics remain visible.
    """
    if quiet:
        yield lambda step, metrics: None
        return
    known: Mapping[str, Any] = {}
    with screen() as draw:

        def show(step, metrics):
            nonlocal known
            known = metrics or known
            moment = Moment(step, total, rate(), known, used, bool(metrics), waiting=waiting())
            draw(moment)

        draw(Moment(0, total, report=False))
        yield show


@contextmanager
def screen() -> Iterator[Draw]:
    """Opens the display, and yields `draw(moment)`."""
    # Imported here, since the import takes 0.1 s, which runs without a display avoid.
    from rich.console import Console

    console = Console()
    widgets = console.is_jupyter and find_spec("ipywidgets") is not None
    in_place = widgets or (console.is_terminal and not console.is_dumb_terminal)
    with (_in_place if in_place else _in_lines)(console) as draw:
        yield draw


@contextmanager
def _in_place(console: Any) -> Iterator[Draw]:
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    left = TextColumn("{task.fields[step]}", markup=False)
    right = TextColumn("{task.fields[pace]}", markup=False)
    bar = Progress(left, BarColumn(), right, console=console)
    task = bar.add_task("", step="", pace="")
    words = Text(no_wrap=True, overflow="crop")
    losses: deque[float] = deque(maxlen=WIDTH)

    def draw(moment):
        if moment.report:
            losses.extend(_loss(moment.metrics))
        line = "" if console.options.ascii_only or len(losses) < 2 else f"loss {sparkline(losses)}"
        step = _words(console, _step(moment))
        pace = _words(console, *_pace(moment)) or ("" if moment.step else "compiling")
        bar.update(task, completed=moment.step, total=moment.total, step=step, pace=pace)
        metrics, more = describe(moment.metrics), _words(console, line, *_memory(moment))
        words.plain = "\n".join(filter(None, [_words(console, metrics), more]))

    with Live(Group(bar, words), console=console, refresh_per_second=4):
        yield draw


@contextmanager
def _in_lines(console: Any) -> Iterator[Draw]:
    last: int | None = None
    skipped: Moment | None = None

    def draw(moment, ends=False):
        nonlocal last, skipped
        skipped = moment if moment.report else skipped
        gap = (moment.total or 0) / LINES
        due = last in (None, -1) or not last <= moment.step < last + gap
        due = due or moment.step == moment.total
        if last is None and not (moment.step or moment.report):
            print("compiling", flush=True)
            last = -1
        if moment.report and (due or ends):
            last, skipped = moment.step, None
            words = _step(moment), describe(moment.metrics), *_pace(moment)
            print(_words(console, *words), flush=True)

    try:
        yield draw
    finally:
        if skipped is not None:  # the last report of a run that ended early
            draw(skipped, ends=True)


def _step(moment: Moment) -> str:
    step = f"step {moment.step}" + (f"/{moment.total}" if moment.total is not None else "")
    return f"{moment.name}: {step}" if moment.name else step


def _pace(moment: Moment) -> list[str]:
    """Returns the rate, the remaining time and the wait for data, if they are known."""
    if not moment.rate or moment.rate <= 0:
        return []
    share = moment.waiting or 0.0
    waiting = [f"waiting for data {share:.0%}"] if share >= NOTED else []
    rate = f"{moment.rate:,.0f} steps/s" if moment.rate >= 10 else f"{moment.rate:.2g} steps/s"
    seconds = ((moment.total or 0) - moment.step) / moment.rate
    known = moment.total is not None and 0 <= seconds < 1e10
    left = [f"{timedelta(seconds=round(seconds))} left"] if known else []
    return [rate, *left, *waiting]


def _memory(moment: Moment) -> list[str]:
    """Returns the memory in use and its peak, if they are known."""
    now, peak, of = moment.memory() if moment.memory else (None, None, "")
    name = "device memory" if of == "device" else "memory"
    return [f"{n} {amount(v, 'B')}" for n, v in ((name, now), ("peak", peak)) if v is not None]


def _loss(metrics: Mapping[str, Any]) -> list[float]:
    """Returns the loss of a report, preferably the training loss; for a population, its mean."""
    losses = [metrics[n] for n in ("train/loss", *metrics) if n.endswith("/loss") and n in metrics]
    return [_spread("loss", value)[0] if isinstance(value, list) else value for value in losses[:1]]


def sparkline(values: Iterable[float]) -> str:
    """Returns a sparkline with a character for each value; wide ranges have a log scale.

    >>> sparkline([4.0, 3.0, math.nan, 1.0]), sparkline([1000.0, 100.0, 10.0, 1.0])
    ('█▆✗▁', '█▆▃▁')
    """
    heights = np.array([*values], float)
    finite = np.isfinite(heights)
    letters, known = np.full(len(heights), "✗"), heights[finite]
    if known.size:
        known = np.log(known) if known.max() > 20 * known.min() > 0 else known
        share = (known - known.min()) / (np.ptp(known) or 1.0)
        letters[finite] = np.array([*BLOCKS])[np.round(share * (len(BLOCKS) - 1)).astype(int)]
    return "".join(letters)


def _words(console: Any, *parts: str) -> str:
    """Joins non-empty parts on one line, in characters that the console supports."""
    # The text of a run is not trusted: control characters are removed.
    text = printable(", ".join(filter(None, parts))).replace("\n", " ")
    return text.encode(console.encoding, "replace").decode(console.encoding)


def describe(metrics: Mapping[str, Any]) -> str:
    """Returns the metrics of a row as text: `"train/loss 0.25, test/accuracy 0.981"`.

    Metrics are names with a slash, except the learning rate. For a population, the text contains
    the numbers of running and stopped members, and the mean and the best value of each metric.
    """
    words, members, running = [], 0, metrics.get("running")
    for name, value in metrics.items():
        if "/" not in name or name.endswith("/learning_rate") or name.startswith("select/"):
            continue
        if isinstance(value, list):
            members = max(members, len(value))
            words.append("{} {:.4g} (best {:.4g})".format(name, *_spread(name, value)))
        else:
            words.append(f"{name} {value:.4g}")
    if running is not None:
        stopped = [f"{members - running} stopped"] if members > running else []
        words = [f"{running} running", *stopped, *words]
    return ", ".join(words)


def _spread(name: str, values: list[float]) -> tuple[float, float]:
    """Returns the mean and the best of the finite values of all members."""
    finite = [figure for figure in values if math.isfinite(figure)] or [math.nan]
    return sum(finite) / len(finite), (min if lower_is_better(name) else max)(finite)
