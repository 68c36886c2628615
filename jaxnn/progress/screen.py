"""Where a run stands, on whatever shows it: a terminal, a notebook, or plain lines.

On a terminal three lines stay in place, as wide as it is at most:

    step 1200/4000 ━━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━━━━━━━━━  2,345 steps/s  0:00:12 left
    train/loss █▇▅▄▄▃▃▂▂▂▁▁▁▁ 0.25  memory 1.2 GB, peak 1.4 GB
    train/accuracy 0.9902, test/loss 0.0911, test/accuracy 0.981

In a notebook it is one line that stays in place, and elsewhere, in a pipe or in the log of a
cluster, a line now and then.

>>> print(line(Moment(100, 200, 50.0, {"train/loss": 0.25})))
step 100/200, train/loss 0.25, 50 steps/s, 0:00:02 left
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from jaxnn.formatting import printable, volume
from jaxnn.metrics import lower_is_better
from jaxnn.progress.sparkline import sparkline
from jaxnn.scale.memory import Used

# Off a terminal a run writes about this many lines, however often it reports.
LINES = 20
# Seconds between two looks at a run: often enough to be alive, seldom enough to cost nothing.
REFRESH = 0.25
# The widest bar and sparkline.
BAR, SPARK = 40, 40


class Moment(NamedTuple):
    """Where a run stands.

    Attributes:
      step: training steps done.
      total: those of the whole run; `None` if that is not known.
      rate: steps per second; `None` if that is not known yet.
      metrics: the last ones known.
      losses: the training losses of the reports so far.
      memory: reads the memory in use, where that can be told.
      report: whether there is something new in `metrics`.
      where: what stands here, if there is more than one run.
    """

    step: int
    total: int | None = None
    rate: float | None = None
    metrics: Mapping[str, Any] = {}
    losses: Sequence[float] = ()
    memory: Callable[[], Used] | None = None
    report: bool = True
    where: str = ""


Draw = Callable[[Moment], None]


@contextmanager
def screen() -> Iterator[Draw]:
    """Opens what there is to draw on, and yields `draw(moment)`."""
    # Imported here: a tenth of a second that no library user pays who shows nothing.
    from rich.console import Console

    console = Console()
    form = _in_lines
    if console.is_jupyter:
        form = _in_notebook
    elif console.is_terminal and not console.is_dumb_terminal:
        form = _on_terminal
    with form(console) as draw:
        yield draw


@contextmanager
def _on_terminal(console: Any) -> Iterator[Draw]:
    from rich.live import Live

    # Drawn by who calls, not by a thread of its own: half a millisecond, four times a second.
    with Live(console=console, auto_refresh=False) as live:

        def draw(moment):
            live.update(_rendered(moment, console.width), refresh=True)

        with _seldom(draw) as rarely:
            yield rarely


@contextmanager
def _in_notebook(console: Any) -> Iterator[Draw]:
    from IPython.display import display  # pyright: ignore[reportMissingImports]

    handle: Any = display({"text/plain": "starting"}, raw=True, display_id=True)

    def draw(moment):
        drawn = (_bar(moment, BAR // 2), sparkline(moment.losses, SPARK // 2), line(moment))
        handle.update({"text/plain": " ".join(filter(None, drawn))}, raw=True)

    with _seldom(draw) as rarely:
        yield rarely


@contextmanager
def _seldom(draw: Draw) -> Iterator[Draw]:
    """Draws at most every `REFRESH` seconds, and at the end what was left out."""
    last, left = -REFRESH, None

    def rarely(moment):
        nonlocal last, left
        if time.monotonic() - last < REFRESH:
            left = moment
            return
        draw(moment)
        last, left = time.monotonic(), None

    try:
        yield rarely
    finally:
        if left is not None:
            draw(left)


@contextmanager
def _in_lines(console: Any) -> Iterator[Draw]:
    due, last, left = 0.0, 0, None

    def draw(moment):
        nonlocal due, last, left
        if not moment.report:
            return
        due = due if moment.step >= last else 0.0  # another run begins
        last, left = moment.step, moment
        if moment.step >= due or moment.step == moment.total:
            due = moment.step + (moment.total or 0) / LINES
            left = None
            print(line(moment), flush=True)

    try:
        yield draw
    finally:
        if left is not None:  # the last report of a run that ended early
            print(line(left), flush=True)


def line(moment: Moment) -> str:
    """Returns a moment in a line of words."""
    told = ", ".join(filter(None, (_step(moment), _words(moment.metrics), *_pace(moment))))
    return f"{_line(moment.where)}: {told}" if moment.where else told


def lines(moment: Moment, width: int) -> tuple[str, str, str]:
    """Returns a moment in three lines of at most so many columns, the last of which is cut."""
    step, pace = _step(moment), "  ".join(_pace(moment))
    if len(step) + len(pace) + 2 > width:
        pace = next((each for each in _pace(moment) if len(step) + len(each) + 2 <= width), "")
    room = min(BAR, width - len(step) - len(pace) - 3)
    bar = _bar(moment, room) if room >= 4 else ""
    first = " ".join(filter(None, (step, bar, pace and f" {pace}")))
    memory = _memory(moment)
    others = len(_spark(moment, 0)) + len(memory) + 2
    if others + SPARK // 4 > width:  # better a loss than memory
        memory, others = "", len(_spark(moment, 0))
    second = "  ".join(filter(None, (_spark(moment, min(SPARK, width - others)), memory)))
    # What the sparkline says already is not said twice.
    told = {"train/loss"} if moment.losses else set()
    rest = {name: value for name, value in moment.metrics.items() if name not in told}
    return first[:width], second[:width], _words(rest)


def _rendered(moment: Moment, width: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    drawn = [Text(each, no_wrap=True, overflow="ellipsis") for each in lines(moment, width)]
    drawn[0].highlight_regex(r"━+╸?", "green")
    drawn[0].highlight_regex(r"╌+", "dim")
    drawn[1].highlight_regex(r"[▁▂▃▄▅▆▇█]+", "cyan")
    drawn[1].highlight_regex(r"✗+", "bold red")
    where = Text(_line(moment.where), style="bold", no_wrap=True, overflow="ellipsis")
    return Group(*[each for each in (where, *drawn) if each.plain])


def _step(moment: Moment) -> str:
    return f"step {moment.step}" + (f"/{moment.total}" if moment.total is not None else "")


def _pace(moment: Moment) -> list[str]:
    """Returns the rate and the time left, as far as they are known."""
    if not moment.rate or moment.rate <= 0:
        return []
    rate = f"{moment.rate:,.0f} steps/s" if moment.rate >= 10 else f"{moment.rate:.2g} steps/s"
    seconds = ((moment.total or 0) - moment.step) / moment.rate
    known = moment.total is not None and 0 <= seconds < 1e10
    return [rate, f"{timedelta(seconds=round(seconds))} left"] if known else [rate]


def _bar(moment: Moment, width: int) -> str:
    if not moment.total:
        return ""
    done = min(1.0, moment.step / moment.total) * width
    return ("━" * int(done) + "╸" * (done % 1 >= 0.5)).ljust(width, "╌")


def _spark(moment: Moment, width: int) -> str:
    """Returns how the training loss went, so many blocks, and where it is."""
    if not moment.losses:
        return ""
    last = {name: moment.metrics[name] for name in ("train/loss",) if name in moment.metrics}
    value = _words(last).removeprefix("train/loss ")
    return f"train/loss {sparkline(moment.losses, width)} {value}".rstrip()


def _memory(moment: Moment) -> str:
    used = moment.memory() if moment.memory else None
    told = [] if used is None or used.now is None else [f"memory {volume(used.now)}"]
    told += [] if used is None or used.peak is None else [f"peak {volume(used.peak)}"]
    return ("device " if used and used.of == "device" and told else "") + ", ".join(told)


def _words(metrics: Mapping[str, Any]) -> str:
    # On one line, and nothing that steers a terminal: a run may be a stranger's.
    return _line(describe(metrics))


def _line(text: str) -> str:
    return printable(text).replace("\n", " ")


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
