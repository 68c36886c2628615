"""The account of one run: what was asked, what came of it, and what is kept of it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import Any

from jaxnn.catalog.contents import Contents, read
from jaxnn.catalog.entries import Entry, best, entry, listing, size
from jaxnn.formatting import aligned, amount, brief, count, duration, wrapped
from jaxnn.storage import checkpoints, command, files, json_files
from jaxnn.storage.checkpoints import QUARANTINE
from jaxnn.storage.directory import CHECKPOINTS, SPEED
from jaxnn.storage.lock import owner

_NEXT = {
    "done": "It is finished: the same command begins another run beside it.",
    "running": "It is going on: process {process} on {host} writes there.",
    "diverged": "See python -m jaxnn diagnose {path}; the same command {goes_on}.",
    "stopped": "To go on, give the same command as before: it {goes_on}.",
    "unfinished": "It may be going on, on {host}. If not, the same command {goes_on}.",
    "corrupt": "See python -m jaxnn verify {path}.",
}
# Of a longer list, such as the hyper-parameters of a population, the first ones.
SHOWN = 4


def account(path: Path) -> dict[str, Any]:
    """Returns the account of a run.

    It has the fields of its `Entry`; `config`; the `command` that made it, if one is known; of each
    of its `metrics` the `last` value, the `best`, and the `step` of that; its `speed`; its
    `checkpoints`; what is in `quarantine`, and why; the `environment` in which the newest
    checkpoint was made; and `next`, what can be done with it.

    Raises:
      InvalidValue: if it was written by a newer jaxnn.
    """
    found = read(path)
    about = entry(found, str(path))
    who = owner(path)
    goes_on = f"goes on from step {found.newest['step']}" if found.manifests else "begins anew"
    return {
        **asdict(about),
        "config": found.config,
        "command": command.read(path),
        "metrics": _metrics(found),
        "speed": _speed(path / SPEED),
        "checkpoints": [_checkpoint(found, step) for step in found.manifests],
        "quarantine": _quarantine(path / QUARANTINE),
        "environment": found.newest.get("environment", {}),
        "next": _NEXT[about.status].format(
            path=path, goes_on=goes_on, process=who.get("process"), host=who.get("host")
        ),
    }


def text(told: Mapping[str, Any]) -> str:
    """Returns an account as one reads it."""
    metrics = [
        (name, _word(each["last"]) or "not finite", _word(each["best"]), _word(each["step"]))
        for name, each in told["metrics"].items()
    ]
    saved = [
        (
            _word(each["step"]),
            _word(each["created"])[:16].replace("T", " "),
            amount(each["size"], "B"),
            _word(each["value"]),
            "yes" if each["for_good"] else "",
        )
        for each in told["checkpoints"]
    ]
    sections = {
        "asked": [(name, _word(value)) for name, value in (told["config"] or {}).items()],
        "metrics": metrics and [("", "last", "best", "at step"), *metrics],
        "speed": [
            (name.replace("_", " "), _figure(value)) for name, value in told["speed"].items()
        ],
        "checkpoints": saved and [("step", "saved (UTC)", "size", "value", "for good"), *saved],
        "quarantine": [(each["name"], each["why"]) for each in told["quarantine"]],
    }
    sides = {"metrics": "<>>>", "speed": "<>", "checkpoints": "><>><"}
    tables = [
        f"{name}\n{aligned(rows, sides.get(name, '<<'), '  ')}"
        for name, rows in sections.items()
        if rows
    ]
    made = [f"{n} {_word(v)}" for n, v in told["environment"].items() if v not in (None, "")]
    tables += ["made with\n" + wrapped(", ".join(made), "  ")] if made else []
    # In one line however long, so that it can be copied.
    tables += [f"command\n{indent(told['command'], '  ')}"] if told["command"] else []
    parts = [Entry(**part) for part in told["parts"]]
    tables += ["parts\n" + listing(parts)] if parts else []
    errors = [wrapped(words) for words in told["errors"].values()]
    return "\n\n".join([_opening(told), *errors, *tables, wrapped(told["next"])])


def _opening(told: Mapping[str, Any]) -> str:
    steps = f"step {told['step']}" if isinstance(told["step"], int) else "no report yet"
    steps += f" of {told['steps']}" if told["steps"] not in (None, told["step"]) else ""
    words = [
        told["experiment"],
        count(told["runs"], "run") if isinstance(told["runs"], int) else None,
        told["status"],
        steps,
        f"in {duration(told['seconds'])}" if told["seconds"] is not None else None,
        amount(told["size"], "B"),
        f"written {duration(told['age'])} ago",
    ]
    return f"{told['name']}\n{', '.join(str(each) for each in words if each)}"


def _metrics(found: Contents) -> dict[str, dict[str, Any]]:
    """Returns of each metric its last value, the best, and the first step that had that."""
    told = {}
    for name, last in found.last.items():
        values = {row["step"]: best(name, row.get(name)) for row in found.journal.rows}
        reached = best(name, list(values.values()))
        step = next((step for step, value in values.items() if value == reached), None)
        told[name] = {"last": best(name, last), "best": reached, "step": step}
    return told


def _speed(file: Path) -> dict[str, Any]:
    """Returns what is known of how fast the run was."""
    try:
        return {name: value for name, value in json_files.read(file).items() if value is not None}
    except json_files.CorruptFile:
        return {}  # an unfinished run has none, and nothing depends on it


def _figure(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _checkpoint(found: Contents, step: int) -> dict[str, Any]:
    manifest = found.manifests[step]
    fields = {name: manifest.get(name) for name in ("created", "value", "for_good")}
    folder = found.path / CHECKPOINTS / checkpoints.name(step)
    return {"step": step, "size": size(folder), **fields}


def _quarantine(folder: Path) -> list[dict[str, str]]:
    """Returns what is in quarantine, and why, as far as that is written there."""
    if not folder.is_dir():
        return []
    told = []
    for path in sorted(each for each in folder.iterdir() if each.is_dir()):
        note = path.with_suffix(".txt")
        try:
            why = files.read(note, 1 << 16).decode(errors="replace") if note.is_file() else ""
        except (OSError, ValueError) as error:
            why = str(error)
        if (path / "report.json").exists():
            why = "not finite: see python -m jaxnn diagnose"
        told.append({"name": path.name, "why": why.strip()})
    return told


def _word(value: Any) -> str:
    if isinstance(value, list) and len(value) > SHOWN:
        return f"{', '.join(brief(each) for each in value[:SHOWN])}, ... ({len(value)})"
    return "" if value is None else brief(value, 6)
