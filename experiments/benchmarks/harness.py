"""How programs are compared: each in a process of its own, in turn, warm-up apart.

A contender is a function at the top level of a module that takes the work and returns
`(train, test, note)`: `train()` does a round of it, `test()` says what it has reached. Rounds are
taken in turn, so that whatever else the machine does falls on all of them. A contender whose
package is missing is left out, and named.
"""

import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, NamedTuple

from jaxnn.formatting import aligned

Contender = Callable[[Any], tuple[Callable[[], Any], Callable[[], float], str]]


class Measured(NamedTuple):
    """What a contender took.

    Attributes:
      name: of the contender.
      seconds: of each round, or of a step of it.
      warm_up: seconds of importing, of setting up and of the first round, which compiles.
      reached: what it learned, on test data.
      memory: the most bytes that its process ever took.
      note: versions and settings.
    """

    name: str
    seconds: list[float]
    warm_up: float
    reached: float
    memory: int | None
    note: str

    @property
    def median(self) -> float:
        """The median of the seconds."""
        return statistics.median(self.seconds)


def compare(
    contenders: Mapping[str, tuple[Contender, str]], work: Any, *, rounds: int, per_round: int = 1
) -> list[Measured]:
    """Measures contenders on the same work, in turn.

    Args:
      contenders: by name, `(function, package)`.
      work: what each of them is given; it is sent to their processes.
      rounds: that each is measured, after one that is not.
      per_round: by which the seconds of a round are divided, such as its steps.
    """
    context, pipes = multiprocessing.get_context("spawn"), {}
    notes: dict[str, str] = {}
    seconds: dict[str, list[float]] = {}
    for name, (contender, package) in contenders.items():
        if find_spec(package) is None:
            words = f'{name} is left out: {package} is not installed (pip install -e ".[bench]")'
            print(words, file=sys.stderr, flush=True)
            continue
        pipes[name], other = context.Pipe()
        context.Process(target=_worker, args=(contender, work, other), daemon=True).start()
        # One after the other, so that none starts while another one compiles.
        notes[name], started = _received(name, pipes)
        pipes[name].send("train")
        seconds[name] = [started + _received(name, pipes)]
    for _ in range(rounds):
        for name in [*pipes]:
            pipes[name].send("train")
            seconds[name].append(_received(name, pipes))
    measured = []
    for name, pipe in [*pipes.items()]:
        pipe.send("test")
        reached, memory = _received(name, pipes)
        pipe.send(None)
        first, *others = seconds[name]
        each = [taken / per_round for taken in others]
        measured.append(Measured(name, each, first, reached, memory, notes[name]))
    return measured


def _received(name: str, pipes: dict[str, Any]) -> Any:
    """Returns what a contender answers; one that failed ends the comparison."""
    answer = pipes[name].recv()
    if isinstance(answer, Exception):
        raise SystemExit(f"{name}: {type(answer).__name__}: {answer}")
    return answer


def _worker(contender: Contender, work: Any, pipe: Any) -> None:
    try:
        began = time.perf_counter()
        train, test, note = contender(work)
        pipe.send((note, time.perf_counter() - began))
        for word in iter(pipe.recv, None):
            began = time.perf_counter()
            if word == "train":
                train()
                pipe.send(time.perf_counter() - began)
            else:
                from jaxnn.scale.memory import used_by

                pipe.send((test(), used_by().peak))
    except Exception as error:  # of another library, which may not be there where it is read
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def table(rows: list[Measured], unit: str = "ms") -> str:
    """Returns a line for each contender: median and spread, its ratio to the first, its memory."""
    scale = {"s": 1.0, "ms": 1e3, "us": 1e6}[unit]
    heads = ("", f"median, {unit}", "range", "ratio", "first, s", "memory, MB", "reached", "")
    lines: list[tuple[str, ...]] = [heads]
    for row in rows:
        figures = [scale * each for each in row.seconds]
        ratios = [own / first for own, first in zip(row.seconds, rows[0].seconds)]
        lines.append(
            (
                row.name,
                f"{scale * row.median:.4g}",
                f"{min(figures):.4g} to {max(figures):.4g}",
                f"{statistics.median(ratios):.2f}",
                f"{row.warm_up:.1f}",
                f"{row.memory / 1e6:.0f}" if row.memory else "",
                f"{row.reached:.4f}",
                row.note,
            )
        )
    return aligned(lines, "<>>>>>><", "  ")


def about() -> dict[str, Any]:
    """Returns what the figures depend on: the machine and the versions of all packages."""
    names = ("jax", "jaxlib", "flax", "optax", "equinox", "keras", "torch", "scikit-learn", "numpy")
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python"
        f" {platform.python_version()}",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": versions,
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }
