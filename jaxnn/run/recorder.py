"""The recorder of a run: looks at the network at moments of its training, and writes what it saw.

Looking is one small program, dispatched like the chunks of the training, and read one chunk late:
the device is never waited for. A moment is a step, so a run that goes on records what one that
nothing stopped has recorded.
"""

import json
from dataclasses import asdict
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.network import Network
from jaxnn.pictures.diagram import to_json
from jaxnn.records import files, recording
from jaxnn.records.background import Background
from jaxnn.records.directory import RunDirectory
from jaxnn.run.evaluate import predict
from jaxnn.run.observe import SHOWN, Plan, observe
from jaxnn.run.plan import Made, Schedule, made, plan, probe, probe_data, schedule, taken
from jaxnn.run.training import Progress, Training
from jaxnn.typing import Any

EXAMPLES = 8  # of the best, the worst and the most uncertain
JUDGED = 10_000  # examples that are looked at in the end
POINTS = 1000  # of them those that a picture of truth and prediction has


class Seen(NamedTuple):
    """What was seen at a moment, on the device."""

    step: int
    arrays: dict[str, Any]


class Recorder:
    """Records a single run in its directory, from the step on at which it begins or goes on.

    Attributes:
      moments: the steps at which the network is looked at.
    """

    def __init__(self, directory: RunDirectory, training: Training, step: int):
        self.directory = directory
        self.training = training
        self.folder = directory.path / recording.FOLDER
        self.folder.mkdir(exist_ok=True)
        files.sweep(self.folder)
        recording.cut(self.folder, step)
        self.schedule = schedule(training)
        self.moments = self.schedule.moments
        self.background = Background()
        self.background.start(self._prepare)

    def look(self, progress: Progress) -> Seen | None:
        """Looks at the network if it is time to, without waiting for the device."""
        done = recording.frame_name(progress.step)
        if progress.step not in self.moments or (self.folder / done).exists():
            return None
        self.background.wait()
        training = self.training
        data = training.data.shuffled(progress.trial.order)
        return Seen(
            progress.step, observe(training.learner, self.plan, progress.state, self.batch, data)
        )

    def keep(self, seen: Seen) -> None:
        """Writes what was seen."""
        self.directory.check_owner()
        recording.write(self.folder, recording.frame_name(seen.step), jax.device_get(seen.arrays))

    def end(self, state: Any) -> None:
        """Writes what the network makes of the data that it is evaluated on."""
        self.background.wait()
        self.directory.check_owner()
        recording.write(self.folder, recording.END, self._judged(state))

    def _judged(self, state: Any) -> dict[str, np.ndarray]:
        if self.plan.kind == "other":
            return {}
        data = probe_data(self.training)
        count = min(JUDGED, data.num_examples)
        index = (np.arange(count) * data.num_examples // count).astype(np.int32)
        batch = {name: np.asarray(x) for name, x in taken(data, index).items() if name != "weights"}
        outputs = predict(self.training.learner, state, batch["inputs"]).astype(np.float32)
        if self.plan.kind == "regression":
            pair = batch["labels"].reshape(count, -1), outputs.reshape(count, -1)
            return {name: x[:POINTS, 0] for name, x in zip(("truth", "predicted"), pair)}
        return _classified(batch, outputs)

    def _prepare(self) -> None:
        """Decides what is looked at and compiles it, beside the training's own programs."""
        training, folder = self.training, self.folder
        found = made(training)
        self.plan = plan(training, found, self.schedule)
        self.batch = probe(probe_data(training), self.schedule.probed)
        trial = jax.eval_shape(training.whole)
        data = jax.eval_shape(lambda d, k: d.shuffled(k), training.data, trial.order)
        observe.lower(training.learner, self.plan, trial.state, self.batch, data).compile()
        names = [n for n in ("inputs", "labels", "index") if hasattr(self.batch.get(n), "shape")]
        shown = {name: np.asarray(self.batch[name][:SHOWN]) for name in names}
        recording.write(folder, recording.PROBE, shown)
        about = json.dumps(_about(training, found, self.plan, self.schedule), default=str)
        files.write(folder / recording.ABOUT, about.encode())


def _classified(batch: dict[str, np.ndarray], outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the confusion of classes, and the examples that are worth looking at."""
    labels, classes = batch["labels"], outputs.shape[-1]
    rows = np.arange(len(labels))
    shifted = outputs - outputs.max(-1, keepdims=True)
    chances = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(-1)) - shifted[rows, np.clip(labels, 0, classes - 1)]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (np.clip(labels, 0, classes - 1), outputs.argmax(-1)), 1)
    first, second = np.sort(chances, -1)[:, -1], np.sort(chances, -1)[:, -2]
    orders = {"worst": -loss, "best": loss, "uncertain": first - second}
    found: dict[str, np.ndarray] = {"labels": np.unique(labels), "confusion": confusion}
    for name, order in orders.items():
        chosen = np.argsort(order, kind="stable")[:EXAMPLES]
        fields = {**batch, "outputs": outputs, "loss": loss}
        found |= {f"{name}/{field}": values[chosen] for field, values in fields.items()}
    return found


def _about(
    training: Training, found: Made | None, plan: Plan, schedule: Schedule
) -> dict[str, Any]:
    of = next(iter(training.evaluations), "train")
    shown = min(SHOWN, schedule.probed)
    return {
        "format": recording.FORMAT,
        "moments": schedule.moments,
        "probe": {"of": of, "count": schedule.probed, "shown": shown},
        "kind": plan.kind,
        "filters": plan.filters and asdict(plan.filters),
        "ground": plan.ground,
        "diagram": plan.diagram and to_json(plan.diagram),
        "outline": found and _outline("", found.network),
        "table": found and found.table.as_json(),
    }


def _outline(name: str, network: Network) -> dict[str, Any]:
    parts = network.parts
    settings = dict(parts.settings)
    children = [_outline(name, child) for name, child in parts.children]
    about = {"name": name, "kind": parts.kind, "settings": settings}
    return {**about, "times": parts.times, "children": children}
