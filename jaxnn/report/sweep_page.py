"""The page of many networks: which setting was best, and how much seeds matter."""

import math
from typing import Any

import numpy as np

from jaxnn.metrics import lower_is_better
from jaxnn.pictures.curves import curves
from jaxnn.pictures.sweep import sweep
from jaxnn.records import sweeps
from jaxnn.report.drawn import drawn, lettered, shortened
from jaxnn.report.markup import Markup, element, join, quoted, table
from jaxnn.report.phrases import figure, listed, spaced, told, value_of
from jaxnn.report.sections import Section
from jaxnn.report.source import Source
from jaxnn.report.story import ranked, setting_words, settings

CURVES = 5  # settings whose curves are drawn, the best
SHOWN = 50  # rows of a table; all of them are in sweep.csv


def sections(source: Source) -> list[Section]:
    """Returns the sections of a sweep, or of a population."""
    metric = ranked(source) or ""
    many = bool(source.fields)
    return [
        Section(
            "map",
            "What was tried, and how well it did",
            "Every cell is a setting; the brighter, the better. The ring marks the best.",
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
    best = settings(source)[0]
    caption = join(
        "The best of them: ",
        element("b", quoted(setting_words(best.values))),
        f", with {told(metric)} {figure(metric, best.mean)}.",
    )
    return drawn(sweep(columns, values, metric), "map-picture", f"{told(metric)}", caption)


def _ranking(source: Source, metric: str) -> Markup:
    rows = []
    found = settings(source)
    diverged = any(each.diverged for each in found)
    for place, each in enumerate(found[:SHOWN], 1):
        cells = [quoted(sweeps.word(value)) for value in each.values.values()]
        figures = [value_of(metric, value) for value in (each.mean, each.best)]
        spread = value_of(metric, each.deviation) if np.isfinite(each.deviation) else ""
        lost = [each.diverged] if diverged else []
        rows.append([str(place), *cells, figures[0], spread, figures[1], each.runs, *lost])
    fields = [quoted(spaced(name)) for name in source.fields]
    heads = ["place", *fields, "mean", "deviation", "best", "networks"]
    heads += ["diverged"] if diverged else []
    return join(table(f"Settings by their {told(metric)}", heads, rows), _more(len(found)))


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
            *[quoted(sweeps.word(row[name])) for name in (*source.fields, "seed", "status")],
            *[value_of(name, row[name]) for name in names],
        ]
        for place, row in enumerate(order[:SHOWN], 1)
    ]
    fields = [quoted(spaced(name)) for name in source.fields]
    heads = ["place", *fields, "seed", "status", *[told(name) for name in names]]
    return join(table("Networks, the best first", heads, rows), _more(len(order)))


def _folded(source: Source, metric: str) -> Markup:
    words = f"Show the {min(SHOWN, len(source.table))} best of {len(source.table)} networks"
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
    found: dict[str, list[dict[str, Any]]] = {}
    for setting in settings(source)[:CURVES]:
        for rows, places in source.groups:
            mine = [i for i, at in enumerate(places) if _is(source.table[at], setting.values)]
            if mine:
                name = ", ".join(sweeps.word(value) for value in setting.values.values())
                found[lettered(name)] = shortened([_only(row, mine) for row in rows])
    names = listed([spaced(name) for name in source.fields])
    caption = f"The {len(found)} best settings; a line is named by its {names}."
    title = "How the metrics of the best settings went"
    return drawn(curves(found), "curves-picture", title, caption) if found else None


def _is(row: dict[str, Any], values: dict[str, Any]) -> bool:
    return all(row[name] == value for name, value in values.items())


def _only(row: dict[str, Any], members: list[int]) -> dict[str, Any]:
    """Returns a report of some of the members of a population."""
    return {
        name: [value[i] for i in members] if isinstance(value, list) else value
        for name, value in row.items()
        if "/" in name or name in ("step", "epoch", "seconds")
    }
