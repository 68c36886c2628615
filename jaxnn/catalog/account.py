"""The account of a run: its configuration, results and files, as `python -m jaxnn show` prints."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from jaxnn.catalog.contents import Contents, read
from jaxnn.catalog.entries import Entry, best, entry, listing, size
from jaxnn.formatting import aligned, amount, brief, count, duration, wrapped
from jaxnn.storage import checkpoints, command, files
from jaxnn.storage.checkpoints import QUARANTINE
from jaxnn.storage.directory import CHECKPOINTS
from jaxnn.storage.lock import owner

_NEXT = {
    "done": "It is finished: the same command starts a new run in a directory next to it.",
    "running": "It is running: process {process} on {host} writes there.",
    "diverged": "See python -m jaxnn diagnose {path}; the same command {resumes}.",
    "interrupted": "To resume it, give the same command as before: it {resumes}.",
    "unfinished": "It may be running, on {host}. If not, the same command {resumes}.",
    "corrupt": "See python -m jaxnn verify {path}.",
}
_SAVED: tuple[str, ...] = ("step", "saved (UTC)", "size", "value", "permanent")
SHOWN = 4  # number of items shown of a long list, such as the values of all members


def account(path: Path) -> dict[str, Any]:
    """Returns the account of a run.

    Returns:
      A dict with the fields of its `Entry`; `config` and `command`; `metrics`, with the `last`
      value of each metric, its `best` value, and the `step` of that (of the best state if a metric
      is watched); `speed`; `checkpoints`; the names in `quarantine`, with reasons; the
      `environment` of the newest checkpoint; and `next`, a sentence with possible next steps.

    Raises:
      InvalidValue: if the run was written by a newer jaxnn.
    """
    run = read(path)
    about = entry(run, str(path))
    who = owner(path)
    resumes = f"resumes from step {run.newest['step']}" if run.manifests else "starts over"
    return {
        **asdict(about),
        "config": run.config,
        "command": command.read(path),
        "metrics": _metrics(run),
        "best_is": "best" if run.best_step is None else "best state",
        "speed": {name: value for name, value in run.speed.items() if value is not None},
        "checkpoints": [
            {
                "step": step,
                "size": size(path / CHECKPOINTS / checkpoints.name(step)),
                **{name: manifest.get(name) for name in ("created", "value", "for_good")},
            }
            for step, manifest in run.manifests.items()
        ],
        "quarantine": _quarantine(path / QUARANTINE),
        "environment": run.newest.get("environment", {}),
        "next": _NEXT[about.status].format(
            path=path, resumes=resumes, process=who.get("process"), host=who.get("host")
        ),
    }


def text(account: Mapping[str, Any]) -> str:
    """Returns an account as text."""
    metrics, saved = [("", "last", account["best_is"], "at step")], [_SAVED]
    for name, each in account["metrics"].items():
        last = _word(each["last"]) or "not finite"
        metrics.append((name, last, _word(each["best"]), _word(each["step"])))
    for each in account["checkpoints"]:
        step, created, value = (_word(each[name]) for name in ("step", "created", "value"))
        created, permanent = created[:16].replace("T", " "), "yes" if each["for_good"] else ""
        saved.append((step, created, amount(each["size"], "B"), value, permanent))
    speed = {
        name.replace("_", " "): f"{value:,}" if isinstance(value, int | float) else str(value)
        for name, value in account["speed"].items()
    }
    sections = {
        "config": ("<<", [(name, _word(v)) for name, v in (account["config"] or {}).items()]),
        "metrics": ("<>>>", metrics[1:] and metrics),
        "speed": ("<>", [*speed.items()]),
        "checkpoints": ("><>><", saved[1:] and saved),
        "quarantine": ("<<", [(each["name"], each["why"]) for each in account["quarantine"]]),
    }
    blocks = [
        f"{name}\n{aligned(rows, sides, '  ')}" for name, (sides, rows) in sections.items() if rows
    ]
    environment = [f"{n} {word}" for n, v in account["environment"].items() if (word := _word(v))]
    if environment:
        blocks.append("environment\n" + wrapped(", ".join(environment), "  "))
    if account["command"]:  # a single line, so that it can be copied
        blocks.append(f"command\n{indent(account['command'], '  ')}")
    if account["parts"]:
        blocks.append("parts\n" + listing([Entry(**part) for part in account["parts"]]))
    errors = [wrapped(words) for words in account["errors"].values()]
    return "\n\n".join([_opening(account), *errors, *blocks, wrapped(account["next"])])


def _opening(account: Mapping[str, Any]) -> str:
    step, steps, seconds = (account[name] for name in ("step", "steps", "seconds"))
    words = [
        account["experiment"],
        count(account["runs"], "run") if isinstance(account["runs"], int) else None,
        account["status"],
        ("no report yet" if step is None else f"step {step}")
        + (f" of {steps}" if steps not in (None, step) else ""),
        f"in {duration(seconds)}" if seconds is not None else None,
        amount(account["size"], "B"),
        f"written {duration(account['age'])} ago",
    ]
    return f"{account['name']}\n{', '.join(str(each) for each in words if each)}"


def _metrics(run: Contents) -> dict[str, dict[str, Any]]:
    """Returns the last value of each metric, its best value, and the step of that.

    The best value is that of the best state if a metric is watched, else the best reported value.
    """
    metrics = {}
    for name, last in run.last.items():
        if run.best_step is not None:
            steps = np.ravel(run.best_step).tolist()
            values = [*zip(steps, np.ravel(np.asarray(run.outcome.get(name))).tolist())]
        else:
            values = [(row["step"], best(run, name, row.get(name))) for row in run.journal.rows]
        top = best(run, name, [value for _, value in values])
        step = next((step for step, value in values if value == top), None)
        metrics[name] = {"last": best(run, name, last), "best": top, "step": step}
    return metrics


def _quarantine(folder: Path) -> list[dict[str, str]]:
    """Returns the names in quarantine, with the recorded reasons."""
    entries = []
    for path in sorted(folder.glob("*/")):
        note = path.with_suffix(".txt")
        try:
            why = files.read(note, 1 << 16).decode(errors="replace") if note.is_file() else ""
        except (OSError, ValueError) as error:
            why = str(error)
        if (path / "report.json").exists():
            why = "not finite: see python -m jaxnn diagnose"
        entries.append({"name": path.name, "why": why.strip()})
    return entries


def _word(value: Any) -> str:
    if isinstance(value, list) and len(value) > SHOWN:
        return f"{', '.join(brief(each) for each in value[:SHOWN])}, ... ({len(value)})"
    return "" if value is None else brief(value, 6)
