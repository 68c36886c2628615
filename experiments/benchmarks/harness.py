"""Compares programs, each in its own process, in turn, and after a warm-up.

A *workload* is a task, and its contenders are programs that do it. A contender is a function
`given -> (train, test, note)`: `train()` does a round of the workload (and returns the seconds, if
only part of its time counts), `test()` returns the score of the trained program, and `note`
describes it. Each contender runs in its own process with the same data, and imports its packages
before the clock starts. Rounds alternate between contenders, in changing order, so that other load
on the machine affects all of them equally. A contender whose package is not installed is skipped
and listed.
"""

import multiprocessing
import os
import pickle
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

Figure = Literal["again", "first", "process", "memory"]
Build = Callable[[Any], tuple[Callable[[], Any], Callable[[], float], str]]


class Contender(NamedTuple):
    """A program: `build(given)` returns `(train, test, note)`, and imports `packages`."""

    build: Build
    packages: tuple[str, ...]


class Bar(NamedTuple):
    """An upper bound on the ratio of a figure of `ours` to that of `against`.

    Attributes:
      against: the names of contenders whose figures are added.
      at_most: the bound on the ratio.
      figure: the figure to compare, a field of `Measured`.
      other: the figure of `against`, if it is a different one.
      ours: the name of the contender that the bound applies to.
    """

    against: tuple[str, ...]
    at_most: float
    figure: Figure = "again"
    other: Figure | None = None
    ours: str = "jaxnn"


class Workload(NamedTuple):
    """A task to measure.

    Attributes:
      title: the name of the task and of the unit of work, such as `a step of 128 examples`.
      given: `quick -> data` for all contenders; `data.steps`, if any, divides the time of a round.
      contenders: the contenders by name; ratios are relative to the first.
      unit: the unit of the figure: `s`, `ms` or `us`.
      figure: the figure in the table, a field of `Measured`.
      rounds: the number of measurements of each contender.
      fresh: whether each measurement runs in a new process.
      cached: whether the processes of a contender share a compile cache, which the first one fills.
      learned: the name of the score that `test` returns.
      bars: the bounds on ratios.
    """

    title: str
    given: Callable[[bool], Any]
    contenders: Mapping[str, Contender]
    unit: Literal["s", "ms", "us"] = "ms"
    figure: Figure = "again"
    rounds: int = 7
    fresh: bool = False
    cached: bool = False
    learned: str = "accuracy"
    bars: Sequence[Bar] = ()


@dataclass(frozen=True)
class Measured:
    """The measurements of a contender; times are wall times in seconds, unless they are CPU times.

    Attributes:
      name: the name of the contender.
      note: its versions and settings.
      process: the time from the start of each process to the end of its first round.
      first: the time of setup and the first round, which compiles, without importing packages.
      again: the time of each later round, divided by its number of steps.
      cpu: the CPU time of all cores in these rounds, divided by their number of steps.
      cpu_process: the CPU time of all cores until the end of the first round of each process.
      memory: the peak resident set size of each process, in bytes.
      reached: the score of each process, from `test`.
    """

    name: str
    note: str = ""
    process: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    cpu_process: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    reached: list[float] = field(default_factory=list)

    def median(self, figure: str) -> float:
        """Returns the median of a figure."""
        return statistics.median(getattr(self, figure))


def compare(
    workload: Workload, *, quick: bool = False, rounds: int | None = None, only: Sequence[str] = ()
) -> tuple[list[Measured], dict[str, str]]:
    """Measures the contenders of a workload.

    Args:
      workload: the workload to measure.
      quick: whether to do a smaller amount of work, as a test.
      rounds: the number of measurements of each contender; by default that of the workload.
      only: the names of the contenders to measure; all by default.

    Returns:
      The measurements, and the missing packages of the skipped contenders by name.
    """
    chosen = {name: each for name, each in workload.contenders.items() if not only or name in only}
    missing = {name: ", ".join(_missing(each.packages)) for name, each in chosen.items()}
    rows = {name: Measured(name) for name in chosen if not missing[name]}
    with tempfile.TemporaryDirectory() as folder:
        given = workload.given(quick)
        path, steps = Path(folder, "given"), getattr(given, "steps", 1)
        with path.open("wb") as file:
            pickle.dump(given, file, protocol=5)

        def start(name: str) -> Running:
            cache = f"{folder}/{name}" if workload.cached else None
            return Running(rows[name], chosen[name], path, cache, steps)

        if workload.cached:
            for name in rows:
                start(name).leave()
        # Processes start one after another, so that none compiles while another one starts.
        steady = {} if workload.fresh else {name: start(name) for name in rows}
        for number in range(rounds or (1 if quick else workload.rounds)):
            for name in [*rows][:: 1 if number % 2 == 0 else -1]:
                running = start(name) if workload.fresh else steady[name]
                running.train()
                if workload.fresh:
                    rows[name] = running.end()
        for name, running in steady.items():
            rows[name] = running.end()
    return [*rows.values()], {name: words for name, words in missing.items() if words}


def _missing(packages: Sequence[str]) -> list[str]:
    return [package for package in packages if find_spec(package) is None]


class Running:
    """A contender in its own process, which has completed its first round."""

    def __init__(self, row: Measured, contender: Contender, given: Path, cache: Any, steps: int):
        self.row, self.steps = row, steps
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        began = time.perf_counter()
        self.process = context.Process(target=_work, args=(contender, given, cache, other))
        self.process.start()
        other.close()
        self.note, self.first, self.cpu = self._receive()
        self.whole = time.perf_counter() - began

    def train(self) -> None:
        """Runs a round, and appends its times to the row."""
        self.pipe.send("train")
        seconds, cpu = self._receive()
        self.row.again.append(seconds / self.steps)
        self.row.cpu.append(cpu / self.steps)

    def end(self) -> Measured:
        """Ends the process; returns the row with the score and the figures of the process."""
        self.pipe.send("test")
        reached, memory = self._receive()
        self.leave()
        figures = {"process": self.whole, "first": self.first, "cpu_process": self.cpu}
        figures |= {"memory": memory, "reached": reached}
        for name, figure in figures.items():
            getattr(self.row, name).append(figure)
        return replace(self.row, note=self.note)

    def leave(self) -> None:
        """Ends the process."""
        self.pipe.send(None)
        self.process.join()

    def _receive(self) -> Any:
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise SystemExit(f"{self.row.name}: its process ended early") from None
        if isinstance(answer, Exception):
            raise SystemExit(f"{self.row.name}: {answer}")
        return answer


def _work(contender: Contender, path: Path, cache: str | None, pipe: Any) -> None:
    os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported
    if cache is not None:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    try:
        for package in contender.packages:
            import_module(package)
        with path.open("rb") as file:
            given = pickle.load(file)  # noqa: S301, written by the process that started this one
        began = time.perf_counter()
        train, test, note = contender.build(given)
        train()
        pipe.send((note, time.perf_counter() - began, time.process_time()))
        for word in iter(pipe.recv, None):
            if word == "train":
                began, cpu = time.perf_counter(), time.process_time()
                own = train()
                taken = time.perf_counter() - began if own is None else own
                pipe.send((taken, time.process_time() - cpu))
            else:
                memory = peak_memory()
                pipe.send((test(), memory))
    except EOFError:
        return  # the comparison ended early
    except Exception as error:  # its type may come from a library that the reader lacks
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def peak_memory() -> float:
    """Returns the peak resident set size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike `getrusage`, it does not count the parent process
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return 1024.0 * int(kilobytes)
    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
