"""The files that `fit` writes during training, if it has a run directory."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from jaxnn.checks import Caution, Explained
from jaxnn.driver.chunks import Training
from jaxnn.driver.placement import Progress
from jaxnn.observing.recorder import Recorder, recorder_of
from jaxnn.runs import layers, prediction, writing
from jaxnn.runs.history import History
from jaxnn.runs.prediction import warn_unless_refused, write_program
from jaxnn.scale import processes
from jaxnn.storage.checkpointing import Checkpointer, RestoredRun, Snapshot
from jaxnn.storage.checkpoints import Saving
from jaxnn.storage.directory import SPEED, Directory, finished
from jaxnn.storage.opening import open_directory
from jaxnn.storage.program_file import LAYERS, WRITER
from jaxnn.storage.recording import Frame
from jaxnn.typing import Any, Hparams

Copies = tuple[Frame | None, Snapshot | None]
"""Copies on the device of an observation and of a state, which are written one chunk later."""


class NotFinite(Explained, ArithmeticError):
    """Training stopped because a loss or a parameter was infinite or NaN."""


class Output:
    """Writes the journal, checkpoints, recording and report of a run, if it has a directory.

    Attributes:
      path: the run directory, if any.
      restored: the checkpoint from which the run resumes, if any.
      moments: the steps at which the network is observed.
      before: the result and rows of a finished run, which is returned unchanged.
    """

    def __init__(
        self,
        checkpointer: Checkpointer | None = None,
        recorder: Recorder | None = None,
        restored: RestoredRun | None = None,
        before: tuple[dict[str, Any], list[dict[str, Any]]] | None = None,
    ):
        self.checkpointer = checkpointer
        self.recorder = recorder
        self.restored = restored
        self.path = checkpointer and checkpointer.directory.path
        self.moments = recorder.moments if recorder else ()
        self.before = before

    def begin(self, progress: Progress) -> None:
        """Saves the arrays that training does not change, before the first step."""
        if self.checkpointer and not self.before:
            self.checkpointer.save_base(progress)

    def copy(self, progress: Progress, *, ends: bool) -> Copies:
        """Copies the arrays that are due to be written, without waiting for the device."""
        observed = self.recorder and self.recorder.look(progress)
        return observed, self.checkpointer and self.checkpointer.snapshot(progress, now=ends)

    def write(self, copies: Copies, row: dict[str, Any] | None) -> None:
        """Writes the observation, if there is one, and the row of a report, if there is one."""
        if self.recorder and copies[0] is not None:
            self.recorder.keep(copies[0])
        if self.checkpointer and row:
            self.checkpointer.directory.append(row)

    def save(self, copies: Copies, history: History) -> None:
        """Saves the state in the background, after the rows up to its step are written."""
        if self.checkpointer and copies[1] is not None:
            self.checkpointer.save(copies[1], history.seconds, history.rows)

    def flush(self, progress: Progress, history: History) -> None:
        """Begins to save the last state; leaving the directory waits until it is on disk."""
        if self.checkpointer:
            self.save((None, self.checkpointer.snapshot(progress, now=True)), history)

    def finish(self, progress: Progress, result: Any, speed: Any) -> tuple[Any, Any]:
        """Writes and returns the result and speed; returns the earlier ones of a finished run."""
        if not self.checkpointer:
            return result, speed
        checkpointer = self.checkpointer
        directory, training = checkpointer.directory, checkpointer.training
        if self.before:
            return self.before[0], directory.speed
        if self.recorder:
            self.recorder.end(progress)
        checkpointer.wait()  # the last checkpoint is saved before the result

        def write() -> tuple[Any, Any]:
            if training.data.num_examples:
                error = write_program(directory.path, WRITER, writing.export, training)
                if error:
                    warn_unless_refused("the run directory", "writer", error)
            directory.write_json(SPEED, speed)
            directory.finish(result)
            checkpointer.retain()
            if directory.asked.report:
                write_report(directory.path)
            return result, speed

        return processes.agree("finish", write)


@contextmanager
def open_output(
    training: Training, out: Directory | None, hparams: Hparams | None, saving: Saving
) -> Iterator[Output]:
    """Opens the run directory, if any, and restores the run in it, if any."""
    if out is None:
        yield Output()
        return
    path = None
    try:
        with open_directory(out, hparams) as directory:
            path = directory.path
            checkpointer = Checkpointer(directory, training, saving, directory.asked.config)
            try:
                restored = checkpointer.restore(out.resume, out.allow_change)
                before = processes.agree("before", lambda: finished(directory.path))
                checkpointer.prepare()
                # For a learner that generates its own data, the inputs of the network are unknown.
                wanted = out.report and training.data.num_examples > 0
                if processes.is_first() and before is None and training.data.num_examples:
                    prediction.write(path, training)
                    if wanted and training.layout.members is None:
                        write_program(path, LAYERS, layers.export, training)
                step = restored and restored.step
                recording = recorder_of(directory, training, step, wanted)
                with nullcontext() if before else recording as recorder:
                    yield Output(checkpointer, recorder, restored, before)
                checkpointer.wait()
            except BaseException as error:
                try:
                    checkpointer.wait()
                except Exception as another:
                    error.add_note(f"Besides, a checkpoint could not be saved: {another}")
                raise
    except NotFinite:
        if out.report and path is not None and processes.is_first():
            write_report(path)  # now unlocked: while locked, the report shows the run as running
        raise


def write_report(path: Path) -> None:
    """Writes the report of a run; if this fails, warns with a `Caution` that gives the reason."""
    try:
        from jaxnn.report import write  # imported only when a report is written

        write(path)
    except Exception as error:
        text = f"the report was not written ({error}): python -m jaxnn report {path} does it again"
        warnings.warn(text, Caution, stacklevel=3)
