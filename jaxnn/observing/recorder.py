"""The recorder of a run: looks at the network at moments of its training, and writes what it saw.

Looking is one small program, dispatched like the chunks of the training, and read one chunk late:
the device is never waited for. A moment is a step, so a run that goes on records what one that
nothing stopped has recorded.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial, wraps
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.checks import Caution
from jaxnn.driver.chunks import Progress, Training
from jaxnn.network import Network
from jaxnn.observing.final_predictions import JUDGED, examples, judged
from jaxnn.observing.observation import SHOWN, Plan, observe
from jaxnn.observing.plan import Made, Schedule, made, plan, probe, probe_data, schedule
from jaxnn.pictures.diagram import Diagram, to_json
from jaxnn.storage import files, json_files, recording
from jaxnn.storage.background import Background
from jaxnn.storage.directory import DirectoryInUse, RunDirectory, finished
from jaxnn.typing import Any, Callable


class Seen(NamedTuple):
    """What was seen at a moment, on the device."""

    step: int
    arrays: dict[str, Any]


def _spared(method: Callable[..., Any]) -> Callable[..., Any]:
    """Makes an error of recording a caution, after which nothing is recorded any more.

    A run is worth more than its recording. That another process has taken the directory is an
    error of the run.
    """

    @wraps(method)
    def spared(self, *arguments):
        if self.ended:
            return None
        try:
            return method(self, *arguments)
        except DirectoryInUse:
            raise
        except Exception as error:
            self.ended = True
            why = f"{type(error).__name__}: {error}"
            text = f"the run goes on, but is not recorded any more ({why})"
            warnings.warn(text, Caution, stacklevel=2)
            return None

    return spared


@contextmanager
def recorder_of(
    directory: RunDirectory, training: Training, step: int | None, wanted: bool
) -> Iterator["Recorder | None"]:
    """Yields what records a run, and waits in the end for what it does beside the training.

    Args:
      directory: of the run.
      training: the run; a population is not recorded, nor one that is finished already.
      step: at which it goes on; `None` where it begins.
      wanted: whether to record it. If not, what was recorded before is cut to where it goes on.
    """
    if finished(directory.path) is not None:
        yield None
    elif wanted and training.layout.members is None:
        found = Recorder(directory, training, step)
        try:
            yield found
        finally:
            found.close()
    else:
        recording.cut(directory.path / recording.FOLDER, -1 if step is None else step)
        yield None


class Recorder:
    """Records a single run in its directory; made by `recorder_of`.

    Attributes:
      moments: the steps at which the network is looked at.
      ended: whether nothing is recorded any more.
    """

    def __init__(self, directory: RunDirectory, training: Training, step: int | None):
        self.directory = directory
        self.training = training
        self.folder = directory.path / recording.FOLDER
        self.moments: tuple[int, ...] = ()
        self.ended = False
        self.background = Background()
        self._begin(step)

    @_spared
    def _begin(self, step: int | None) -> None:
        self.folder.mkdir(exist_ok=True)
        files.sweep(self.folder)
        recording.cut(self.folder, -1 if step is None else step)
        self.schedule = schedule(self.training)
        self.moments = self.schedule.moments
        # While this is traced, for which Python is needed, the training's own program compiles.
        own, training = Background(), self.training
        lowered = training.lowered()
        own.start(lambda: lowered.compile() and None)
        found = made(training)
        self.plan, drawn = plan(training, found, self.schedule)
        self.batch = probe(probe_data(training), self.schedule.probed)
        state = jax.eval_shape(training.whole).state
        looks = observe.lower(training.learner, self.plan, state, self.batch, training.data)
        self.background.start(partial(self._prepare, looks, found, drawn))
        own.wait()

    @_spared
    def look(self, progress: Progress) -> Seen | None:
        """Looks at the network if it is time to, without waiting for the device."""
        if progress.step not in self.moments or progress.idle:
            return None
        return self._seen(progress, progress.step)

    @_spared
    def keep(self, seen: Seen) -> None:
        """Writes what was seen."""
        self.directory.check_owner()
        recording.write(self.folder, recording.frame_name(seen.step), jax.device_get(seen.arrays))

    @_spared
    def end(self, progress: Progress) -> None:
        """Writes what was seen last, and what the network makes of what it is evaluated on."""
        last = int(progress.state.step)  # of a run that ended early
        if not (self.folder / recording.frame_name(last)).exists():
            self.keep(self._seen(progress, last))
        self.directory.check_owner()
        data = probe_data(self.training)
        most = JUDGED if self.training.evaluations else self.schedule.probed
        found = judged(self.training.learner, progress.state, data, self.plan.kind, most)
        recording.write(self.folder, recording.END, found)

    @_spared
    def close(self) -> None:
        """Waits for what is done beside the training."""
        self.background.wait()

    def _seen(self, progress: Progress, step: int) -> Seen:
        self.background.wait()
        learner, data = self.training.learner, self.training.data
        return Seen(step, observe(learner, self.plan, progress.state, self.batch, data))

    def _prepare(self, looks: Any, found: Made | None, drawn: Diagram | None) -> None:
        """Compiles what looks, beside the training's own programs, and writes what it looks at.

        To trace it there too would cost more: two threads that trace wait for each other.
        """
        looks.compile()
        training, folder = self.training, self.folder
        shown = {name: np.asarray(self.batch[name][:SHOWN]) for name in ("index", "labels")
                 if hasattr(self.batch.get(name), "shape")}  # fmt: skip
        shown |= examples(probe_data(training), shown["index"])
        about = _about(training, found, drawn, self.plan, self.schedule)
        self.directory.check_owner()
        before = recording.read(self.directory.path)
        if before is not None and not _same(before, about, shown):
            recording.cut(folder, -1)  # of other steps or data: no part of this recording
        recording.write(folder, recording.PROBE, shown)
        files.write(folder / recording.ABOUT, json_files.encode(about))


def _same(before: recording.Recording, about: Any, shown: Any) -> bool:
    """Returns whether a recording is one of the same moments and examples."""
    keys = ("moments", "probe", "diagram", "filters", "ground")
    return (
        all(before.about.get(key) == about.get(key) for key in keys)
        and before.probe.keys() == shown.keys()
        and all(np.array_equal(before.probe[name], shown[name]) for name in shown)
    )


def _about(
    training: Training, found: Made | None, drawn: Any, plan: Plan, schedule: Schedule
) -> dict[str, Any]:
    of = next(iter(training.evaluations), "train")
    shown = min(SHOWN, schedule.probed)
    about = {
        "format": recording.FORMAT,
        "moments": schedule.moments,
        "probe": {"of": of, "count": schedule.probed, "shown": shown},
        "kind": plan.kind,
        "filters": plan.filters and asdict(plan.filters),
        "ground": plan.ground,
        "diagram": drawn and to_json(drawn),
        "outline": found and _outline("", found.network),
        "table": found and found.table.as_json(),
    }
    return json_files.plain(about, default=str)


def _outline(name: str, network: Network) -> dict[str, Any]:
    parts = network.parts
    settings = dict(parts.settings)
    children = [_outline(name, child) for name, child in parts.children]
    about = {"name": name, "kind": parts.kind, "settings": settings}
    return {**about, "times": parts.times, "children": children}
