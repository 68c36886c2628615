"""Formats the measurements as tables, Markdown and JSON, and compares ratios with their bars."""

import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from experiments.benchmarks.harness import Bar, Measured, Workload

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "equinox", "turbanet", "keras", "torch", "scikit-learn",
    "grain", "numpy",
)  # fmt: skip
SCALES = {"s": 1.0, "ms": 1e3, "us": 1e6, "MB": 1e-6}


def about() -> dict[str, Any]:
    """Returns the machine, its load, and the versions of packages, which affect the figures."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "versions": {"Python": platform.python_version(), **versions},
    }


def ratios(bar: Bar, rows: Mapping[str, Measured]) -> list[float]:
    """Returns the ratio of each pair of rounds; none if a contender is absent."""
    if not {bar.ours, *bar.against} <= rows.keys():
        return []
    ours = getattr(rows[bar.ours], bar.figure)
    theirs = [getattr(rows[name], bar.other or bar.figure) for name in bar.against]
    if bar.other not in (None, bar.figure):  # different figures are not measured in pairs
        return [each / sum(map(statistics.median, theirs)) for each in ours]
    return [own / sum(others) for own, *others in zip(ours, *theirs)]


def cpu_ratio(bar: Bar, rows: Mapping[str, Measured]) -> str:
    """Returns the ratio of the median CPU times, if they are comparable."""
    if not ratios(bar, rows) or bar.figure == "memory":
        return ""
    theirs = [rows[name].median(_cpu(bar.other or bar.figure)) for name in bar.against]
    return format(rows[bar.ours].median(_cpu(bar.figure)) / sum(theirs), ".3g")


def summary(
    name: str, workload: Workload, rows: Sequence[Measured], absent: Mapping[str, str], note: Any
):
    """Returns the results of a workload in the form of the JSON file."""
    by_name = {row.name: row for row in rows}
    return {
        "name": name,
        "title": workload.title,
        "unit": workload.unit,
        "figure": workload.figure,
        "learned": workload.learned,
        "about": note,
        "rows": [asdict(row) for row in rows],
        "absent": dict(absent),
        "bars": [
            {**bar._asdict(), "ratios": ratios(bar, by_name), "cpu": cpu_ratio(bar, by_name)}
            for bar in workload.bars
        ],
    }


def cells(workload: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns the table of a workload: a header, and a row for each contender."""
    unit, figure = workload["unit"], workload["figure"]
    heads = ("", f"{unit} (range)", "ratio (range)", f"cpu {unit}", "first, s", "process, s")
    lines: list[tuple[str, ...]] = [(*heads, "memory, MB", workload["learned"], "")]
    base = workload["rows"][0][figure] if workload["rows"] else []
    for row in workload["rows"]:
        seconds = row[figure]
        lines.append(
            (
                row["name"],
                spread([SCALES[unit] * each for each in seconds]),
                spread([own / first for own, first in zip(seconds, base)], ".2f"),
                middle([SCALES[unit] * each for each in row[_cpu(figure)]]),
                middle(row["first"], ".2f"),
                middle(row["process"], ".2f"),
                middle([each / 1e6 for each in row["memory"]], ".0f"),
                middle(row["reached"], ".4f"),
                row["note"],
            )
        )
    return lines


def _cpu(figure: str) -> str:
    """Returns the name of the CPU time that corresponds to a figure."""
    return "cpu" if figure == "again" else "cpu_process"


def bars(workloads: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Returns a table of the ratios of all workloads and their bars."""
    heads = ("workload", "figure", "against", "ratio (range)", "ratio of cpu", "bar", "")
    lines: list[tuple[str, ...]] = [heads]
    for workload in workloads:
        for bar in workload["bars"]:
            figure = bar["figure"] if bar["other"] is None else f"{bar['figure']}, {bar['other']}"
            ours = "" if bar["ours"] == "jaxnn" else f"{bar['ours']}: "
            met = ""
            if bar["ratios"]:
                met = verdict(bar["ratios"], bar["at_most"])
            line = (workload["name"], figure, ours + " + ".join(bar["against"]))
            ratio = spread(bar["ratios"], ".3g") if bar["ratios"] else "not measured"
            lines.append((*line, ratio, bar["cpu"], f"{bar['at_most']:.3g}", met))
    return lines


def verdict(ratios: Sequence[float], at_most: float) -> str:
    """Returns whether all ratios are within a bar; if only some are, the result is undecided."""
    if min(ratios) <= at_most < max(ratios):
        return "undecided"
    return "met" if max(ratios) <= at_most else "missed"


def spread(figures: Sequence[float], style: str = ".4g") -> str:
    """Returns the median as text, with the range in parentheses."""
    if not figures:
        return ""
    low, high = (format(each, style) for each in (min(figures), max(figures)))
    return f"{middle(figures, style)} ({low} to {high})"


def middle(figures: Sequence[float], style: str = ".4g") -> str:
    """Returns the median as text."""
    return format(statistics.median(figures), style) if figures else ""


def text(lines: Sequence[tuple[str, ...]]) -> str:
    """Formats a table for a terminal."""
    from jaxnn.formatting import aligned

    return aligned([*lines], "<" + ">" * (len(lines[0]) - 2) + "<", "  ")


def markdown(workloads: Sequence[Mapping[str, Any]]) -> str:
    """Formats all tables as a Markdown page."""
    parts = [_table(bars(workloads))]
    for workload in workloads:
        note = workload["about"]
        packages = ", ".join(f"{name} {number}" for name, number in note["versions"].items())
        parts.append(f"## {workload['name']}\n\n{workload['title']}")
        parts.append(_table(cells(workload)))
        parts.append(f"{note['date']}; {note['machine']}; load {note['load']}; {packages}.")
        parts += [f"Left out: {name} ({words})." for name, words in workload["absent"].items()]
    return "\n\n".join(parts) + "\n"


def _table(lines: Sequence[tuple[str, ...]]) -> str:
    rows = ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
    return "\n".join([rows[0], "|" + "---|" * len(lines[0]), *rows[1:]])
