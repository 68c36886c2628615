"""The sections about a run's table, parts, hyper-parameters, speed, and how to repeat it."""

import shlex
from collections.abc import Mapping
from typing import Any

from jaxnn.catalog import account
from jaxnn.formatting import amount
from jaxnn.markup import Markup, cut, element, folded, join, quoted, table
from jaxnn.pictures.scheme import number
from jaxnn.planning.figures import seconds
from jaxnn.planning.profiling import FILE as PROFILE
from jaxnn.report.phrases import display_name, percent, setting, spaced, time, value_of
from jaxnn.report.sections import section, unbroken
from jaxnn.report.source import Source
from jaxnn.storage import json_files
from jaxnn.storage.json_files import finite

COLUMNS = 30  # number of columns that are shown without unfolding
COMMAND = 4000  # maximum length of a command, which readers may copy


@section("columns", "Encoding of the columns")
def columns(source: Source) -> Markup | None:
    """A network computes with numbers close to 0. The encoding of each column depends only on the
    training rows, and is the same for new rows.
    """
    known = source.columns
    if known is None:
        return None
    rows = [
        [quoted(name), kind, quoted(words), missing, quoted(classes)]
        for name, kind, words, missing, classes in known.described()
    ]
    heads = ["column", "kind", "encoding", "missing", "classes"]
    shown = table(f"Columns of {known.rows:,} training rows", heads, rows[:COLUMNS], class_=None)
    more = rows[COLUMNS:]
    rest = folded(f"{len(more)} more", table(None, heads, more, class_=None)) if more else None
    return join(shown, rest)


@section("parts", "Inner runs")
def _parts(source: Source) -> Markup | None:
    """A row for each run in its directory; each has a page of its own."""
    rows = [
        [
            quoted(each.name),
            each.status,
            f"{each.step:,}" if each.step is not None else "",
            each.metric and display_name(each.metric),
            each.metric and value_of(each.metric, each.value),
            time(each.seconds),
        ]
        for each in source.about.parts
    ]
    heads = ["run", "status", "training steps", "metric", "value", "time"]
    return table("Runs in its directory", heads, rows) if rows and not source.many else None


@section("hyperparameters", "Hyper-parameters")
def _chosen(source: Source) -> Markup | None:
    """People set hyper-parameters before the training; the training sets the weights."""
    known = source.contents.newest.get("identity", {})
    shown = source.config or {n: known[n] for n in ("steps", "batch_size") if n in known}
    if not shown:
        return None
    words = {name: setting(value) for name, value in shown.items()}
    if source.many:  # the swept values and seeds have rows of their own
        words = {name: value for name, value in words.items() if name not in ("sweep", "seeds")}
    # Uses the values in the table of the sweep, not those of the original command.
    for name in [*source.fields, *(["seed"] if source.many and "seed" in words else [])]:
        tried = [*dict.fromkeys(row[name] for row in source.table)]
        words[name] = setting(tried)
        numbers = all(isinstance(value, int | float) for value in tried)
        if numbers and len(tried) > 1 and not all(isinstance(value, int) for value in tried):
            words[name] = f"{setting(min(tried))} to {setting(max(tried))}, {len(tried)} values"
    rows = [[quoted(spaced(name)), quoted(value)] for name, value in words.items() if value]
    chosen = table("Names and values", ["name", "value"], rows, class_=None)
    more = "The rest is not recorded: give fit a Directory with config= to have it here."
    return chosen if source.config else join(chosen, element("p", more))


@section("profile", "Time of each part in a step")
def _profile(source: Source) -> Markup | None:
    """The time of each part of the network, including gradients, in some profiled steps."""
    path = source.contents.path / PROFILE
    if source.many or not path.exists():
        return None
    profile = json_files.read(path)
    rows = [
        [
            quoted(each["part"]),
            seconds(each["seconds"]),
            percent(min(1.0, round(each["share"], 6))),
            amount(each["flops"]) if each["flops"] else "",
            amount(each["bytes"], "B") if each["bytes"] else "",
            percent(each["share_of_peak"]) if each["share_of_peak"] else "",
        ]
        for each in profile["parts"]
    ]
    heads = ["part", "time", "share", "operations", "memory traffic", "of what the device can do"]
    title = f"Steps {profile['first'] + 1:,} to {profile['last']:,}"
    return table(title, heads, rows)


