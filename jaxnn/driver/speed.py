"""How fast a run was: compiling, steps and floating-point operations a second, memory.

These are numbers of a machine on a day. They differ between runs that are otherwise the same, so
they have a file of their own, `speed.json`, beside the result.
"""

import threading
import time
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.driver.chunks import Training
from jaxnn.programs import products
from jaxnn.scale.memory import used
from jaxnn.scale.peaks import peak_flops
from jaxnn.typing import Any

_COMPILED = "/jax/core/compile/backend_compile_duration"
_compilations: list[tuple[float, int]] = []  # of this process: the seconds of each, its thread
_listening: list[bool] = []


class _Mark(NamedTuple):
    step: int
    seconds: float
    compilations: int


class Speed:
    """Measures a run from its creation on."""

    def __init__(self, training: Training):
        if not _listening:
            jax.monitoring.register_event_duration_secs_listener(_listen)
            _listening.append(True)
        self.training = training
        self.began = len(_compilations)
        self.first: _Mark | None = None
        self.last: _Mark | None = None

    def at(self, step: int) -> None:
        """Takes the time at a step, once there has been one."""
        if step:
            self.last = _Mark(step, time.perf_counter(), len(_compilations))
            self.first = self.first or self.last

    def summary(self, steps: Any) -> dict[str, Any]:
        """Returns the numbers, `None` for those that are unknown.

        Steps a second are those between the first chunk and the last, evaluations and all, without
        the time that compiling took; of all members together. Operations are those of the matrix
        products and convolutions of a step.

        Args:
          steps: that the run has done, or those of each member.
        """
        rate = self._rate(np.ravel(steps))
        flops = 2 * products(self.training.program.jaxpr)
        devices = self.training.devices
        peak = peak_flops(devices[0].device_kind)
        achieved = rate and rate * flops
        compiled = [seconds for seconds, _ in _compilations[self.began :]]
        memory = used()
        return {
            "compilations": len(compiled),
            "compile_seconds": round(sum(compiled), 3),
            "steps_per_second": rate and round(rate, 1),
            "flops_per_step": flops,
            "flops_per_second": achieved and round(achieved),
            "peak_flops_per_second": peak,
            "share_of_peak": peak and achieved and round(achieved / (peak * len(devices)), 4),
            "memory_bytes": memory.peak,
            "memory_of": memory.of,
        }

    def _rate(self, steps: np.ndarray) -> float | None:
        first, last = self.first, self.last
        if first is None or last is None or last.step == first.step:
            return None
        between = _compilations[first.compilations : last.compilations]
        mine = threading.get_ident()
        waited = sum(seconds for seconds, thread in between if thread == mine)
        done = int(np.maximum(steps - first.step, 0).sum())
        return done / max(last.seconds - first.seconds - waited, 1e-9)


def _listen(event: str, duration_secs: float, **details: Any) -> None:
    if event == _COMPILED:
        _compilations.append((duration_secs, threading.get_ident()))
