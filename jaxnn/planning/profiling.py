"""Profiles: where the time of some training steps goes, by part of the network.

The profiler of JAX writes a trace, which xprof, TensorBoard and Perfetto read; the table says the
time, the FLOPs and the bytes of each part, and the share of the device's peak.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import jax

from jaxnn.checks import InvalidValue
from jaxnn.driver import Progress
from jaxnn.driver.chunks import Training
from jaxnn.formatting import aligned, amount, percent
from jaxnn.planning.compilers import measured_peaks
from jaxnn.planning.figures import seconds
from jaxnn.planning.hlo import Program
from jaxnn.planning.parts import flops_by_scope, scopes
from jaxnn.planning.trace import Times, events, times
from jaxnn.scale.devices import peak_flops
from jaxnn.typing import Any

FOLDER, FILE = "profile", "profile.json"
ROWS = 24
BETWEEN, IDLE = "between the parts", "waiting"


class PartProfile(NamedTuple):
    """What a step spends in one part of the network, its gradient included.

    Attributes:
      part: its name, or `"optimizer"`, what is between the parts, and waiting.
      seconds: of a step.
      share: of the time of a step.
      flops: of its products, in a step.
      bytes: to and from memory, in a step.
      share_of_peak: the FLOPs a second, as a share of what the device can do at most.
    """

    part: str
    seconds: float
    share: float
    flops: int
    bytes: int
    share_of_peak: float | None


@dataclass(frozen=True)
class Profile:
    """Where the time of some steps went.

    Attributes:
      first: the step before the first that was profiled.
      last: the last of them.
      step_seconds: the time of a step.
      parts: of the network, in the order of their time.
    """

    first: int
    last: int
    step_seconds: float
    parts: tuple[PartProfile, ...]

    def __str__(self) -> str:
        heads = ("part", "a step", "share", "FLOPs", "bytes", "of peak")
        rows = [
            (
                each.part, seconds(each.seconds), percent(min(1.0, round(each.share, 6))),
                amount(each.flops), amount(each.bytes, "B"),
                "" if each.share_of_peak is None else percent(round(each.share_of_peak, 4)),
            )
            for each in self.parts
        ]  # fmt: skip
        words = f"Steps {self.first + 1:,} to {self.last:,}: {seconds(self.step_seconds)} each"
        return f"{words}\n{aligned([heads, *rows], '<>>>>>', '  ')}"

    def as_json(self) -> dict[str, Any]:
        """Returns the figures as JSON can hold them."""
        return {**asdict(self), "parts": [each._asdict() for each in self.parts]}


def steps_of_profile(text: str | None, steps: int) -> tuple[int, int] | None:
    """Reads a range of steps, `"100:120"`: those after step 100, up to 120.

    Raises:
      InvalidValue: if it is none, or outside of the run.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not first < last <= steps:
        middle = steps // 2
        raise InvalidValue(
            "fit",
            "the steps to profile are not steps of the run",
            got=f"profile={text!r} and {steps} steps",
            expected=f"FIRST:LAST with 0 <= FIRST < LAST <= {steps}",
            fix=f"Pass profile='{middle}:{min(steps, middle + 20)}'",
        )
    return first, last


def check_profile(training: Training, text: str | None, path: Path | None) -> Any:
    """Returns the steps to profile, checked against the run and its directory."""
    steps = steps_of_profile(text, training.steps)
    if steps is None:
        return None
    if path is None or training.layout.members is not None:
        alone = training.layout.members is None
        raise InvalidValue(
            "fit",
            "a profile is of a single run, and written into its directory",
            got="out=None" if alone else f"{training.layout.members} members",
            expected="one key, and a directory",
            fix="Pass out='runs/profiled'" if alone else "Pass key=jax.random.key(0)",
        )
    return steps


