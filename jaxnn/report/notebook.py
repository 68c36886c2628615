"""How runs and sweeps show themselves in a notebook: a sentence, the last numbers, and the curves.

In the page's own colours, on light and on dark; nothing that a run says can become markup.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnn import display
from jaxnn.catalog import sweeps
from jaxnn.checks import Invalid
from jaxnn.formatting import brief, count, duration
from jaxnn.markup import Markup, element
from jaxnn.pictures._curves import curves
from jaxnn.report.sections import drawn, shortened

# The names that pictures have for the colours of a page: here they are those of the notebook.
_COLOURS = "--ink: currentColor; --faint: currentColor; --grid: rgb(128 128 128 / 0.3)"
# As many rows as can be taken in at a glance; `str` and `sweep.csv` have them all.
SHOWN = 10


def run(
    result: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    out: Path | None,
    members: int | None,
) -> Markup:
    """Returns a run, or a population, as HTML."""
    steps = result.get("steps")
    steps = max(steps, default=0) if isinstance(steps, list) else steps
    what = f"{count(members, 'network')}, " if members is not None else ""
    summary = f"{what}{count(steps or 0, 'step')} in {duration(result.get('seconds') or 0.0)}"
    lost = str(result.get("status")).count("diverged")
    summary += f", {'diverged' if members is None else f'{lost} diverged'}" if lost else ""
    pieces = [element("div", f"{result.get('experiment', 'run')}: {summary}")]
    metrics = {k: v for k, v in result.items() if "/" in k and not k.startswith("select/")}
    if members is None:
        lines = [(k, _word(v)) for k, v in metrics.items()]
        pieces.append(display.columns(("metric", "last"), lines))
    else:
        lines = [(k, *map(_word, _spread(v))) for k, v in metrics.items()]
        pieces.append(display.columns(("metric", "least", "median", "most"), lines))
    pieces += filter(None, [_curves(history)])
    if out is not None:
        page = out / "report.html"
        pieces.append(element("div", page if page.exists() else out))
    return display.block(*pieces)


def sweep(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], out: Path) -> Markup:
    """Returns a sweep as HTML: its settings, the best first."""
    metric = str(result.get("metric"))
    names = list(rows[0]) if rows else []
    fields = names[: names.index("seed")] if "seed" in names else []
    runs, seconds = result.get("runs", len(rows)), result.get("seconds", 0.0)
    title = f"{result.get('experiment', 'sweep')}: {count(runs, 'run')} in {duration(seconds)}"
    pieces = [element("div", f"{title}; {metric}, best first")]
    settings = sweeps.summary(rows, fields, metric) if metric in names else []
    lines = [
        (*map(_word, each.values.values()), _word(each.mean), _word(each.best), each.runs)
        for each in settings
    ]
    heads = (*fields, "mean", "best", "runs")
    pieces.append(display.columns(heads, lines[:SHOWN], left=len(fields)))
    if len(lines) > SHOWN:
        pieces.append(element("div", f"and {len(lines) - SHOWN} more settings"))
    page = out / "report.html"
    return display.block(*pieces, element("div", page if page.exists() else out))


def _curves(history: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Returns the curves of the reports; nothing where there are none to draw."""
    try:
        figure = curves(shortened(history))
    except Invalid:
        return None
    # Pictures of a page must not share their ids.
    name = f"curves-{hashlib.sha256(repr(history).encode(errors='replace')).hexdigest()[:10]}"
    picture = drawn(figure, name, "learning curves")
    return element("div", picture, style=f"max-width: 30em; {_COLOURS}")


def _spread(values: Any) -> tuple[float, float, float]:
    """Returns the least, the median and the most of what is finite."""
    finite = sorted(each for each in values if each is not None and math.isfinite(each))
    if not finite:
        return math.nan, math.nan, math.nan
    middle = (finite[(len(finite) - 1) // 2] + finite[len(finite) // 2]) / 2
    return finite[0], middle, finite[-1]


def _word(value: Any) -> str:
    return "not finite" if value is None or value != value else brief(value)
