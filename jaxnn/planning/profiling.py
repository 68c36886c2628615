"""Profiles the training steps of a run, by part of the network.

The JAX profiler writes a trace for xprof, TensorBoard and Perfetto. A table lists the time, FLOPs
and memory traffic of each part, and the fraction of the device's peak.
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
    """The profile of one part of the network in a step, including its gradient.

    Attributes:
      part: the name of the part, `"optimizer"`, `BETWEEN` for operations outside of all parts,
        `IDLE` for the time in which nothing is computed, or `"total"`.
      seconds: the time per step.
      share: the fraction of the time of a step.
      flops: the FLOPs of matrix products and convolutions per step.
      bytes: the memory traffic per step.
      share_of_peak: the FLOP/s as a fraction of the device's peak; `None` without products.
    """

    part: str
    seconds: float
    share: float
    flops: int
    bytes: int
    share_of_peak: float | None


@dataclass(frozen=True)
class Profile:
    """The profile of some training steps.

    Attributes:
      first: the number of steps before the profiled ones.
      last: the last profiled step.
      step_seconds: the mean time of a step.
      parts: the parts of the network, the slowest first, followed by `IDLE` and `"total"`.
    """

    first: int
    last: int
    step_seconds: float
    parts: tuple[PartProfile, ...]

    def __str__(self) -> str:
        heads = ("part", "per step", "share", "FLOPs", "bytes", "of peak")
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
        """Returns the profile as a JSON-serializable dict."""
        return {**asdict(self), "parts": [each._asdict() for each in self.parts]}


def steps_of_profile(text: str | None, steps: int) -> tuple[int, int] | None:
    """Parses a range of steps: `"100:120"` means the 20 steps after step 100.

    Raises:
      InvalidValue: if the text has another form, or the steps are not in the run.
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
            "a profile requires a single run with a directory",
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
    """Yields the chunks of a training run, and profiles some of its steps.

    Args:
      training: the run.
      first: the initial progress.
      moments: the steps at which a chunk ends, as in `Training.chunks`.
      steps: the range of steps to profile, `(first, last)`, as in `Profile`.
      path: the run directory, where the trace and the table are written.
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
    """Starts the profiler without Python calls, which would be most of the trace."""
    folder.mkdir(parents=True, exist_ok=True)
    if options := getattr(jax.profiler, "ProfileOptions", None):
        options = options()
        options.python_tracer_level = 0
        jax.profiler.start_trace(folder, profiler_options=options)
    else:
        jax.profiler.start_trace(folder)


def summarize(training: Training, folder: Path, steps: tuple[int, int]) -> Profile:
    """Returns the profile of a run from the trace of some of its steps."""
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
      done: the total time of each operation over all profiled steps.
      flops: pairs of the JAX name and the FLOPs of each product of a step, over all devices.
      moved: the memory traffic of a step in bytes, by JAX name.
      names: the JAX name of each operation.
      steps: the range of profiled steps, `(first, last)`.
      peak: the peak FLOP/s of a device.
      devices: the number of devices.
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
    """Returns the maximum depth of paths for which there are at most `ROWS` rows."""
    deepest = max(map(len, paths), default=1)
    fitting = [n for n in range(1, deepest + 1) if len({path[:n] for path in paths}) <= ROWS]
    return max(fitting, default=1)
