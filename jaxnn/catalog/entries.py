"""The catalog: lists the runs below a folder, with the state of each.

A run may have parts, which are runs in folders below it, such as the groups of a sweep. The parts
of a finished run are not listed.
"""

import contextlib
import difflib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxnn.catalog.contents import Contents, read
from jaxnn.checks import InvalidValue
from jaxnn.formatting import aligned, amount, brief, count, duration
from jaxnn.storage.checkpoints import QUARANTINE
from jaxnn.storage.directory import CHECKPOINTS, CONFIG, RESULT, ROWS
from jaxnn.storage.json_files import finite
from jaxnn.storage.lock import LOCK


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run in the catalog.

    Attributes:
      name: the path relative to the folder of the catalog.
      status: as in `Contents`, or `newer` if it was written by a newer jaxnn.
      experiment: the name in its result.
      step: the number of completed training steps; for a finished sweep, of all runs together.
      steps: the planned number of steps, if a checkpoint contains it.
      runs: the number of runs, if more than one.
      metric: the name of the metric that ranks it.
      value: the value of that metric, for the best state if a metric is watched, else the last one;
        for a population, that of the best member.
      seconds: the training time in seconds.
      age: the time since the last write in seconds.
      size: the size in bytes, including its parts.
      errors: the errors of corrupt files, as in `Contents`.
      parts: the entries of its parts.
    """

    name: str
    status: str
    experiment: Any = None
    step: int | None = None
    steps: Any = None
    runs: Any = None
    metric: str | None = None
    value: float | None = None
    seconds: float | None = None
    age: float
    size: int
    errors: dict[str, str]
    parts: list["Entry"]


def below(folder: Path) -> list[Path]:
    """Returns the run directories below a folder, or the folder itself if it is one."""
    return [folder] if is_run(folder) else parts(folder)


def parts(path: Path) -> list[Path]:
    """Returns the run directories in the folders inside a folder."""
    try:
        with os.scandir(path) as entries:
            names = sorted(each.name for each in entries if each.is_dir(follow_symlinks=False))
    except OSError:  # the folder has just been deleted, or cannot be read
        return []
    folders = [n for n in names if n not in (CHECKPOINTS, QUARANTINE) and not n.startswith(".")]
    return [run for name in folders for run in below(path / name)]


def is_run(path: Path) -> bool:
    """Whether a folder is a run directory; other tools write a `config.json` too."""
    others = (LOCK, ROWS, RESULT, CHECKPOINTS)
    return (path / CONFIG).exists() and any((path / name).exists() for name in others)


def find(path: Path) -> Path:
    """Returns the path of a run: the path itself, or the only run below it.

    Raises:
      InvalidValue: if it is not a run directory, and does not contain exactly one.
    """
    exists(path)
    if is_run(path):
        return path
    got = "a directory without the files of a run" if path.is_dir() else "a file"
    fix = "Name a directory that has a config.json and is written by fit"
    if outer := [each for each in path.absolute().parents if is_run(each)]:
        fix = f"Did you mean {outer[0]}?"
    elif inner := parts(path):
        if len(inner) == 1:
            return inner[0]
        got = f"a directory of {len(inner)} runs"
        fix = f"Name one of them, such as the newest: {newest(inner)}"
    raise InvalidValue(
        "run directory",
        f"{path} is not a run directory",
        got=got,
        expected="the directory of a run",
        fix=fix,
    )


def newest(runs: Iterable[Path]) -> Path:
    """Returns the most recently modified of several run directories."""
    return max(runs, key=lambda run: run.stat().st_mtime)


def exists(path: Path) -> None:
    """Raises `InvalidValue` unless a path exists; suggests the most similar name."""
    if path.exists():
        return
    missing = next(each for each in (path, *path.parents) if each.parent.is_dir())
    names = [each.name for each in missing.parent.iterdir() if each.is_dir()]
    near = difflib.get_close_matches(missing.name, names, n=1)
    raise InvalidValue(
        "run directory",
        f"{path} is not there",
        got=f"no {missing.name} in {missing.parent}",
        expected="a directory",
        fix=f"Did you mean {missing.parent / near[0]}?"
        if near
        else "Name the directory of your runs, as in python -m jaxnn runs DIRECTORY",
    )


def look(path: Path, name: str) -> Entry:
    """Returns the entry of a run; only a name if a newer jaxnn has written it."""
    try:
        return entry(read(path), name)
    except InvalidValue as error:
        age, errors = _age(path), {CHECKPOINTS: str(error)}
        return Entry(name=name, status="newer", age=age, size=size(path), errors=errors, parts=[])


def entry(run: Contents, name: str) -> Entry:
    """Returns the entry of a run."""
    path = run.path
    result, last = run.result or {}, (run.journal.rows or [{}])[-1]
    inner = [look(part, part.relative_to(path).as_posix()) for part in parts(path)]
    identity = run.newest.get("identity", {})
    return Entry(
        name=name,
        status=run.status,
        experiment=result.get("experiment"),
        step=_largest(result.get("steps", last.get("step"))),
        steps=identity.get("steps"),
        runs=result.get("runs") or result.get("members") or identity.get("members"),
        metric=run.metric,
        value=best(run, run.metric, run.outcome.get(run.metric)) if run.metric else None,
        seconds=finite(result.get("seconds", last.get("seconds"))),
        age=min([_age(path), *(part.age for part in inner)]),
        size=size(path),
        errors=run.errors,
        parts=inner,
    )


def best(run: Contents, metric: str, value: Any) -> float | None:
    """Returns the value of a metric; for a population, that of the best member."""
    values = [finite(each) for each in (value if isinstance(value, list) else [value])]
    known = [each for each in values if each is not None]
    return (min if run.is_lower_better(metric) else max)(known, default=None)


def size(folder: Path) -> int:
    """Returns the bytes of the files in a folder, while some of them may be deleted."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def listing(entries: Sequence[Entry]) -> str:
    """Returns the entries as a table, the most recently modified first."""
    heads = ("status", "steps", "metric", "value", "time", "age", "size", "run")
    lines = [heads, *_lines(sorted(entries, key=lambda each: each.age), "")]
    errors = [words for each in walk(entries) for words in each.errors.values()]
    return "\n".join([aligned(lines, "<><>>>><"), *errors])


