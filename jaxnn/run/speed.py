"""How fast a run was: compiling, steps and floating-point operations a second, memory.

These are numbers of a machine on a day. They differ between runs that are otherwise the same, so
they have a file of their own, `speed.json`, beside the result.
"""

import time

import jax

from jaxnn.programs import products
from jaxnn.run.training import Training
from jaxnn.scale.memory import used
from jaxnn.scale.peaks import peak_flops
from jaxnn.typing import Any

_COMPILED = "/jax/core/compile/backend_compile_duration"
_compilations: list[float] = []  # the seconds of each, of this process
_listening: list[bool] = []


class Speed:
    """Measures a run from where it is made on."""

    def __init__(self, training: Training):
        if not _listening:
            jax.monitoring.register_event_duration_secs_listener(_listen)
            _listening.append(True)
        self.training = training
        self.compiled = len(_compilations)
        self.first: tuple[int, float] | None = None
        self.last = (0, 0.0)

    def at(self, step: int) -> None:
        """Takes the time at a step; the first one comes after compiling."""
        self.last = step, time.perf_counter()
        self.first = self.first or self.last

    def told(self) -> dict[str, Any]:
        """Returns the numbers, `None` being what is not known.

        Steps a second are those between the first chunk and the last, evaluations and all, of all
        members together; operations are those of the matrix products and convolutions of a step.
        """
        training = self.training
        compiled = _compilations[self.compiled :]
        steps, seconds = self.last[0] - self.first[0], self.last[1] - self.first[1]  # pyright: ignore
        rate = (training.layout.members or 1) * steps / seconds if seconds > 0 else None
        flops = 2 * products(training.program.jaxpr)
        devices = training.layout.devices or jax.devices()[:1]
        peak = peak_flops(devices[0].device_kind)
        achieved = rate and rate * flops
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


def _listen(event: str, duration_secs: float, **details: Any) -> None:
    if event == _COMPILED:
        _compilations.append(duration_secs)
