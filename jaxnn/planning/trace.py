"""Reads the duration of each operation from a trace of the JAX profiler.

Operations of one device may overlap, in several threads of a CPU. The time of an overlap is divided
equally among them, so that the times of all operations add up to the time in which any is active.
"""

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jaxnn.typing import Any


class Event(NamedTuple):
    """One execution of an operation; times are in microseconds.

    Attributes:
      name: the name of the instruction.
      thread: the thread that executed it.
      start: the start time.
      end: the end time.
      run: the identifier of the call of the program.
    """

    name: str
    thread: Any
    start: float
    end: float
    run: str = ""


@dataclass(frozen=True)
class Times:
    """The times of the operations of a program, in seconds.

    Attributes:
      operations: the time of each instruction, by name.
      total: the time from the start to the end of each call of the program, summed over calls.
    """

    operations: dict[str, float]
    total: float

    @property
    def idle(self) -> float:
        """The time in which no operation is active, in seconds."""
        return max(0.0, self.total - sum(self.operations.values()))


def events(folder: Path, module: str) -> list[Event]:
    """Returns the operations of a compiled program on its first device, from a trace.

    Args:
      folder: the folder of the trace.
      module: the name of the program, such as `"jit_looped"`.
    """
    collected: dict[Any, list[Event]] = {}
    for path in sorted(folder.rglob("*.trace.json.gz")):
        with gzip.open(path) as file:
            traced = json.load(file)["traceEvents"]
        for each in traced:
            about = each.get("args") or {}
            name = about.get("hlo_op")
            if name and each.get("ph") == "X" and about.get("hlo_module", module) == module:
                start, thread = float(each["ts"]), (each.get("pid"), each.get("tid"))
                device = about.get("device_ordinal", each.get("pid"))
                run, end = str(about.get("run_id", "")), start + float(each.get("dur", 0))
                event = Event(name, thread, start, end, run)
                collected.setdefault(str(device), []).append(event)
    return collected[min(collected)] if collected else []


def times(done: Iterable[Event]) -> Times:
    """Returns the time of each operation; the time of an overlap is divided equally.

    Of nested operations, such as a loop and its body, only the innermost counts.

    >>> times([Event("loop", 0, 0, 4e6), Event("a", 0, 1e6, 3e6), Event("b", 1, 2e6, 6e6)])
    Times(operations={'loop': 1.5, 'a': 1.5, 'b': 3.0}, total=6.0)
    """
    borders: list[tuple[float, int, int, Event]] = []
    for number, each in enumerate(done):
        borders.append((each.start, 1, number, each))
        borders.append((each.end, 0, number, each))
    borders.sort(key=lambda each: each[:2])
    open_: dict[Any, list[Event]] = {}
    sums: dict[str, float] = {}
    last = borders[0][0] if borders else 0.0
    for moment, starts, _, event in borders:
        if open_ and moment > last:
            share = (moment - last) / len(open_) / 1e6
            for stack in open_.values():
                sums[stack[-1].name] = sums.get(stack[-1].name, 0.0) + share
        last = moment
        stack = open_.setdefault(event.thread, [])
        if starts:
            stack.append(event)
        else:
            stack.remove(event)
            if not stack:
                del open_[event.thread]
    calls: dict[str, tuple[float, float]] = {}
    for _, _, _, event in borders:
        start, end = calls.get(event.run, (event.start, event.end))
        calls[event.run] = min(start, event.start), max(end, event.end)
    return Times(sums, sum(end - start for start, end in calls.values()) / 1e6)