def walk(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yields entries and their parts."""
    for each in entries:
        yield each
        yield from walk(each.parts)


def _lines(entries: Sequence[Entry], indent: str) -> Iterator[tuple[str, ...]]:
    for each in entries:
        done, notes = each.status == "done", ""
        if isinstance(each.runs, int):
            notes = f" ({count(each.runs, 'run')})"
        elif done and each.parts:
            notes = f" ({count(len(each.parts), 'part')})"
        yield (
            each.status,
            _steps(each),
            each.metric or "",
            "" if each.value is None else brief(each.value),
            "" if each.seconds is None else duration(each.seconds),
            duration(each.age),
            amount(each.size, "B"),
            indent + each.name + notes,
        )
        if not done:
            yield from _lines(each.parts, indent + "  ")


def _steps(each: Entry) -> str:
    """Returns how far a run came: `45`, or `30/45`."""
    if each.step is None or each.steps in (None, each.step):
        return str(each.step or "")
    return f"{each.step}/{each.steps}"


def _age(path: Path) -> float:
    """Returns the seconds since the run wrote."""
    written = 0.0
    for name in (CONFIG, LOCK, ROWS, RESULT, CHECKPOINTS):
        with contextlib.suppress(OSError):
            written = max(written, (path / name).stat().st_mtime)
    return max(0.0, time.time() - written)


def _largest(steps: Any) -> int | None:
    each = steps if isinstance(steps, list) else [steps]
    return max((step for step in each if isinstance(step, int)), default=None)
