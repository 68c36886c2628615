"""The recorder of a run, which observes the network at some steps and writes the arrays.

An observation is a small program that is dispatched like a chunk of training. Its results are read
one chunk later, so the recorder never waits for the device. Observations happen at fixed steps, so
a resumed run has the same recording as an uninterrupted run.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial, wraps
from pathlib import Path

import jax
import numpy as np

from jaxnn.checks import Caution, Invalid
from jaxnn.driver.chunks import Training
from jaxnn.driver.placement import Progress
from jaxnn.observing.observation import (
    MOST,
    SHOWN,
    Plan,
    agreeing,
    examples,
    final_predictions,
    observe,
    observe_at_once,
)
from jaxnn.observing.plan import (
    PROBED,
    BoundNetwork,
    Schedule,
    bind,
    kind_of,
    plan,
    probe,
    probe_data,
    probed_part,
    schedule,
)
from jaxnn.observing.writing import prompts, spelled
from jaxnn.pictures import scheme
from jaxnn.pictures.diagram import Diagram, to_json
from jaxnn.scale import processes
from jaxnn.scale.placement import copied
from jaxnn.storage import files, json_files, recording
from jaxnn.storage.background import Background
from jaxnn.storage.directory import RunDirectory
from jaxnn.storage.lock import DirectoryInUse
from jaxnn.storage.recording import Frame
from jaxnn.typing import Any, Callable


def _tolerant(method: Callable[..., Any]) -> Callable[..., Any]:
    """Converts an error of the recorder to a warning, after which nothing is recorded.

    The run continues without a recording. `DirectoryInUse` is raised, and stops the run.
    """

    @wraps(method)
    def tolerant(self, *arguments):
        if self.ended:
            return None
        try:
            return method(self, *arguments)
        except DirectoryInUse:
            raise
        except Exception as error:
            self.ended = True
            why = f"{type(error).__name__}: {error}"
            text = f"the run continues, but is no longer recorded ({why})"
            warnings.warn(text, Caution, stacklevel=2)
            return None

    return tolerant


@contextmanager
def recorder_of(
    directory: RunDirectory, training: Training, step: int | None, wanted: bool
) -> Iterator["Recorder | None"]:
    """Yields the recorder of a run, or `None`; waits for its background work at the end.

    All processes of a run observe, since the program runs on all devices; only the first writes.

    Args:
      directory: the run directory.
      training: the run; populations are not recorded.
      step: the step at which the run resumes; `None` for a new run.
      wanted: whether to record the run. If false, an earlier recording is truncated at `step`.
    """
    if wanted and training.layout.members is None:
        recorder = Recorder(directory, training, step)
        try:
            yield recorder
        finally:
            recorder.close()
    else:
        _cut(directory.path / recording.FOLDER, step)
        yield None


class Recorder:
    """Records a single run in its directory; see `recorder_of`.

    Attributes:
      moments: the steps at which the network is observed.
      ended: whether an error has ended the recording.
    """

    def __init__(self, directory: RunDirectory, training: Training, step: int | None):
        self.directory = directory
        self.training = training
        self.folder = directory.path / recording.FOLDER
        self.moments: tuple[int, ...] = ()
        self.ended = False
        self.observe = observe
        self.background = Background()
        self._begin(step)
        # Chunks end at these steps, so all processes must agree on them.
        self.moments = tuple(processes.agree("moments", lambda: self.moments))

    @_tolerant
    def _begin(self, step: int | None) -> None:
        if processes.is_first():
            self.folder.mkdir(exist_ok=True)
            files.sweep(self.folder)
        _cut(self.folder, step)
        self.schedule = schedule(self.training)
        self.moments = self.schedule.moments
        # The training program compiles in the background while Python traces the observation.
        own, training = Background(), self.training
        lowered = training.lowered()
        own.start(lambda: lowered.compile() and None)
        bound = bind(training)
        self.vocabulary = bound.objective.names if bound else ()
        self.plan, drawn = plan(training, bound, self.schedule)
        (self.data,) = training.layout.copies(training.sample)
        self.batch = copied(training.learner, probe(probe_data(training), self.schedule.probed))
        state = training.whole_shapes().state
        arguments = state, self.batch, self.data
        if self.schedule.short and training.devices[0].platform == "cpu":
            self.observe = observe_at_once
        try:
            observation = self.observe.lower(training.learner, self.plan, *arguments)
        except Invalid:  # the outputs of a part cannot be captured
            self.plan = self.plan._replace(captured_paths=())
            observation = self.observe.lower(training.learner, self.plan, *arguments)
        self.background.start(partial(self._prepare, observation, bound, drawn))
        Background().start(scheme.preload)  # for the report, while programs compile
        own.wait()

    def look(self, progress: Progress) -> Frame | None:
        """Observes the network if the step is a moment; the arrays stay on the device."""
        if progress.step not in self.moments or progress.idle:
            return None
        # An error in one process ends the recording in all, since they observe together.
        self.ended = processes.any_process("recorder", self.ended)
        return self._observe(progress.state, progress.step)

    @_tolerant
    def keep(self, observation: Frame) -> None:
        """Writes an observation."""
        if not processes.is_first():
            return
        self.directory.check_owner()
        arrays = agreeing(jax.device_get(observation.arrays))
        if "text" in arrays:
            arrays["text"] = spelled(arrays["text"], self.vocabulary)
        recording.write(self.folder, recording.frame_name(observation.step), arrays)

    def end(self, progress: Progress) -> None:
        """Writes observations of the last and best states, and the predictions of the best."""
        self.ended = processes.any_process("recorder", self.ended)
        states = {int(state.step): state for state in (progress.state, progress.best)}
        written = processes.agree("frames", lambda: recording.steps(self.folder))
        self._end({n: state for n, state in states.items() if n not in written}, progress.best)

    @_tolerant
    def _end(self, states: dict[int, Any], best: Any) -> None:
        observations = [self._observe(state, step) for step, state in states.items()]
        (data,) = self.training.layout.copies(probe_data(self.training))
        most = MOST if self.training.evaluations else self.schedule.probed
        learner, kind = self.training.learner, self.plan.kind
        predictions = final_predictions(learner, best, data, kind, most)
        for observation in observations:
            self.keep(observation)
        if processes.is_first():
            self.directory.check_owner()
            recording.write(self.folder, recording.END, predictions)

    @_tolerant
    def close(self) -> None:
        """Waits for background work."""
        self.background.wait()

    @_tolerant
    def _observe(self, state: Any, step: int) -> Frame:
        self.background.wait()
        learner = self.training.learner
        return Frame(step, self.observe(learner, self.plan, state, self.batch, self.data))

    def _prepare(self, observation: Any, bound: BoundNetwork | None, drawn: Diagram | None) -> None:
        """Compiles the observation in the background, and writes the observed examples.

        It is traced before, since tracing in two threads at once is slower.
        """
        observation.compile()
        if not processes.is_first():
            return
        training, folder = self.training, self.folder
        shown = {name: np.asarray(self.batch[name]) for name in ("index", "labels")
                 if hasattr(self.batch.get(name), "shape")}  # fmt: skip
        shown |= examples(probe_data(training), self.batch)
        shown = {name: array[:SHOWN] for name, array in shown.items()}  # of NumPy: nothing compiles
        if self.plan.writing is not None and bound is not None:
            inputs = bound.objective.prepare(None, self.batch)["inputs"]
            shown["text"] = spelled(prompts(self.plan.writing, inputs), self.vocabulary)
        about = _about(training, bound, drawn, self.plan, self.schedule)
        self.directory.check_owner()
        before = recording.read(self.directory.path)
        if before is not None and not _same(before, about, shown):
            recording.cut(folder, -1)  # a recording of other steps or data
        recording.write(folder, recording.PROBE, shown)
        files.write(folder / recording.ABOUT, json_files.encode(about))


def _cut(folder: Path, step: int | None) -> None:
    """Removes observations after the step at which a run resumes; all of them for a new run."""
    if processes.is_first():
        recording.cut(folder, -1 if step is None else step)


def record_best(run: Path, training: Training, state: Any) -> None:
    """Writes a recording that consists only of the final predictions of a single state.

    Args:
      run: the run directory.
      training: the run, or the population that the member belongs to.
      state: the state of the run or of one member.
    """
    data = copied(training.learner, probe_data(training))
    kind = kind_of(training, state)[0]
    most = MOST if training.evaluations else PROBED
    predictions = final_predictions(training.learner, state, data, kind, most)
    about = {
        "format": recording.FORMAT,
        "moments": [],
        "probe": {"of": probed_part(training)},
        "kind": kind,
    }
    if not processes.is_first():
        return
    folder = run / recording.FOLDER
    folder.mkdir(exist_ok=True)
    recording.write(folder, recording.END, predictions)
    files.write(folder / recording.ABOUT, json_files.encode(about))


def _same(before: recording.Recording, about: Any, shown: Any) -> bool:
    """Returns whether a recording has the same moments and examples."""
    keys = ("moments", "probe", "diagram", "filters", "plot_bounds")
    return (
        all(before.about.get(key) == about.get(key) for key in keys)
        and before.probe.keys() == shown.keys()
        and all(np.array_equal(before.probe[name], shown[name]) for name in shown)
    )


def _about(
    training: Training, bound: BoundNetwork | None, drawn: Any, plan: Plan, schedule: Schedule
) -> dict[str, Any]:
    of = probed_part(training)
    shown, whole = min(SHOWN, schedule.probed), probe_data(training).num_examples
    about = {
        "format": recording.FORMAT,
        "moments": schedule.moments,
        "probe": {"of": of, "count": schedule.probed, "shown": shown, "all": whole},
        "kind": plan.kind,
        "filters": plan.filters and asdict(plan.filters),
        "plot_bounds": plan.plot_bounds,
        "diagram": drawn and to_json(drawn),
        "table": bound and bound.table.as_json(),
        "names": [*bound.objective.names] if bound and plan.kind == "classification" else None,
    }
    return json_files.plain(about, default=str)
