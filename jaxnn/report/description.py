"""What a run consists of: network, hyper-parameters, machine, and how to do it again."""

from typing import Any

from jaxnn.catalog import account
from jaxnn.formatting import amount
from jaxnn.markup import Markup, cut, element, join, quoted, table
from jaxnn.report.phrases import display_name, percent, setting, spaced, time, value_of
from jaxnn.report.sections import Section
from jaxnn.report.source import Source

COMMAND = 4000  # letters, that one may wish to copy whole


def sections(source: Source) -> list[Section]:
    """Returns the sections about network, hyper-parameters and machine."""
    return [
        Section(
            "parts",
            "The runs that are parts of it",
            "A row for each run in its directory; each has a page of its own.",
            lambda: None if source.many else _parts(source),
        ),
        Section(
            "hyperparameters",
            "What was chosen",
            "Hyper-parameters are what people set before the training, as the training sets the"
            " weights.",
            lambda: _chosen(source),
        ),
        Section(
            "speed",
            "Time and memory",
            "What it took on this machine. Compiling happens once, and counts only in the time in"
            " all; steps in a second are those between the first chunk of steps and the last.",
            lambda: _speed(source),
        ),
        Section(
            "again",
            "Do it again",
            "The same code, hyper-parameters, versions and device give the same numbers.",
            lambda: _again(source),
        ),
    ]


def _parts(source: Source) -> Markup | None:
    rows = [
        [
            quoted(each.name),
            each.status,
            f"{each.step:,}" if each.step is not None else "",
            display_name(each.metric) if each.metric else "",
            value_of(each.metric, each.value) if each.metric else "",
            time(each.seconds) if each.seconds is not None else "",
        ]
        for each in source.about.parts
    ]
    heads = ["run", "status", "training steps", "metric", "value", "time"]
    return table("Runs in its directory", heads, rows) if rows else None


def _chosen(source: Source) -> Markup | None:
    config, known = source.contents.config or {}, source.contents.newest.get("identity", {})
    counts = {name: known[name] for name in ("steps", "batch_size") if name in known}
    shown = config or counts
    if not shown:
        return None
    said = {name: setting(value) for name, value in shown.items()}
    # What the networks of a sweep had, and not what it was begun with.
    for name in [*source.fields, *(["seed"] if source.many and "seed" in said else [])]:
        said[name] = _tried(list(dict.fromkeys(row[name] for row in source.table)))
    rows = [[quoted(spaced(name)), quoted(words)] for name, words in said.items()]
    chosen = table("Hyper-parameters", ["name", "value"], rows, numbers=False)
    more = "The rest is not recorded: give fit a Directory with config= to have it here."
    return chosen if config else join(chosen, element("p", more))


def _tried(values: list[Any]) -> str:
    """Returns the values that the networks of a sweep had."""
    numbers = all(isinstance(value, int | float) for value in values)
    if not numbers or len(values) < 2 or all(isinstance(value, int) for value in values):
        return setting(values)
    return f"{setting(min(values))} to {setting(max(values))}, {len(values)} values"


def _speed(source: Source) -> Markup | None:
    said, speed = [], source.speed
    if source.about.seconds is not None:
        said.append(["time in all", time(source.about.seconds)])

    def add(name: str, key: str, words: Any) -> None:
        value = speed.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            said.append([name, words(value)])

    add(
        "compiled",
        "compile_seconds",
        lambda v: f"{speed.get('compilations', '?')} programs, {time(v)}",
    )
    add("training steps in a second, without compiling", "steps_per_second", lambda v: f"{v:,.0f}")
    add("floating-point operations of a training step", "flops_per_step", _amount)
    add("floating-point operations in a second", "flops_per_second", _amount)
    add("share of what the device can do", "share_of_peak", percent)
    if "share_of_peak" in speed and speed["share_of_peak"] is None:
        said.append(["share of what the device can do", "not known: nor is what it can do at most"])
    if speed:
        said.append(["waiting for data", "none: they are on the device"])
    of = "of the device" if speed.get("memory_of") == "device" else "of the process"
    add(f"memory {of}, at most", "memory_bytes", lambda v: amount(int(v), "B"))
    said.append(["in its directory", amount(source.about.size, "B")])
    return table("What it took", ["what", "how much"], said)


def _amount(value: float) -> str:
    units = (("trillion", 1e12), ("billion", 1e9), ("million", 1e6))
    unit, size = next((each for each in units if value >= each[1]), ("", 1.0))
    return f"{value / size:,.{1 if unit else 0}f} {unit}".strip()


def _again(source: Source) -> Markup | None:
    path = source.contents.path
    known = account.account(path)
    parts = [element("p", known["next"])]
    if known["command"]:
        parts.append(_code(cut(known["command"], COMMAND), "The command that started this run"))
    seeds = [row["seed"] for row in source.table] or [(source.contents.config or {}).get("seed")]
    seeds = [*dict.fromkeys(seed for seed in seeds if isinstance(seed, int))]
    if seeds:
        words = "Its seed is" if len(seeds) == 1 else "Its seeds are"
        parts.append(element("p", f"{words} {setting(seeds)}."))
    commands = [f"python -m jaxnn {name} {path}" for name in ("show", "verify", "report")]
    lines = "\n".join(cut(each, 400) for each in commands)
    parts.append(_code(lines, "Commands that look at this run"))
    if source.environment:
        rows = [[spaced(name), quoted(setting(v))] for name, v in source.environment.items()]
        versions = table("Trained with", ["what", "version or value"], rows, numbers=False)
        summary = element("summary", "Versions and device")
        parts.append(element("details", summary, versions))
    return join(*parts)


def _code(lines: str, label: str) -> Markup:
    """Returns lines to copy, which scroll by themselves."""
    code = element("code", lines)
    return element("pre", code, tabindex="0", role="region", aria_label=label)
