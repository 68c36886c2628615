"""HTML representations of runs and sweeps in notebooks: a sentence, the last metrics, and curves.

They use the colours of the page, light or dark, and escape all text of the run.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn import display
from jaxnn.catalog import outcome, sweeps
from jaxnn.checks import Invalid
from jaxnn.formatting import brief, count, duration
from jaxnn.markup import Markup, element
from jaxnn.pictures._curves import curves
from jaxnn.report.sections import drawn, shortened

# Pictures refer to colours by these names; in a notebook they follow its theme.
_COLOURS = "--ink: currentColor; --faint: currentColor; --grid: rgb(128 128 128 / 0.3)"
SHOWN = 10  # maximum number of rows; `str` and `sweep.json` contain all


def run(
    result: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    out: Path | None,
    members: int | None,
) -> Markup:
    """Returns a run, or a population, as HTML."""
    title = f"{result.get('experiment', 'run')}: "
    title += "" if members is None else f"{count(members, 'network')}, "
    title += count(int(np.max(result.get("steps") or 0)), "step")
    title += f" in {duration(result.get('seconds') or 0.0)}"
    lost = str(result.get("status")).count("diverged")
    title += f", {'' if members is None else f'{lost} '}diverged" if lost else ""
    reached, ends = outcome.outcome(result, history), outcome.last(result)
    best = outcome.STEP in result
    heads = ("metric", *(["best state"] if best else []), "last")
    lines = [
        (name, *([_word(reached.get(name, math.nan))] if best else []), _word(value))
        for name, value in ends.items()
    ]
    if members is not None:
        heads, lines = ("metric", "least", "median", "most"), []
        for name, values in reached.items():
            finite = [x for x in values if x is not None and math.isfinite(x)] or [math.nan]
            lines.append((name, *(_word(float(of(finite))) for of in (np.min, np.median, np.max))))
    table = display.columns(heads, lines)
    return display.block(element("div", title), table, _curves(history), _place(out))


def sweep(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], out: Path) -> Markup:
    """Returns a sweep as HTML: its settings, the best first."""
    metric = str(result.get("metric"))
    names = list(rows[0]) if rows else []
    fields = names[: names.index("seed")] if "seed" in names else []
    runs, seconds = result.get("runs", len(rows)), result.get("seconds", 0.0)
    title = f"{result.get('experiment', 'sweep')}: {count(runs, 'run')} in {duration(seconds)}"
    lower = outcome.is_lower_better(result, metric)
    settings = sweeps.summary(rows, fields, metric, lower) if metric in names else []
    lines = [
        (*map(_word, each.values.values()), _word(each.mean), _word(each.best), each.runs)
        for each in settings[:SHOWN]
    ]
    heads = (*fields, "mean", "best", "runs")
    more = len(settings) - SHOWN
    return display.block(
        element("div", f"{title}; {metric}, best first"),
        display.columns(heads, lines, left=len(fields)),
        element("div", f"and {count(more, 'more setting')}") if more > 0 else None,
        _place(out),
    )


def _place(out: Path | None) -> Markup | None:
    """Returns the path of the report of a run, or of its directory if it has none."""
    page = out and out / "report.html"
    return page and element("div", page if page.exists() else out)


def _curves(history: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Returns the curves of the reports, or nothing if there are none."""
    try:
        figure = curves(shortened(history))
    except Invalid:
        return None
    # Pictures on one page must have distinct ids.
    name = f"curves-{hashlib.sha256(repr(history).encode(errors='replace')).hexdigest()[:10]}"
    picture = drawn(figure, name, "learning curves")
    return element("div", picture, style=f"max-width: 30em; {_COLOURS}")


def _word(value: Any) -> str:
    return "not finite" if value is None or value != value else brief(value)
