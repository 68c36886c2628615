"""What a run reports: rows of numbers on the host, and its result."""

import time

import jax
import numpy as np

from jaxnn.driver.chunks import Progress, Training
from jaxnn.loop.statuses import RUNNING, STATUSES
from jaxnn.storage.checkpointing import RestoredRun
from jaxnn.typing import Any


class Record:
    """Makes rows of progress: numbers on the host, with the time they took."""

    def __init__(self, training: Training):
        self.training = training
        self.rows: list[dict[str, Any]] = []
        self.members = training.layout.members
        self.status: Any = RUNNING
        self.began = time.perf_counter()

    def go_on(self, kept: RestoredRun) -> None:
        """Takes up the rows and the time of a run that goes on."""
        self.rows = kept.rows
        self.status = _plain(kept.trial.status)
        self.began -= kept.seconds

    @property
    def seconds(self) -> float:
        """The time that the run has taken."""
        return round(time.perf_counter() - self.began, 3)

    def add(self, progress: Progress) -> dict[str, Any]:
        """Waits for the metrics of a report, and returns its row."""
        metrics = {name: _plain(value) for name, value in progress.metrics.items()}
        self.status = _plain(progress.status)
        examples = progress.step * self.training.data.batch_size
        row = {
            "step": progress.step,
            "epoch": round(examples / self.training.data.num_examples, 4),
            "seconds": self.seconds,
            **({} if self.members is None else {"running": self.status.count(RUNNING)}),
            **metrics,
        }
        self.rows.append(row)
        return row

    @property
    def goes_on(self) -> bool:
        """Whether the run, or some member, has not ended by itself."""
        return RUNNING in np.ravel(self.status)

    def result(self, name: str, progress: Progress) -> dict[str, Any]:
        """Returns the result: the last value of each metric, and that of the best evaluation."""
        metrics = {k: v for row in self.rows for k, v in row.items() if "/" in k}
        # These alone: of a population, a copy of all states might not fit into memory.
        steps = progress.placed.ordered(lambda trial: trial.state.step)
        best = {}
        if self.training.watch is not None:
            best = progress.placed.ordered(
                lambda trial: trial.best and trial.best._replace(state=None)
            )
            best = {f"best/{self.training.watch.metric}": best.value, "best/step": best.step}
        return {
            "experiment": name,
            **({} if self.members is None else {"members": self.members}),
            "steps": _plain(steps),
            "seconds": self.rows[-1]["seconds"],
            "status": jax.tree.map(lambda n: "done" if n == RUNNING else STATUSES[n], self.status),
            **metrics,
            **{name: _plain(value) for name, value in best.items()},
            "form": self.training.form,
            "device": self.training.devices[0].device_kind,
            "jax": jax.__version__,
        }


def _plain(value: Any) -> Any:
    """Returns a number on the host, or of a population the list of them."""
    return np.asarray(value).tolist()
