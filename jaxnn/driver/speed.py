"""The speed of a run: compile time, steps and floating-point operations per second, and memory.

These figures depend on the machine and vary between otherwise identical runs. They are therefore
stored separately from the result, in `speed.json`.
"""

import threading
import time
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.driver.chunks import Training
from jaxnn.programs import products
from jaxnn.scale.devices import peak_flops
from jaxnn.scale.memory import used
from jaxnn.streams._stream import Stream
from jaxnn.typing import Any

_COMPILED = "/jax/core/compile/backend_compile_duration"


class _Compilation(NamedTuple):
    began: float
    ended: float
    thread: int


_compilations: list[_Compilation] = []  # all compilations of this process
_listening: list[bool] = []

# The number of recent chunks that the displayed speed is computed from.
RECENT = 20


class _Mark(NamedTuple):
    step: int
    seconds: float
    compilations: int
    waited: float


class Speed:
    """Measures the speed of a run, starting when it is created."""

    def __init__(self, training: Training):
        if not _listening:
            jax.monitoring.register_event_duration_secs_listener(_listen)
            _listening.append(True)
        self.training = training
        self.began = time.perf_counter()
        self.compiled = len(_compilations)  # before the run
        self.marks: list[_Mark] = []
        self.meter = replace(training.meter)  # before the run

    def at(self, step: int) -> None:
        """Records the time at a step; step 0 is ignored."""
        if step:
            waited = self.training.meter.waited
            self.marks.append(_Mark(step, time.perf_counter(), len(_compilations), waited))

    def recent(self) -> float | None:
        """Returns the steps per second of recent chunks; `None` if there are fewer than two.

        Chunks before the last compilation in any thread are left out, if two remain.
        """
        marks = self._recent()
        return _rate(marks, marks[-1].step - marks[0].step) if marks else None

    def waiting(self) -> float | None:
        """Returns the fraction of the time of these chunks in which devices waited for data.

        It is `None` if all data are on the devices.
        """
        marks = self._recent()
        if not self._reads or len(marks) < 2:
            return None
        waited = marks[-1].waited - marks[0].waited
        return min(1.0, waited / max(marks[-1].seconds - marks[0].seconds, 1e-9))

    @property
    def _reads(self) -> bool:
        """Whether any data are read during training."""
        data = self.training.data, *self.training.evaluations.values()
        return any(isinstance(each, Stream) for each in data)

    def _recent(self) -> list[_Mark]:
        marks = self.marks[-RECENT:]
        ended = max((each.ended for each in _compilations[self.compiled :]), default=0.0)
        since = [mark for mark in marks if mark.seconds >= ended]
        return since if len(since) > 1 else marks

    def summary(self, steps: Any) -> dict[str, Any]:
        """Returns the figures by name; unknown ones are `None`.

        `steps_per_second` counts the steps of all members between the first and the last chunk. Its
        time includes evaluation, but not compilation. The first chunk ends after `first_seconds` at
        step `first_steps`, the last after `seconds`, since the run started or resumed.
        `flops_per_step` counts matrix products and convolutions. `data_wait_share`, reported if
        data are read during training, is the fraction of the time without compilation in which the
        devices waited for data.

        Args:
          steps: the number of completed steps, or the numbers of all members.
        """
        first = self.marks[0].step if self.marks else 0
        times = [mark.seconds - self.began for mark in (self.marks[:1] + self.marks[-1:])]
        started, ended = (round(each, 3) for each in times) if times else (None, None)
        rate = _rate(self.marks, int(np.maximum(np.ravel(steps) - first, 0).sum()))
        flops = 2 * products(self.training.program.jaxpr)
        devices = self.training.devices
        peak = peak_flops(devices[0].device_kind)
        achieved = rate and rate * flops
        # Compilation in other threads does not delay the run.
        compiled = _compilations[self.compiled :]
        memory = used()
        seconds = time.perf_counter() - self.began - _waited(compiled)
        meter = self.training.meter
        waited = meter.waited - self.meter.waited
        reading = {
            "data_wait_seconds": round(waited, 3),
            "data_wait_share": round(min(1.0, waited / max(seconds, 1e-9)), 4),
            "examples_skipped": meter.skipped - self.meter.skipped,
        }
        return {
            "compilations": len(compiled),
            "compile_seconds": round(_waited(compiled), 3),
            "first_steps": first,
            "first_seconds": started,
            "seconds": ended,
            "steps_per_second": rate and round(rate, 1),
            "flops_per_step": flops,
            "flops_per_second": achieved and round(achieved),
            "peak_flops_per_second": peak,
            "share_of_peak": peak and achieved and round(achieved / (peak * len(devices)), 4),
            "memory_bytes": memory.peak,
            "memory_of": memory.of,
            **(reading if self._reads else {}),
        }


def _rate(marks: list[_Mark], steps: int) -> float | None:
    """Returns `steps` per second between the first and last mark, without compile time."""
    if not marks or marks[-1].step == marks[0].step:
        return None
    between = _compilations[marks[0].compilations : marks[-1].compilations]
    return steps / max(marks[-1].seconds - marks[0].seconds - _waited(between), 1e-9)


def _waited(compilations: list[_Compilation]) -> float:
    """Returns the seconds of the compilations in this thread."""
    mine = threading.get_ident()
    return sum(each.ended - each.began for each in compilations if each.thread == mine)


def _listen(event: str, duration_secs: float, **details: Any) -> None:
    if event == _COMPILED:
        now = time.perf_counter()
        _compilations.append(_Compilation(now - duration_secs, now, threading.get_ident()))
