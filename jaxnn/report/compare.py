"""Several runs on one page: their results, their curves together, and what differs."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.catalog import entries as catalog
from jaxnn.checks import InvalidValue
from jaxnn.markup import Markup, cut, element, join, quoted, table
from jaxnn.metrics import lower_is_better
from jaxnn.pictures._curves import curves
from jaxnn.report import alike
from jaxnn.report.page import page
from jaxnn.report.phrases import (
    BLANK,
    display_name,
    figure,
    listed,
    percent,
    setting,
    spaced,
    time,
    value_of,
)
from jaxnn.report.sections import Section, drawn, lettered, rendered, shortened
from jaxnn.report.source import Source, read
from jaxnn.storage import files

FILE = "compare.html"


def write_comparison(paths: Sequence[str | Path], out: str | Path = FILE) -> Path:
    """Writes a page that compares runs, and returns where.

    Args:
      paths: the directories of at least two runs.
      out: the file to write.

    Raises:
      InvalidValue: if these are not two runs or more, or have no metric in common.
      OSError: if the file cannot be written.
    """
    runs = named([Path(path) for path in paths])
    check_comparable(runs)
    files.write(Path(out), of_runs(runs).encode(errors="replace"))
    return Path(out)


def named(paths: Sequence[Path]) -> dict[str, Source]:
    """Reads runs, and names each by the shortest end of its path that no other one has.

    One that is named by a hash has what it is before it.
    """
    whole = [catalog.find(path).resolve() for path in paths]
    if len(set(whole)) < 2 or len(set(whole)) < len(whole):
        raise InvalidValue(
            "compare",
            "there is nothing to compare",
            got=", ".join(map(str, paths)) or "no run",
            expected="the directories of at least two runs, each of them once",
            fix="Name them, as in python -m jaxnn compare runs/one runs/other",
        )
    depth = next(
        depth
        for depth in range(1, max(len(path.parts) for path in whole) + 1)
        if len({path.parts[-depth:] for path in whole}) == len(whole)
    )
    return alike.labelled({"/".join(path.parts[-depth:]).lstrip("/"): read(path) for path in whole})


def check_comparable(runs: dict[str, Source]) -> list[str]:
    """Returns the metrics that all of the runs have.

    Raises:
      InvalidValue: if there is none.
    """
    each = [source.last for source in runs.values()]
    common = [name for name in each[0] if all(name in last for last in each)]
    if common:
        return common
    have = "; ".join(f"{cut(n, 60)}: {', '.join(s.last) or 'none'}" for n, s in runs.items())
    raise InvalidValue(
        "compare",
        "these runs have no metric in common",
        got=cut(have, 600),
        expected="at least one metric that each of them has reported",
        fix="Compare runs of one task, or see each by itself with python -m jaxnn report RUN",
    )


def of_runs(runs: dict[str, Source]) -> Markup:
    """Returns the page of several runs."""
    common = check_comparable(runs)
    metric = next(
        (s.contents.metric for s in runs.values() if s.contents.metric in common), common[0]
    )
    shown = rendered(
        [
            Section(
                "results",
                "Results",
                "A row for each run, and the last value of each metric. For many members, that is"
                " the value of the network in the middle, of a sweep the mean of its best setting."
                " The best of a column is marked where all of it can be compared.",
                lambda: _results(runs, metric, common),
            ),
            Section(
                "curves",
                "How the training went",
                "The curves of all runs together; held-out examples are those that no network"
                " trains on.",
                lambda: _curves(runs, metric, common),
            ),
            Section(
                "differences",
                "What was chosen differently",
                "Hyper-parameters are what people set before training. Those that all runs share"
                " are left out.",
                lambda: _differences(runs),
            ),
        ]
    )
    return page(f"{len(runs)} runs compared", sentence(runs, metric), ["comparison"], shown)


def sentence(runs: dict[str, Source], metric: str) -> str:
    """Returns which run is the best, or why none can be called so."""
    part = metric.partition("/")[0]
    others = [name for name in check_comparable(runs) if name.partition("/")[0] == part]
    wanted = [name for name in (metric, *others) if not name.endswith("/learning_rate")]
    obstacles = [alike.obstacle(runs, name) for name in wanted]
    if None not in obstacles:
        return f"These {len(runs)} runs cannot be ranked: {obstacles[0]}."
    metric = wanted[obstacles.index(None)]
    values = {name: middle(source.last[metric]) for name, source in runs.items()}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    if not finite:
        return f"None of the {len(runs)} runs has a finite {display_name(metric)}."
    best = (min if lower_is_better(metric) else max)(finite, key=finite.__getitem__)
    equal = sum(value == finite[best] for value in finite.values())
    if equal > 1:
        what = f"{equal} of {len(runs)} runs are equally good"
    else:
        what = f"Of {len(runs)} runs, {cut(best, 90)} is the best"
    whose = "their" if equal > 1 else "its"
    average = " on average" if equal == 1 and alike.is_sweep(runs[best]) else ""
    if metric.endswith("/accuracy"):
        return f"{what}: {percent(finite[best])} right{average}, by {whose} {display_name(metric)}."
    return f"{what}: {whose} {display_name(metric)} is {figure(metric, finite[best])}{average}."


def middle(value: Any) -> float:
    """Returns a metric of a run; for a population, that of the member in the middle."""
    values = np.asarray(value, float)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else math.nan


def _results(runs: dict[str, Source], metric: str, common: list[str]) -> Markup:
    names = [metric, *[name for name in common if name != metric]]
    columns = {name: [middle(s.last[name]) for s in runs.values()] for name in names}
    obstacles = {name: alike.obstacle(runs, name) for name in names}
    best = {
        name: (np.nanmin if lower_is_better(name) else np.nanmax)(values)
        for name, values in columns.items()
        if np.isfinite(values).any() and not obstacles[name] and name.count("/learning_rate") == 0
    }
    rows = []
    for place, (name, source) in enumerate(runs.items()):
        cells: list[Any] = [quoted(name), source.about.status]
        for each in names:
            value = columns[each][place]
            shown = value_of(each, value)
            top = value == best.get(each)
            cells.append(element("b", f"★{BLANK}", shown, title="the best") if top else shown)
        seconds = source.about.seconds
        cells += [_steps(source), time(seconds) if seconds is not None else ""]
        rows.append(cells)
    heads = ["run", "status", *[display_name(name) for name in names], "training steps", "time"]
    title = "Results of the runs" + ("; ★ marks the best" if best else "")
    return join(table(title, heads, rows), *_remarks(runs, metric, obstacles))


def _steps(source: Source) -> str:
    """Returns the training steps, of many networks those of each."""
    counts = {row["steps"] for row in source.table if isinstance(row.get("steps"), int)}
    if not counts:
        return f"{source.step:,}"
    return f"{len(source.table)}{BLANK}×{BLANK}{max(counts):,}"


def _remarks(
    runs: dict[str, Source], metric: str, obstacles: dict[str, str | None]
) -> Iterator[Markup]:
    for words in dict.fromkeys(filter(None, obstacles.values())):
        names = [display_name(name) for name, why in obstacles.items() if why == words]
        yield element("p", f"None is the best by its {listed(names, 'or')}: {words}.")
    unsure = alike.unsure(runs, metric)
    if unsure and not obstacles[metric]:
        of = listed([cut(name, 60) for name in unsure])
        words = (
            f"On which examples the {display_name(metric)} was measured is not recorded of {of}."
        )
        yield element("p", words, " They are taken for the same here.")
    programs = {str(alike.identity(source).get("program")) for source in runs.values()}
    if len(programs) > 1 and any(
        name.endswith("loss") and not obstacles[name] for name in obstacles
    ):
        words = (
            "Whether their losses are the same function is not recorded, since their programs are"
            " not known to be the same."
        )
        yield element("p", words)
    for name, source in runs.items():
        if alike.is_sweep(source):
            words = f"The numbers of {cut(name, 90)} are {alike.best_setting(source)}."
            yield element("p", words, " One run alone had no such choice.")


def _curves(runs: dict[str, Source], metric: str, common: list[str]) -> Markup | None:
    names = alike.short(list(runs))
    rows_of = {lettered(names[n]): shortened(s.rows) for n, s in runs.items() if s.rows}
    if len(rows_of) < len(runs):
        missing = [cut(name, 90) for name in runs if lettered(names[name]) not in rows_of]
        note = element("p", f"Without curves of its own: {', '.join(missing)}.", class_="missing")
    else:
        note = None
    part = metric.partition("/")[0]
    wanted = [lettered(name) for name in common if name.partition("/")[0] == part]
    if not rows_of:
        return note
    words = f"Measured on {alike.examples_of(part)}."
    return join(
        drawn(curves(rows_of, wanted), "curves-picture", "How the metrics of the runs went", words),
        note,
    )


def _differences(runs: dict[str, Source]) -> Markup:
    chosen_by = {name: alike.chosen(source) for name, source in runs.items()}
    fields = alike.differing(runs)
    bare = [cut(name, 60) for name, source in runs.items() if not source.contents.config]
    differ, same, unknown = alike.facts(runs)
    lines = []
    if differ:
        lines.append(f"They {'also ' if fields else ''}differ in {listed(differ)}.")
    if unknown:
        lines.append(f"Not known to be the same: {listed(unknown)}. No checkpoint of each tells.")
    if same:
        lines.append(f"The same: {listed(same)}.")
    if bare:
        lines.append(
            f"The hyper-parameters of {listed(bare)} were not recorded: pass config= to fit."
        )
    if not (fields or differ or unknown or bare):
        return element("p", "Nothing: their hyper-parameters, examples and program are the same.")
    said = [element("p", line) for line in lines]
    if not fields:
        return join(*said)
    rows = [
        [
            quoted(spaced(field)),
            *[quoted(_said(chosen_by[name], field, s)) for name, s in runs.items()],
        ]
        for field in fields
    ]
    heads = ["name", *[quoted(name) for name in runs]]
    return join(table("Hyper-parameters that differ", heads, rows), *said)


def _said(chosen: dict[str, Any], field: str, source: Source) -> str:
    if field in chosen:
        return setting(chosen[field])
    return "–" if source.contents.config else "not recorded"