def profiled(
    training: Training,
    first: Progress,
    moments: Sequence[int],
    steps: tuple[int, int] | None,
    path: Path | None,
) -> Iterator[Progress]:
    """Yields the chunks of a training, and profiles some steps on the way.

    Args:
      training: what trains.
      first: where it begins.
      moments: steps at which a chunk ends, see `Training.chunks`.
      steps: the steps before the first and at the last that is profiled.
      path: the run directory, in which the trace and the table are written.
    """
    if steps is None or path is None or first.step > steps[0]:
        yield from training.chunks(first, moments=moments)
        return
    is_on = False
    try:
        for progress in training.chunks(first, moments=sorted({*moments, *steps})):
            if progress.step == steps[0] and not is_on:
                jax.block_until_ready([part.state for part in progress.placed.parts])
                _start(path / FOLDER)
                is_on = True
            elif is_on and progress.step >= steps[1]:
                jax.block_until_ready([part.state for part in progress.placed.parts])
                jax.profiler.stop_trace()
                is_on = False
                profile = summarize(training, path / FOLDER, steps)
                (path / FILE).write_text(json.dumps(profile.as_json(), indent=2) + "\n")
                print(profile, flush=True)
            yield progress
    finally:
        if is_on:
            jax.profiler.stop_trace()


def _start(folder: Path) -> None:
    """Starts the profiler, without the calls of Python, which would be most of what it writes."""
    folder.mkdir(parents=True, exist_ok=True)
    if options := getattr(jax.profiler, "ProfileOptions", None):
        options = options()
        options.python_tracer_level = 0
        jax.profiler.start_trace(folder, profiler_options=options)
    else:
        jax.profiler.start_trace(folder)


def summarize(training: Training, folder: Path, steps: tuple[int, int]) -> Profile:
    """Returns the profile of a training from the trace of some of its steps."""
    done = times(events(folder, f"jit_{training.form}"))
    program = Program(training.lowered().compile().as_text())
    device = training.devices[0]
    peak = peak_flops(device.device_kind)
    peak = measured_peaks(device, 2**20)[1] if peak is None else peak
    flops = [*flops_by_scope(training.program.jaxpr)]
    figures = done, flops, program.traffic_by_name(), program.op_names
    return profile_of(*figures, steps, peak, len(training.devices))


def profile_of(
    done: Times,
    flops: list[tuple[str, int]],
    moved: dict[str, int],
    names: dict[str, str],
    steps: tuple[int, int],
    peak: float,
    devices: int = 1,
) -> Profile:
    """Returns a profile from the times of operations, the FLOPs and the bytes of a step.

    Args:
      done: the times of the operations in all steps.
      flops: of the products of a step, over all devices, by what JAX calls them.
      moved: the bytes of a step, by the same.
      names: what JAX calls each operation.
      steps: the steps before the first and at the last.
      peak: operations a second of a device.
      devices: their number.
    """
    count = steps[1] - steps[0]
    spent: dict[tuple[str, ...], float] = {}
    for operation, time in done.operations.items():
        path = _path(names.get(operation, ""))
        spent[path] = spent.get(path, 0.0) + time / count
    depth = _depth([*spent, *(_path(name) for name, _ in flops)])
    rows: dict[str, list[float]] = {}

    def add(path: tuple[str, ...], place: int, number: float) -> None:
        rows.setdefault("/".join(path[:depth]) or BETWEEN, [0.0, 0, 0])[place] += number

    for path, time in spent.items():
        add(path, 0, time)
    for name, number in flops:
        add(_path(name), 1, number)
    for name, number in moved.items():
        add(_path(name), 2, number)
    step = done.total / count
    parts = [
        PartProfile(
            part, time, time / max(step, 1e-12), round(number), round(size),
            number / devices / time / peak if number and time else None,
        )
        for part, (time, number, size) in sorted(rows.items(), key=lambda row: -row[1][0])
    ]  # fmt: skip
    idle = done.idle / count
    parts.append(PartProfile(IDLE, idle, idle / max(step, 1e-12), 0, 0, None))
    number = sum(each.flops for each in parts)
    size = sum(each.bytes for each in parts)
    total = sum(each.seconds for each in parts)
    of_peak = number / devices / step / peak if number and step else None
    parts.append(PartProfile("total", total, total / max(step, 1e-12), number, size, of_peak))
    return Profile(*steps, step, tuple(parts))


def _path(name: str) -> tuple[str, ...]:
    return tuple(scopes(name)[0])


def _depth(paths: Sequence[tuple[str, ...]]) -> int:
    """Returns how many names of each path are shown, such that there are not too many rows."""
    deepest = max(map(len, paths), default=1)
    fitting = [n for n in range(1, deepest + 1) if len({path[:n] for path in paths}) <= ROWS]
    return max(fitting, default=1)
