"""`fit`: trains to the end, shows progress, and saves the run in a run directory.

>>> import jax, optax
>>> from jaxnn.data import resident
>>> from jaxnn.learning import learner
>>> from jaxnn.layers import linear
>>> from jaxnn.objectives import regression
>>> data = resident({"inputs": [[1.0], [2.0]], "labels": [[3.0], [5.0]]}, batch_size=2)
>>> line = learner(linear(1), regression(), optax.sgd(0.1))
>>> run = fit(line, data, steps=500, key=jax.random.key(0), quiet=True)
>>> run.predict([[3.0]]).round(2).tolist()
[[7.0]]
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from jax.sharding import Mesh

from jaxnn.checks import Invalid, choice, kind
from jaxnn.data.durations import Duration, Every
from jaxnn.data.protocol import Data
from jaxnn.driver._train import train
from jaxnn.driver.chunks import Training
from jaxnn.driver.members import Execution
from jaxnn.driver.meshes import devices_line
from jaxnn.driver.placement import Progress
from jaxnn.driver.speed import Speed
from jaxnn.driver.trial import Select, Watch
from jaxnn.learning._guard import guard
from jaxnn.learning._learner import Learner
from jaxnn.loop._evaluate import predict
from jaxnn.loop.statuses import DIVERGED, RUNNING
from jaxnn.planning.profiling import check_profile, profiled
from jaxnn.progress.display import shown
from jaxnn.runs.exit_codes import exit_code
from jaxnn.runs.history import History
from jaxnn.runs.output import NotFinite, Output, open_output
from jaxnn.runs.signals import signals
from jaxnn.scale import processes
from jaxnn.scale.watch import together
from jaxnn.storage.checkpointing import Checkpointer
from jaxnn.storage.checkpoints import Saving
from jaxnn.storage.directory import Directory, destination
from jaxnn.storage.identity import check_processes
from jaxnn.streams.feed import Stalled
from jaxnn.typing import Any, Array, Hparams, Key

NotFinitePolicy = Literal["stop", "skip"]


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
      result: a flat dict: `experiment`, `steps`, `seconds` and the last value of each metric. If a
        metric was watched, also `best/step` and the value of each metric at that step, such as
        `best/test/accuracy`.
      history: a row for each report, as in `metrics.jsonl`.
      state: the final state, or the stacked states of all members.
      best: the state of the best evaluation if a metric was watched, else `state`.
      learner: the trained learner.
      out: the run directory, if any.
      members: the number of members; `None` for a single run.
      speed: timing figures, as in `speed.json`.
      training: the `Training` that was run, with its data.
    """

    result: dict[str, Any]
    history: list[dict[str, Any]]
    state: Any = field(repr=False)
    best: Any = field(repr=False)
    learner: Learner = field(repr=False)
    out: Path | None
    members: int | None = None
    speed: dict[str, Any] = field(default_factory=dict, repr=False)
    training: Training | None = field(default=None, repr=False)

    def predict(self, inputs: Any, *, batch_size: int = 1024) -> Any:
        """Returns the outputs of the best state for any number of inputs, as NumPy arrays.

        For a population, the outputs have a leading axis of members.
        """
        return predict(self.learner, self.best, inputs, batch_size=batch_size)

    def _repr_html_(self) -> str:
        from jaxnn.report import notebook  # imports the plotting code

        return notebook.run(self.result, self.history, self.out, self.members)


