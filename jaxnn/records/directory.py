"""The run directory: what was asked (`config.json`), what happened (`metrics.jsonl`), the result.

`result.json` is written last and at once, so a directory that has one is that of a finished run.
One process writes to a directory at a time; the lock is freed by the system whatever ends it.
"""

import dataclasses
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxnn.checks import Explained, InvalidValue


class DirectoryInUse(Explained):
    """Another process is writing to the run directory."""


def plain(config: Any) -> dict[str, Any]:
    """Returns a configuration, a mapping or a dataclass, as what JSON can hold."""
    fields = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config or {})  # pyright: ignore
    # JSON has no NaN and no infinity: in a configuration they become words.
    return json.loads(json.dumps(fields, default=_plain), parse_constant=str)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)  # arrays of any kind


def digest(config: Any) -> str:
    """Returns ten hexadecimal digits that stand for a configuration."""
    text = json.dumps(plain(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def unfinished(path: Path) -> Path:
    """Returns `path`, or if a run is finished there the first of `path-2`, `path-3`, ... free."""
    path = path if path.name else path.resolve()  # "." has no name
    candidate, number = path, 1
    while (candidate / "result.json").exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def finished(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Returns the result and the rows of the run that is finished at `path`, if there is one."""
    if not (path / "result.json").exists():
        return None
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return json.loads((path / "result.json").read_text()), [json.loads(line) for line in lines]


class RunDirectory:
    """An open run directory; made by `open_directory`.

    Attributes:
      path: where it is.
    """

    def __init__(self, path: Path):
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a row to `metrics.jsonl`, in one write."""
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(_json(row) + "\n")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes `result.json`, which ends the run."""
        self.write("result.json", (_json(result, indent=2) + "\n").encode())

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole or not at all, also when the machine stops in the middle."""
        draft = self.path / f".{name}.tmp"
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self.path / name)


@contextmanager
def open_directory(path: Path, config: Any) -> Iterator[RunDirectory]:
    """Opens a new or unfinished run directory for one writer, and writes `config.json`.

    Raises:
      InvalidValue: if `path` is a directory of something else, or of another configuration.
      DirectoryInUse: if another process is writing there.
      OSError: if it cannot be written.
    """
    wanted = plain(config)
    _check_ours(path, wanted)
    path.mkdir(parents=True, exist_ok=True)
    with open(path / ".lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUse(
                "run directory",
                "another process is writing there",
                got=str(path),
                expected="a directory that no run is using",
                fix="Wait for that run to end, or name another directory (--out)",
            ) from None
        # Looked at again now that nobody else writes: another run may just have ended here.
        _check_ours(path, wanted)
        if (path / "result.json").exists():
            raise DirectoryInUse(
                "run directory",
                "another process has just finished its run there",
                got=str(path),
                expected="a directory that no run is using",
                fix="Start again: the run then goes to a directory beside it",
            )
        directory = RunDirectory(path)
        directory.write("config.json", (json.dumps(wanted, indent=2) + "\n").encode())
        # An unfinished run begins again: its rows would otherwise stand twice.
        (path / "metrics.jsonl").unlink(missing_ok=True)
        yield directory


def _check_ours(path: Path, wanted: dict[str, Any]) -> None:
    if path.exists() and not path.is_dir():
        raise _not_ours(path, "a file")
    if not path.exists() or not any(path.iterdir()):
        return
    if not (path / "config.json").exists():
        # The lock alone is what a run leaves that was stopped before its first write.
        if {entry.name for entry in path.iterdir()} != {".lock"}:
            raise _not_ours(path, "a directory with other files and no config.json")
        return
    try:
        found = json.loads((path / "config.json").read_text())
    except ValueError:
        raise _not_ours(path, "a config.json that is not JSON") from None
    if found != wanted:
        fields = [f for f in {**found, **wanted} if found.get(f) != wanted.get(f)]
        raise InvalidValue(
            "run directory",
            f"{path} belongs to a run with another configuration",
            got=", ".join(f"{f}={wanted.get(f)!r}" for f in fields),
            expected=", ".join(f"{f}={found.get(f)!r}" for f in fields),
            fix="Name another directory (--out), or delete that one",
        )


def _not_ours(path: Path, what: str) -> InvalidValue:
    return InvalidValue(
        "run directory",
        f"{path} is not a run directory",
        got=what,
        expected="a directory that is new, empty or of an unfinished run",
        fix="Name another directory (--out)",
    )


def _json(row: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON has no infinity and no NaN: they are written as null."""

    def finite(value):
        if isinstance(value, list):
            return [finite(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    named = {name: finite(value) for name, value in row.items()}
    return json.dumps(named, indent=indent, allow_nan=False)
