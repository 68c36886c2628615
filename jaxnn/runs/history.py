"""The history of a run: its reports as rows of numbers on the host, and its result."""

import time
import warnings

import jax
import numpy as np

from jaxnn.catalog import outcome
from jaxnn.checks import Caution
from jaxnn.driver.chunks import Training
from jaxnn.driver.placement import Progress
from jaxnn.loop.statuses import DIVERGED, RUNNING, STATUSES
from jaxnn.storage.checkpointing import RestoredRun
from jaxnn.typing import Any


class History:
    """The rows of a run so far.

    Attributes:
      rows: a dict for each report, with a number for each metric, or a list over members.
      status: the status at the last report, or a list over members.
    """

    def __init__(self, training: Training, restored: RestoredRun | None, began: float):
        self.training = training
        self.rows: list[dict[str, Any]] = restored.rows if restored else []
        self.status: Any = _plain(restored.trial.status) if restored else RUNNING
        self.began = began - (restored.seconds if restored else 0.0)
        members = training.layout.members
        self.members = {} if members is None else {"members": members}

    @property
    def seconds(self) -> float:
        """The duration of the run in seconds, including the time before it resumed."""
        return round(time.perf_counter() - self.began, 3)

    @property
    def is_running(self) -> bool:
        """Whether the run, or at least one member, has the status `RUNNING`."""
        return RUNNING in np.ravel(self.status)

    def add(self, progress: Progress) -> dict[str, Any]:
        """Waits for the metrics of a report, appends its row, and returns the row."""
        metrics = {name: _plain(value) for name, value in progress.metrics.items()}
        self.status = _plain(progress.status)
        data = self.training.data
        epochs = progress.step * data.batch_size / (data.num_examples or 1)
        row = {
            "step": progress.step,
            **({"epoch": round(epochs, 4)} if data.num_examples else {}),
            "seconds": self.seconds,
            **({"running": self.status.count(RUNNING)} if self.members else {}),
            **metrics,
        }
        self.rows.append(row)
        return row

    def result(self, name: str, progress: Progress) -> dict[str, Any]:
        """Returns the result: the last value of each metric, and its value at the best state."""
        # Only these arrays: a copy of all states might not fit into memory.
        steps, best = progress.placed.ordered(
            lambda trial: (trial.state.step, trial.best and trial.best._replace(state=None))
        )
        watch, figures = self.training.watch, {}
        if watch is not None:
            step = _plain(best.step)
            value = np.where(np.asarray(best.step) > 0, np.asarray(best.value), np.nan)
            known = {watch.metric: None, **outcome.at_steps(self.rows, step)}
            known[watch.metric] = _plain(value)
            figures = {f"best/{name}": each for name, each in known.items()} | {"best/step": step}
            self._warn_unless_measured(figures)
        return {
            "experiment": name,
            **self.members,
            "steps": _plain(steps),
            "seconds": self.rows[-1]["seconds"],
            "status": jax.tree.map(lambda n: "done" if n == RUNNING else STATUSES[n], self.status),
            **{k: v for row in self.rows for k, v in row.items() if "/" in k},
            **figures,
            **outcome.directions(self.training.directions, watch),
            "form": self.training.form,
            "device": self.training.devices[0].device_kind,
            "jax": jax.__version__,
        }

    def _warn_unless_measured(self, figures: dict[str, Any]) -> None:
        """Warns if the watched metric was always NaN in a run or member that has not diverged."""
        name, steps = next(iter(figures)).removeprefix("best/"), np.ravel(figures["best/step"])
        never = (steps == 0) & (np.ravel(self.status) != DIVERGED)
        if never.any():
            whose = f" of {never.sum()} of {never.size} members" if self.members else ""
            text = (
                f"the watched metric {name}{whose} was not a number at any evaluation, so the last"
                " state stands for the best. Watch a metric that is defined on these data"
            )
            warnings.warn(text, Caution, stacklevel=3)


def _plain(value: Any) -> Any:
    """Returns a number on the host, or a list of the numbers of all members."""
    return np.asarray(value).tolist()
