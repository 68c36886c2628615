"""The page that compares several runs: their results, curves and differences."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.catalog import entries as catalog
from jaxnn.checks import InvalidValue
from jaxnn.markup import Markup, cut, element, join, quoted, table
from jaxnn.pictures._curves import curves
from jaxnn.report import alike
from jaxnn.report.page import page
from jaxnn.report.phrases import (
    BLANK,
    display_name,
    examples_of,
    figure,
    listed,
    percent,
    setting,
    setting_words,
    spaced,
    time,
    value_of,
)
from jaxnn.report.sections import LETTERS, drawn, rendered, section, shortened
from jaxnn.report.source import Source, median, read
from jaxnn.storage import files


def write_comparison(paths: Sequence[str | Path], out: str | Path = "compare.html") -> Path:
    """Writes a page that compares runs, and returns its path.

    Args:
      paths: the directories of at least two runs.
      out: the file to write.

    Raises:
      InvalidValue: if there are fewer than two runs, or they have no metric in common.
      OSError: if the file cannot be written.
    """
    page = of_runs(named([Path(path).expanduser() for path in paths]))
    file = Path(out).expanduser()
    files.write(file, page.encode(errors="replace"))
    return file


def named(paths: Sequence[Path]) -> dict[str, Source]:
    """Reads runs, and names each by the shortest unique suffix of its path.

    A run named by a hash has a description before the hash.
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
    depth = 1
    while len({path.parts[-depth:] for path in whole}) < len(whole):
        depth += 1
    return alike.labelled({"/".join(path.parts[-depth:]).lstrip("/"): read(path) for path in whole})


def check_comparable(runs: dict[str, Source]) -> list[str]:
    """Returns the metrics that all runs have in common.

    Raises:
      InvalidValue: if there are none.
    """
    each = [source.outcome for source in runs.values()]
    common = [name for name in each[0] if all(name in last for last in each)]
    if common:
        return common
    have = "; ".join(f"{cut(n, 60)}: {', '.join(s.outcome) or 'none'}" for n, s in runs.items())
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
    ranking = (source.contents.metric for source in runs.values())
    metric = next((name for name in ranking if name in common), common[0])
    shown = rendered([_results, _curves, _differences], runs, metric, common)
    heading = sentence(runs, metric, common)
    return page(f"{len(runs)} runs compared", heading, ["comparison"], shown)


def sentence(runs: dict[str, Source], metric: str, common: list[str]) -> str:
    """Returns a sentence that names the best run, or explains why the runs cannot be ranked."""
    part = metric.partition("/")[0]
    others = [name for name in common if name.partition("/")[0] == part]
    wanted = [name for name in (metric, *others) if not name.endswith("/learning_rate")]
    obstacles = [alike.obstacle(runs, name) for name in wanted]
    if None not in obstacles:
        return f"These {len(runs)} runs cannot be ranked: {obstacles[0]}."
    metric = wanted[obstacles.index(None)]
    values = {name: median(source.outcome[metric]) for name, source in runs.items()}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    if not finite:
        return f"None of the {len(runs)} runs has a finite {display_name(metric)}."
    lower = next(iter(runs.values())).contents.is_lower_better(metric)
    best = (min if lower else max)(finite, key=finite.__getitem__)
    equal = sum(value == finite[best] for value in finite.values())
    what, whose, average = f"Of {len(runs)} runs, {cut(best, 90)} is the best", "its", ""
    if equal > 1:
        what, whose = f"{equal} of {len(runs)} runs are equally good", "their"
    elif alike.is_sweep(runs[best]):
        average = " on average" if alike.networks(runs[best]) > 1 else ""
    elif len(runs[best].table) > 1:
        average = " in the median"
    if metric.endswith("/accuracy"):
        return f"{what}: {percent(finite[best])} right{average}, by {whose} {display_name(metric)}."
    return f"{what}: {whose} {display_name(metric)} is {figure(metric, finite[best])}{average}."


