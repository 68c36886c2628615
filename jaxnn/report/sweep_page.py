"""The sections about many networks: the best setting, and the variation over seeds."""

import math
from typing import Any

import numpy as np

from jaxnn.catalog import sweeps
from jaxnn.formatting import brief
from jaxnn.markup import Markup, cut, element, folded, join, quoted, table
from jaxnn.pictures._curves import curves
from jaxnn.pictures._sweep import sweep
from jaxnn.report import results
from jaxnn.report.description import alone, code
from jaxnn.report.phrases import display_name, figure, listed, setting_words, spaced, value_of
from jaxnn.report.sections import Section, drawn, section, shortened
from jaxnn.report.source import Source
from jaxnn.storage import command as commands

CURVES = 5  # number of best settings whose curves are drawn
SHOWN = 50  # maximum number of rows in a table; sweep.json contains all


def sections(source: Source) -> list[Section]:
    """Returns the sections for a sweep, or for networks that differ only in their seeds."""
    if not source.fields:
        return [_networks, _bands]
    tried = _map._replace(lead=f"{_cells(source)} {_map.lead}")
    return [_winner, *results.PREDICTIONS, tried, _ranking, _curves, _runs]


@section("winner", "The best setting")
def _winner(source: Source) -> Markup | None:
    """The hyper-parameters that are best on average. The sections about a network show the best one
    with these hyper-parameters.
    """
    metric, best, first = source.metric, source.settings[0], source.ranked[0]
    count, names = best.runs - best.diverged, (*source.fields, "seed")
    average = f" on average over {count} networks" if count > 1 else ""
    words = element("b", quoted(setting_words(best.values)))
    reached = f"{display_name(metric)} {figure(metric, best.mean)}"
    lines = [join("The best setting: ", words, f", with {reached}{average}.")]
    if len(source.settings) < len(source.table) and math.isfinite(source.value(first)):
        which = quoted(setting_words({name: first[name] for name in names}))
        value = figure(metric, source.value(first))
        lines.append(join("The best single network: ", value, ", of ", which, "."))
    row = source.table[sweeps.best_row(source.table, source.fields, metric, source.lower_is_better)]
    command = alone(commands.read(source.contents.path), {name: row[name] for name in names})
    return join(
        *[element("p", line) for line in lines],
        command and element("p", "Trained alone, with a page of its own:"),
        command and code(cut(command, 2000), "The command that trains the best network alone"),
    )


@section("map", "Results of all settings")
def _map(source: Source) -> Markup:
    """Brighter is better; the ring marks the best."""
    values = [
        math.nan if row["status"] == "diverged" else source.value(row) for row in source.table
    ]
    columns = {name: [row[name] for row in source.table] for name in (*source.fields, "seed")}
    name = display_name(source.metric)
    return drawn(sweep(columns, values, name, source.lower_is_better), "map-picture", name)


def _cells(source: Source) -> str:
    """Describes the cells of the map: means over all fields that are not on an axis."""
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


@section("ranking", "The settings, best first")
def _ranking(source: Source) -> Markup:
    """People set hyper-parameters before training. Means are over seeds: the same network, trained
    from different random weights. A difference smaller than the standard deviation may be chance.
    """
    metric, ranking = source.metric, source.settings
    diverged = any(each.diverged for each in ranking)
    heads = [
        f"mean {spaced(metric.rpartition('/')[2])}",
        "deviation",
        "best network",
        "networks",
        *["diverged"] * diverged,
    ]
    rows = []
    for each in ranking:
        spread = value_of(metric, each.deviation) if np.isfinite(each.deviation) else ""
        figures = [value_of(metric, each.mean), spread, value_of(metric, each.best), each.runs]
        figures += [each.diverged] if diverged else []
        rows.append([*each.values.values(), *figures])
    return _table(source, f"Settings by their {display_name(metric)}", heads, rows)


def _table(source: Source, title: str, heads: list[str], rows: list[list[Any]]) -> Markup:
    """Returns a table with the fields of a sweep and other columns, limited to the first rows."""
    fields = len(source.fields)
    lines = [
        [str(place), *[quoted(brief(value)) for value in row[:fields]], *row[fields:]]
        for place, row in enumerate(rows[:SHOWN], 1)
    ]
    names = [quoted(spaced(name)) for name in source.fields]
    more = len(rows) - SHOWN
    note = element("p", f"And {more:,} more.", class_="more") if more > 0 else None
    return join(table(title, ["place", *names, *heads], lines), note)


@section("ranking", "The networks, best first")
def _networks(source: Source) -> Markup:
    """The networks differ only in their seeds, which determine their initial random weights. Their
    differences show the effect of chance.
    """
    # A reported learning rate is not an outcome, and would repeat the column of a swept one.
    names = [
        name
        for name in source.table[0]
        if "/" in name and not name.startswith("best/") and not name.endswith("/learning_rate")
    ]
    names.sort(key=lambda name: name != source.metric)
    rows = [
        [row[name] for name in source.fields]
        + [quoted(brief(row[name])) for name in ("seed", "status")]
        + [value_of(name, row[sweeps.outcome_name(row, name)]) for name in names]
        for row in source.ranked
    ]
    heads = ["seed", "status", *map(display_name, names)]
    return _table(source, "Networks, the best first", heads, rows)


@section("runs", "Every network")
def _runs(source: Source) -> Markup:
    """One row for each network that was trained, the best first."""
    count = len(source.table)
    which = f"the {SHOWN} best of" if count > SHOWN else "all"
    return folded(f"Show {which} {count} networks", _networks.make(source))


@section("curves", "Learning curves")
def _bands(source: Source) -> Markup | None:
    """The line is the median of all networks, and the band extends from the worst to the best.
    Held-out examples are not used for training.
    """
    rows = source.groups[0][0] if len(source.groups) == 1 else []
    title = "How the metrics went"
    return drawn(curves(shortened(rows)), "curves-picture", title) if rows else None


@section("curves", "Learning curves")
def _curves(source: Source) -> Markup | None:
    """Each line is the median of the networks with one setting, and its band extends from the worst
    to the best of them. Held-out examples are not used for training.
    """
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for setting in source.settings[:CURVES]:
        for rows, places in source.groups:
            values = setting.values.items()
            mine = [i for i, place in enumerate(places) if values <= source.table[place].items()]
            if mine:
                name = cut(setting_words(setting.values), 48)
                rows_of[name] = shortened([_only(row, mine) for row in rows])
    which = "All" if len(rows_of) == len(source.settings) else f"The {len(rows_of)} best"
    caption = f"{which} settings, the best first."
    title = "How the metrics of the best settings went"
    return drawn(curves(rows_of), "curves-picture", title, caption) if rows_of else None


def _only(row: dict[str, Any], members: list[int]) -> dict[str, Any]:
    """Returns a report with only some members."""
    return {
        name: [value[i] for i in members] if isinstance(value, list) else value
        for name, value in row.items()
        if "/" in name or name in ("step", "epoch", "seconds")
    }