@section("speed", "Time and memory")
def _speed(source: Source) -> Markup | None:
    """The speed and memory of the run on its machine."""
    speed, rows = source.contents.speed, _times(source)
    of = "of the device" if speed.get("memory_of") == "device" else "of the process"
    share = speed.get("data_wait_share")
    waited = f", {percent(share)} of it" if isinstance(share, float) else ""
    places = (
        ("training steps in a second, without compiling", "steps_per_second", number),
        ("floating-point operations of a training step", "flops_per_step", _operations),
        ("floating-point operations in a second", "flops_per_second", _operations),
        ("share of what the device can do", "share_of_peak", percent),
        ("waiting for data", "data_wait_seconds", lambda v: f"{time(v)}{waited}"),
        ("examples that could not be read", "examples_skipped", number),
        (f"memory {of}, at most", "memory_bytes", lambda v: amount(int(v), "B")),
    )
    for name, key, words in places:
        value = finite(speed.get(key))
        if value is not None and (value or key != "examples_skipped"):
            rows.append([name, words(value)])
    rows.append(["size of its directory", amount(source.about.size, "B")])
    return table("What it took", ["what", "how much"], rows)


def _times(source: Source) -> list[list[Any]]:
    """Returns the total time, and the parts that add up to it."""
    speed, total = source.contents.speed, source.about.seconds
    if total is None:
        return []
    rows = [["time in all", time(total)]]
    names = ("first_steps", "first_seconds", "seconds")
    steps, first, seconds = (finite(speed.get(name)) for name in names)
    if steps is None or first is None or seconds is None or source.many:
        return rows
    before = total - min(seconds, total)
    before = before if before > 0.01 * total + 0.1 else 0.0
    # Rounds to the displayed digits, so that the displayed parts add up to the total.
    unit = 0.1 if total < 9.95 else 1.0 if total < 60 else 1e-3
    total, before, first = (round(each / unit) * unit for each in (total, before, first))
    count, programs = int(steps), speed.get("compilations")
    compiled = f", {programs} programs compiled" if isinstance(programs, int) else ""
    rows += [["of that, before it resumed", time(before)]] if before else []
    rows.append([f"of that, until step {count:,} was done{compiled}", time(first)])
    rest = total - before - first
    if source.step > count and rest >= 0:
        rows.append([f"of that, the steps after, up to step {source.step:,}", time(rest)])
    return rows


def _operations(value: float) -> str:
    units = (("trillion", 1e12), ("billion", 1e9), ("million", 1e6))
    unit, size = next((each for each in units if value >= each[1]), ("", 1.0))
    return f"{value / size:,.{1 if unit else 0}f} {unit}".strip()


def alone(command: str | None, values: Mapping[str, Any]) -> str | None:
    """Returns the command that trains one network of a sweep; `None` if it is not an experiment.

    >>> alone("python -m experiments.digits --sweep rate=1,2 --seeds=2 --epochs 3", {"rate": 2})
    'python -m experiments.digits --epochs 3 --rate 2'
    """
    try:
        words = shlex.split(command or "")
    except ValueError:
        return None
    if words[:2] != ["python", "-m"] or not words[2:3] or not words[2].startswith("experiments."):
        return None
    flags = {f"--{name}".replace("_", "-"): value for name, value in values.items()}
    gone = {"--sweep", "--seeds", "--metric", "--out", "--resume", "--allow-change", *flags}
    left, skips = words[:3], False
    for word in words[3:]:
        if word.startswith("--"):
            skips = word.partition("=")[0] in gone
        left += [] if skips else [word]
    for flag, value in flags.items():
        each = value if isinstance(value, list | tuple) else [value]
        bare = f"--no-{flag[2:]}" if value is False else flag
        left += [bare, *(str(one) for one in each if not isinstance(one, bool))]
    return shlex.join(left)


@section("again", "Reproduce it")
def _again(source: Source) -> Markup | None:
    """The same code, hyper-parameters, versions and device give the same numbers."""
    path = source.contents.path
    story = account.account(path)
    parts = [element("p", story["next"])]
    if story["command"]:
        parts.append(code(cut(story["command"], COMMAND), "The command that started this run"))
    seeds = [row["seed"] for row in source.table] or [source.config.get("seed")]
    seeds = [*dict.fromkeys(seed for seed in seeds if isinstance(seed, int))]
    if seeds:
        words = "Its seed is" if len(seeds) == 1 else "Its seeds are"
        parts.append(element("p", f"{words} {setting(seeds)}."))
    commands = [f"python -m jaxnn {name} {path}" for name in ("show", "verify", "report")]
    lines = "\n".join(cut(each, 400) for each in commands)
    parts.append(code(lines, "Commands that look at this run"))
    known = {n: source.result[n] for n in ("device", "jax", "form") if n in source.result}
    known |= source.contents.newest.get("environment", {})
    rows = [[spaced(n), quoted(setting(v))] for n, v in known.items() if v not in (None, "")]
    if rows:
        versions = table("Trained with", ["what", "version or value"], rows, class_=None)
        parts.append(folded("Versions and device", versions))
    return join(*parts)


def code(lines: str, label: str) -> Markup:
    """Returns lines of code to copy, in an element that scrolls."""
    return element(
        "pre", element("code", unbroken(lines)), tabindex="0", role="region", aria_label=label
    )


SECTIONS = (_parts, _chosen, _profile, _speed, _again)