@section("results", "Results")
def _results(runs: dict[str, Source], metric: str, common: list[str]) -> Markup:
    """A row for each run, with the metrics of its best state if it watches a metric, else of its
    last state. For a population, these are medians over its networks, and for a sweep, means over
    its best setting. The best value of a column is marked if all runs can be compared.
    """
    names = [metric, *[name for name in common if name != metric]]
    columns = {name: [median(s.outcome[name]) for s in runs.values()] for name in names}
    obstacles = {name: alike.obstacle(runs, name) for name in names}
    one = next(iter(runs.values())).contents
    best = {
        name: (np.nanmin if one.is_lower_better(name) else np.nanmax)(values)
        for name, values in columns.items()
        if np.isfinite(values).any() and not obstacles[name] and "/learning_rate" not in name
    }
    rows = []
    for place, (name, source) in enumerate(runs.items()):
        cells: list[Any] = [quoted(name), source.about.status]
        for each in names:
            value = columns[each][place]
            shown = value_of(each, value)
            top = value == best.get(each)
            cells.append(element("b", f"★{BLANK}", shown, title="the best") if top else shown)
        counts = [row["steps"] for row in source.table if isinstance(row.get("steps"), int)]
        of = f"{len(source.table)}{BLANK}×{BLANK}" if counts else ""  # networks × steps
        cells += [f"{of}{max(counts, default=source.step):,}", time(source.about.seconds)]
        rows.append(cells)
    heads = ["run", "status", *map(display_name, names), "training steps", "time"]
    title = "Results of the runs" + ("; ★ marks the best" if best else "")
    remarks = [element("p", words) for words in _remarks(runs, metric, obstacles)]
    return join(table(title, heads, rows), *remarks)


def _remarks(
    runs: dict[str, Source], metric: str, obstacles: dict[str, str | None]
) -> Iterator[str]:
    for words in dict.fromkeys(filter(None, obstacles.values())):
        names = [display_name(name) for name, why in obstacles.items() if why == words]
        yield f"No run is marked as the best by its {listed(names, 'or')}: {words}."
    best = {n: s.contents.best_step for n, s in runs.items() if s.contents.best_step is not None}
    if best:
        of = [f"{cut(n, 60)}" + (f" (step {at:,})" * isinstance(at, int)) for n, at in best.items()]
        yield f"The numbers of {listed(of)} are those of the best state, which predict uses."
    part = metric.partition("/")[0]
    unsure = [name for name, source in runs.items() if alike.data_of(source, part) is None]
    if unsure and not obstacles[metric]:
        of = listed([cut(name, 60) for name in unsure])
        yield (
            f"It is not recorded on which examples the {display_name(metric)} of {of} was measured."
            " They are assumed to be the same."
        )
    programs = {str(source.identity.get("program")) for source in runs.values()}
    losses = [name for name, why in obstacles.items() if name.endswith("loss") and not why]
    if len(programs) > 1 and losses:
        yield (
            "It is not known whether their losses are the same function, since their programs may"
            " differ."
        )
    for name, source in runs.items():
        if alike.is_sweep(source):
            best, by = setting_words(source.settings[0].values), display_name(source.metric)
            count = alike.networks(source)
            mean = f"means over {count} networks" if count > 1 else "those of one network"
            yield (
                f"The numbers of {cut(name, 90)} are {mean} with {best}, the"
                f" best of {len(source.settings)} settings by their {by}. A single run had no such"
                " choice."
            )


@section("curves", "Learning curves")
def _curves(runs: dict[str, Source], metric: str, common: list[str]) -> Markup | None:
    """The curves of all runs. Held-out examples are not used for training."""
    names = alike.short(runs)
    rows_of = {cut(names[n], LETTERS): shortened(s.rows) for n, s in runs.items() if s.rows}
    missing = [cut(name, 90) for name, source in runs.items() if not source.rows]
    words = f"Runs without curves: {', '.join(missing)}."
    note = element("p", words, class_="missing") if missing else None
    if not rows_of:
        return note
    part = metric.partition("/")[0]
    wanted = [cut(name, LETTERS) for name in common if name.partition("/")[0] == part]
    caption = f"Measured on the {examples_of(part)}, to the last report."
    title = "How the metrics of the runs went"
    return join(drawn(curves(rows_of, wanted), "curves-picture", title, caption), note)


@section("differences", "Different hyper-parameters")
def _differences(runs: dict[str, Source], *_: Any) -> Markup:
    """People set hyper-parameters before training. Those that all runs share are left out."""
    fields = alike.differing(runs)
    bare = [cut(name, 60) for name, source in runs.items() if not source.config]
    differ, same, unknown = alike.facts(runs)
    if not (fields or differ or unknown or bare):
        return element("p", "Nothing: their hyper-parameters, examples and program are the same.")
    also = "also " if fields else ""
    lines = (
        (differ, f"They {also}differ in {listed(differ)}."),
        (unknown, f"Not known to be the same: {listed(unknown)}. Not every run recorded them."),
        (same, f"The same: {listed(same)}."),
        (bare, f"The hyper-parameters of {listed(bare)} were not recorded: pass config= to fit."),
    )
    notes = [element("p", line) for names, line in lines if names]
    if not fields:
        return join(*notes)
    rows = [[quoted(spaced(field))] for field in fields]
    for source in runs.values():
        values, other = alike.chosen(source), "–" if source.config else "not recorded"
        for row, field in zip(rows, fields):
            row.append(quoted(setting(values[field]) if field in values else other))
    heads = ["name", *[quoted(name) for name in runs]]
    return join(table("Hyper-parameters that differ", heads, rows), *notes)
