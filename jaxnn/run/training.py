"""A training that is ready to go: the loop on the host that dispatches chunks of steps.

Steps are dispatched in chunks of half a second to a second, always one ahead of the device, which
never waits for the host. Reports, evaluations and the end come at absolute steps: how chunks fall
changes nothing.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn import metrics as measures
from jaxnn.data.resident import Resident
from jaxnn.learner import Learner
from jaxnn.run.evaluate import evaluation
from jaxnn.run.run import Form, advance, empty_window
from jaxnn.typing import Any

# Long enough that starting a program costs nothing (a convnet's first touch of its memory: 15 ms),
# short enough that a signal is served at once.
CHUNK_SECONDS = 1.0


class Progress(NamedTuple):
    """Where a run stands.

    Attributes:
      step: training steps done.
      state: the state after them, valid until the loop goes on, which uses up its arrays; keep a
        copy, `jax.tree.map(jnp.copy, progress.state)`.
      metrics: `{"train/loss": ..., "test/accuracy": ...}`, scalars on the device; reading one waits
        for it. Those of training are over the steps since the report before. Empty between reports.
    """

    step: int
    state: Any
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Training:
    """A run that is ready to start: everything is checked, nothing is compiled. Made by `train`.

    Iterating over it trains from the beginning and yields a `Progress` at every report.

    Attributes:
      learner: how parameters change.
      data: what is trained on, in the order of the run's key.
      evaluations: data to evaluate on, by name.
      key: decides everything that is random.
      hparams: the hyper-parameters, float32.
      steps: the step at which the run ends.
      every: steps between reports.
      evaluate_every: steps between evaluations.
      form: how steps are dispatched.
      metrics: the shapes of the metrics of a step.
    """

    learner: Learner
    data: Resident = field(repr=False)
    evaluations: dict[str, Resident] = field(repr=False)
    key: Any = field(repr=False)
    hparams: dict[str, Any]
    steps: int
    every: int
    evaluate_every: int
    form: Form
    metrics: Any = field(repr=False)

    def __iter__(self) -> Iterator[Progress]:
        return (progress for progress in self.chunks() if progress.metrics)

    def initial_state(self) -> Any:
        """Returns the state that the run begins with."""
        return begin(self.learner, self.key, self.hparams, self.data)

    def chunks(self) -> Iterator[Progress]:
        """Trains; yields a `Progress` after every chunk, with metrics where a report is due."""
        state = self.initial_state()
        window = empty_window(self.metrics)
        step, length, token = 0, 1, None
        waited = time.perf_counter()
        while step < self.steps:
            border = min(self.steps, (step // self.every + 1) * self.every)
            n = min(length, border - step)
            previous = token
            state, window, token = advance(self.learner, state, self.data, n, window, self.form)
            step += n
            metrics = {}
            if step == border:
                found, window = _report(window)
                metrics = _named("train", found) | self._evaluations(step, state)
            # One chunk is always under way while the host waits for the one before.
            if previous is not None:
                jax.block_until_ready(previous)
                now = time.perf_counter()
                if now - waited < CHUNK_SECONDS / 2 and n == length:
                    length = min(2 * length, 1 << 24)
                elif now - waited > CHUNK_SECONDS:
                    length = max(1, length // 2)
                waited = now
            yield Progress(step, state, metrics)

    def _evaluations(self, step: int, state: Any) -> dict[str, Any]:
        """Returns the metrics of the evaluations that are due at a report."""
        before = (step - 1) // self.every * self.every
        due = step // self.evaluate_every > before // self.evaluate_every
        metrics = {}
        if due or step == self.steps:
            for name, part in self.evaluations.items():
                metrics |= _named(name, evaluation(self.learner, state, part))
        return metrics


@partial(jax.jit, static_argnums=0)
def begin(learner: Learner, key: Any, hparams: Any, data: Resident) -> Any:
    """Returns the state that a run begins with."""
    return learner.init(key, hparams, data.batch(jnp.int32(0)))


@partial(jax.jit, donate_argnums=0)
def _report(window):
    """Returns the values of a window's metrics, and the window emptied."""
    return measures.values(window), jax.tree.map(jnp.zeros_like, window)


def _named(part: str, values: dict[str, Any]) -> dict[str, Any]:
    """Puts the name of the data before those of the metrics, the loss first."""
    return {f"{part}/{name}": values[name] for name in sorted(values, key=lambda n: n != "loss")}