@together(exit_code)
def fit(
    learner: Learner,
    data: Data | None,
    *,
    steps: Duration,
    key: Key[Array, "*members"],
    hparams: Hparams | None = None,
    every: Duration | Every | None = None,
    evaluate: Data | Mapping[str, Data | None] | None = None,
    watch: Watch | str | None = None,
    select: Select | None = None,
    execution: Execution | None = None,
    mesh: Mesh | None = None,
    rules: Any = None,
    start: Any = None,
    out: str | Path | Directory | None = None,
    saving: Saving | None = None,
    not_finite: NotFinitePolicy = "stop",
    quiet: bool = False,
    profile: str | None = None,
) -> Run:
    """Trains to the end and returns a `Run`.

    The arguments up to `start` are documented in `train`.

    For a population (see `train`), each number in the result and the history is a list over
    members, and a member whose loss is not finite stops alone.

    With `out`, the run saves checkpoints (see `Saving`). After an interruption, the same call
    resumes from the newest valid checkpoint, and ends with the same bits and rows as an
    uninterrupted run. Ctrl-C or SIGTERM saves a checkpoint after the current chunk and ends the
    run; a second signal ends it at once.

    Args:
      out: the run directory to write, a path or a `Directory`, which also sets the name, the
        configuration and how to resume. With `None`, nothing is written.
      saving: when to save checkpoints, and which to retain; `Saving()` by default.
      not_finite: what to do if a step is not finite. `"stop"` ends the run with a diagnosis (see
        `python -m jaxnn diagnose`) and retains the state before the step; `"skip"` skips the step
        (see `guard`).
      quiet: if true, nothing is printed.
      profile: a range of steps to profile, such as `"100:120"`. A trace of these steps and a table
        of the time of each part of the network are written to the directory.

    Raises:
      Invalid: if an argument is invalid, or `out` holds a different run; raised before anything
        compiles.
      NotFinite: if the loss of a single run is not finite.
      NoCheckpoint: if `resume` requires an existing run, and there is none.
      KeyboardInterrupt: if a signal ended the run.
      DirectoryInUse: if another process is writing to `out`.
      OSError: if `out` cannot be written.
    """
    choice("fit", "not_finite", not_finite, get_args(NotFinitePolicy))
    saving = Saving() if saving is None else saving
    kind("fit", "saving", saving, Saving, fix="Pass saving=Saving(seconds=60)")
    learner = guard(learner) if not_finite == "skip" else learner
    training = train(
        learner, data, steps=steps, key=key, hparams=hparams, every=every, evaluate=evaluate,
        watch=watch, select=select, execution=execution, mesh=mesh, rules=rules, start=start,
    )  # fmt: skip
    directory = None if out is None else destination(out)
    profiled_steps = check_profile(training, profile, directory and Path(directory.path))
    quiet = quiet or not processes.is_first()
    if not quiet and (line := devices_line(training)):
        print(line, flush=True)
    speed = Speed(training)
    check_processes(training, directory and directory.config)
    with open_output(training, directory, hparams, saving) as output:
        history = History(training, output.restored, speed.began)
        progress = first = _start(training, output, quiet)
        output.begin(first)
        screen = shown(training.steps, rate=speed.recent, waiting=speed.waiting, quiet=quiet)
        with signals() as stopped, screen as show:

            def process_report(progress, copies):
                row = history.add(progress) if progress.metrics else None
                output.write(copies, row)
                if row:
                    show(progress.step, row)
                    _check_finite(history, output.checkpointer)
                output.save(copies, history)

            # Reports are read and copies written after the next chunk is dispatched, so that
            # the device never waits for the host.
            pending, stopping, unread = None, False, []
            chunks = profiled(training, first, output.moments, profiled_steps, output.path)
            for progress in _until_unread(chunks, unread):
                if pending is not None:
                    process_report(*pending)
                stopping = processes.any_process("stop", stopped.is_set())
                ends = stopping or progress.step == training.steps
                pending = progress, output.copy(progress, ends=ends)
                # After the copy, since the first copy waits for a program to compile.
                speed.at(progress.step)
                show(progress.step, {})
                if stopping:
                    break
            if unread and (not progress.step or not progress.is_valid or processes.count() > 1):
                raise unread[0]
            if pending is not None:
                process_report(*pending)
            speed.at(progress.step)
            output.flush(progress, history)
            if unread:
                raise _saved(unread[0], progress.step, output)
        if stopping and progress.step < training.steps and history.is_running:
            words = f"stopped at step {progress.step} of {training.steps}"
            if output.path:
                page = f"python -m jaxnn report {output.path} makes a page of it so far"
                words += f"; the same command resumes there; {page}"
            raise KeyboardInterrupt(words)
        result = history.result((directory and directory.name) or "run", progress)
        result, figures = output.finish(progress, result, speed.summary(result["steps"]))
    return Run(
        result, history.rows, progress.state, progress.best, training.learner, output.path,
        training.layout.members, figures, training,
    )  # fmt: skip


def _until_unread(chunks: Iterator[Progress], unread: list[Exception]) -> Iterator[Progress]:
    """Yields chunks until data cannot be read; then appends the error to `unread`."""
    try:
        yield from chunks
    except (Invalid, Stalled) as error:  # all other arguments were validated before
        unread.append(error)


def _saved(error: Exception, step: int, output: Output) -> Exception:
    """Adds to an error about the data that the run is saved and can resume."""
    if output.path is None:
        return error
    words = f"{error} What was trained up to step {step} is saved: the same command resumes there."
    return type(error)(words)


def _start(training: Training, output: Output, quiet: bool) -> Progress:
    """Returns the initial or the restored progress of the run."""
    # Release the copy of the state on the host.
    restored, output.restored = output.restored, None
    if restored is None:
        return training.start()
    if not quiet and restored.step < training.steps:
        print(f"resumes at step {restored.step} of {training.steps}", flush=True)
    return training.start(restored.trial, restored.step, consume=True)


def _check_finite(history: History, checkpointer: Checkpointer | None) -> None:
    """Raises `NotFinite`, with the reason, if the last report of a single run is not finite."""
    row = history.rows[-1]
    if history.status == RUNNING and row.get("train/skipped") == 1.0:
        raise NotFinite(
            "fit",
            "no step is finite",
            got=f"every step skipped since the last report, at step {row['step']}",
            expected="a step that is finite",
            fix="Leave out not_finite='skip', to see the reason",
        )
    if history.status != DIVERGED:
        return
    losses = {name: value for name, value in row.items() if name.endswith("loss")}
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    name = bad[0] if bad else "a parameter"
    why, fix = "", "Lower the learning rate, or clip the gradients with clip_by_global_norm(1.0)"
    if checkpointer is not None:
        from jaxnn.diagnosis.search import diagnose  # rarely needed, and slow to import

        checkpointer.wait()
        why = f", {diagnose(history.training, checkpointer, history.rows, name, history.seconds)}"
        fix += f", and see python -m jaxnn diagnose {checkpointer.directory.path}"
    raise NotFinite(
        "fit",
        f"{name} is not finite",
        got=f"{losses.get(name, math.nan)} at step {row['step']}{why}",
        expected="a finite loss",
        fix=fix,
    )
