"""The page of many networks: which setting was best, and how much seeds matter."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxnn.formatting import brief
from jaxnn.markup import Markup, element, join, quoted, table
from jaxnn.metrics import lower_is_better
from jaxnn.pictures._curves import curves
from jaxnn.pictures._sweep import sweep
from jaxnn.report.phrases import display_name, figure, listed, spaced, value_of
from jaxnn.report.sections import Section, drawn, lettered, shortened
from jaxnn.report.source import Source
from jaxnn.report.story import ranked, setting_words, settings

CURVES = 5  # settings whose curves are drawn, the best
SHOWN = 50  # rows of a table; all of them are in sweep.csv


def sections(source: Source) -> list[Section]:
    """Returns the sections of a sweep or a population."""
    metric = ranked(source) or ""
    many = bool(source.fields)
    return [
        Section(
            "map",
            "What was tried, and how well it did",
            f"{_cells(source)} The brighter, the better; the ring marks the best.",
            lambda: _map(source, metric) if many else None,
        ),
        Section(
            "ranking",
            "The settings, best first" if many else "The networks, best first",
            "A hyper-parameter is what people set before training. Means are over seeds: the same"
            " network, begun from other random weights; a difference that is smaller than the"
            " deviation is chance."
            if many
            else "They differ in their seeds alone, the random numbers that they began with: how"
            " far they lie apart is what chance does.",
            lambda: _ranking(source, metric) if many else _members(source, metric),
        ),
        Section(
            "curves",
            "How the training went",
            "Each line is the middle of the networks of a setting, and its band goes from the worst"
            " of them to the best; held-out examples are those that no network trains on."
            if many
            else "The line is the middle of all networks, and the band goes from the worst to the"
            " best; held-out examples are those that no network trains on.",
            lambda: _curves(source),
        ),
        Section(
            "runs",
            "Every network",
            "One row for each network that was trained, the best first.",
            lambda: _folded(source, metric) if many else None,
        ),
    ]


def _map(source: Source, metric: str) -> Markup:
    lost = [row["status"] == "diverged" for row in source.table]
    values = [math.nan if gone else row[metric] for gone, row in zip(lost, source.table)]
    names = [*source.fields, "seed"]
    columns = {name: [row[name] for row in source.table] for name in names}
    caption = join(*[element("p", line) for line in _best(source, metric)])
    return drawn(sweep(columns, values, metric), "map-picture", f"{display_name(metric)}", caption)


def _cells(source: Source) -> str:
    """Returns what a cell, or a point, of the map is: the mean of what its two axes leave."""
    names = [*source.fields, "seed"]
    varied = [name for name in names if len({row[name] for row in source.table}) > 1] or names[:1]
    axes = varied[:2]
    count = len({tuple(row[name] for name in axes) for row in source.table})
    full = math.prod(len({row[name] for row in source.table}) for name in axes)
    cell = "Every cell is" if count == full else "Every point is"
    if count == len(source.table):
        return f"{cell} one network."
    if {*varied} - {*axes} <= {"seed"}:
        return f"{cell} a setting, the mean of its networks."
    words = listed([spaced(name) for name in axes])
    return f"{cell} the mean of all networks of the same {words}."


def _best(source: Source, metric: str) -> Iterator[Markup]:
    """Yields which setting is the best on average, and which network by itself."""
    best = settings(source)[0]
    count = best.runs - best.diverged
    average = f" on average of {count} networks" if count > 1 else ""
    words = element("b", quoted(setting_words(best.values)))
    reached = f"{display_name(metric)} {figure(metric, best.mean)}"
    yield join("The best setting: ", words, f", with {reached}{average}.")
    rows = [row for row in source.table if row["status"] != "diverged"]
    rows = [row for row in rows if math.isfinite(row[metric])]
    if len(rows) > 1 and len(settings(source)) < len(source.table):
        row = (min if lower_is_better(metric) else max)(rows, key=lambda row: row[metric])
        which = quoted(setting_words({name: row[name] for name in (*source.fields, "seed")}))
        yield join("The best single network: ", figure(metric, row[metric]), ", of ", which, ".")


def _ranking(source: Source, metric: str) -> Markup:
    rows = []
    ranking = settings(source)
    diverged = any(each.diverged for each in ranking)
    for place, each in enumerate(ranking[:SHOWN], 1):
        cells = [quoted(brief(value)) for value in each.values.values()]
        figures = [value_of(metric, value) for value in (each.mean, each.best)]
        spread = value_of(metric, each.deviation) if np.isfinite(each.deviation) else ""
        lost = [each.diverged] if diverged else []
        rows.append([str(place), *cells, figures[0], spread, figures[1], each.runs, *lost])
    fields = [quoted(spaced(name)) for name in source.fields]
    heads = ["place", *fields, "mean", "deviation", "best network", "networks"]
    heads += ["diverged"] if diverged else []
    return join(
        table(f"Settings by their {display_name(metric)}", heads, rows), _more(len(ranking))
    )


def _members(source: Source, metric: str) -> Markup:
    sign = 1.0 if lower_is_better(metric) else -1.0
    order = sorted(
        source.table,
        key=lambda row: (row["status"] == "diverged", math.isnan(row[metric]), sign * row[metric]),
    )
    names = [n for n in source.table[0] if "/" in n and not n.startswith("best/")]
    names = [n for n in ([metric] if metric in names else []) + [x for x in names if x != metric]]
    rows = [
        [
            str(place),
            *[quoted(brief(row[name])) for name in (*source.fields, "seed", "status")],
            *[value_of(name, row[name]) for name in names],
        ]
        for place, row in enumerate(order[:SHOWN], 1)
    ]
    fields = [quoted(spaced(name)) for name in source.fields]
    heads = ["place", *fields, "seed", "status", *[display_name(name) for name in names]]
    return join(table("Networks, the best first", heads, rows), _more(len(order)))


def _folded(source: Source, metric: str) -> Markup:
    count = len(source.table)
    words = (
        f"Show the {SHOWN} best of {count} networks"
        if count > SHOWN
        else f"Show all {count} networks"
    )
    return element("details", element("summary", words), _members(source, metric))


def _more(count: int) -> Markup | None:
    return element("p", f"And {count - SHOWN:,} more.", class_="more") if count > SHOWN else None


def _curves(source: Source) -> Markup | None:
    if not source.fields:
        rows = source.groups[0][0] if len(source.groups) == 1 else []
        return (
            drawn(curves(shortened(rows)), "curves-picture", "How the metrics went")
            if rows
            else None
        )
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for setting in settings(source)[:CURVES]:
        for rows, places in source.groups:
            mine = [i for i, at in enumerate(places) if _is(source.table[at], setting.values)]
            if mine:
                name = ", ".join(brief(value) for value in setting.values.values())
                if len(setting.values) == 1:  # else it would stand beside its metric bare
                    name = f"{spaced(source.fields[0]).split()[-1]} {name}"
                rows_of[lettered(name)] = shortened([_only(row, mine) for row in rows])
    names = listed([spaced(name) for name in source.fields])
    which = "All" if len(rows_of) == len(settings(source)) else f"The {len(rows_of)} best"
    caption = f"{which} settings; a line is named by its {names}."
    title = "How the metrics of the best settings went"
    return drawn(curves(rows_of), "curves-picture", title, caption) if rows_of else None


def _is(row: dict[str, Any], values: dict[str, Any]) -> bool:
    return all(row[name] == value for name, value in values.items())


def _only(row: dict[str, Any], members: list[int]) -> dict[str, Any]:
    """Returns a report of some members."""
    return {
        name: [value[i] for i in members] if isinstance(value, list) else value
        for name, value in row.items()
        if "/" in name or name in ("step", "epoch", "seconds")
    }
