"""`fit`: trains to the end, shows how it goes, and keeps a record in a run directory.

>>> import jax, optax
>>> from jaxnn.data._resident import resident
>>> from jaxnn.learning._supervised import learner
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
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from jaxnn.checks import Explained, choice, kind
from jaxnn.data._resident import Resident
from jaxnn.data.durations import Duration, Every
from jaxnn.diagnosis.search import diagnose
from jaxnn.driver._train import train
from jaxnn.driver.chunks import Training
from jaxnn.driver.members import Execution
from jaxnn.driver.speed import Speed
from jaxnn.driver.trial import Select, Watch
from jaxnn.learning._guard import guard
from jaxnn.learning._learner import Learner
from jaxnn.loop._evaluate import predict
from jaxnn.loop.statuses import DIVERGED, RUNNING
from jaxnn.observing.recorder import Recorder, recorder_of
from jaxnn.progress.display import shown
from jaxnn.runs.reporting import write_report
from jaxnn.runs.rows import Record
from jaxnn.runs.signals import signals
from jaxnn.storage.checkpointing import Checkpointer, RestoredRun
from jaxnn.storage.checkpoints import Saving
from jaxnn.storage.destination import Directory, destination
from jaxnn.storage.directory import SPEED, finished, open_directory
from jaxnn.typing import Any, Array, Hparams, Key

NotFinitePolicy = Literal["stop", "skip"]


class NotFinite(Explained, ArithmeticError):
    """A loss became infinite or not a number; the run was stopped."""


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
      result: flat: `experiment`, `steps`, `seconds` and the last value of each metric.
      history: a row for each report, as in `metrics.jsonl`.
      state: the state at the end; of a population the states, stacked.
      best: the state of the best evaluation, if a metric was watched; else `state`.
      learner: what was trained.
      out: the run directory, if there is one.
      members: of a population how many; `None` for one run.
      speed: how fast it was, as in `speed.json`.
    """

    result: dict[str, Any]
    history: list[dict[str, Any]]
    state: Any = field(repr=False)
    best: Any = field(repr=False)
    learner: Learner = field(repr=False)
    out: Path | None
    members: int | None = None
    speed: dict[str, Any] = field(default_factory=dict, repr=False)

    def predict(self, inputs: Any, *, batch_size: int = 1024) -> Any:
        """Returns the best state's outputs for any number of inputs, as NumPy arrays.

        Those of a population have a leading axis of members.
        """
        return predict(self.learner, self.best, inputs, batch_size=batch_size)

    def _repr_html_(self) -> str:
        from jaxnn.report import notebook  # with all that draws

        return notebook.run(self.result, self.history, self.out, self.members)


def fit(
    learner: Learner,
    data: Resident,
    *,
    steps: Duration,
    key: Key[Array, "*members"],
    hparams: Hparams | None = None,
    every: Duration | Every | None = None,
    evaluate: Resident | Mapping[str, Resident] | None = None,
    watch: Watch | str | None = None,
    select: Select | None = None,
    execution: Execution | None = None,
    out: str | Path | Directory | None = None,
    saving: Saving | None = None,
    not_finite: NotFinitePolicy = "stop",
    quiet: bool = False,
) -> Run:
    """Trains to the end and returns the `Run`.

    The arguments up to `execution` are those of `train`.

    Of a population (see `train`), result and history hold a list over members wherever those of one
    run hold a number, and a member whose loss is not finite ends alone.

    With a directory, the run is kept in it (see `Saving`): the same call after a stop, whatever
    stopped it, goes on from the newest good checkpoint, and ends with the bits and the rows of a
    run that nothing stopped. Ctrl-C, or SIGTERM, saves after the current chunk and ends the run; a
    second one ends it at once.

    Args:
      out: the run directory to write, a path or a `Directory`, which also says the run's name and
        configuration and how to resume it. `None` writes nothing.
      saving: when checkpoints are saved, and which are retained; `Saving()` by default.
      not_finite: what to do about a step that is not finite: stop, say why (see `python -m jaxnn
        diagnose`) and keep the state before it; or skip it, see `guard`.
      quiet: whether to show no progress.

    Raises:
      Invalid: before anything compiles, if something given cannot be used, or is of another run
        than the one that is there.
      NotFinite: if a loss of a single run is infinite or not a number.
      NoCheckpoint: if `resume` demands a run, and there is none.
      KeyboardInterrupt: if a signal ended the run.
      DirectoryInUse: if another process is writing to `out`.
      OSError: if `out` cannot be written.
    """
    choice("fit", "not_finite", not_finite, get_args(NotFinitePolicy))
    learner = _guard_once(learner) if not_finite == "skip" else learner
    training = train(
        learner, data, steps=steps, key=key, hparams=hparams, every=every, evaluate=evaluate,
        watch=watch, select=select, execution=execution,
    )  # fmt: skip
    out = None if out is None else destination(out)
    name, report = (out.name, out.report) if out else (None, False)
    record, speed = Record(training), Speed(training)
    with _kept(training, out, hparams, saving) as found:
        keeper, kept, recorder = found
        before = keeper and finished(keeper.directory.path)  # it is returned as it is
        if kept is not None:
            record.go_on(kept)
            if not quiet and kept.step < training.steps:
                print(f"goes on at step {kept.step} of {training.steps}", flush=True)
        with signals() as stopped, shown(training.steps, rate=speed.recent, quiet=quiet) as show:

            def settle(progress, seen, snapshot):
                if recorder is not None and seen is not None:
                    recorder.keep(seen)
                if progress.metrics:
                    row = record.add(progress)
                    show(progress.step, row)
                    if keeper is not None:
                        keeper.directory.append(row)
                    _check_finite(record, keeper)
                if keeper is not None and snapshot is not None:
                    keeper.save(snapshot, record.seconds, record.rows)

            # A report is read, and a snapshot saved, one chunk late: the device then has its next
            # chunk to work on.
            progress = start = training.start(kept.trial, kept.step) if kept else training.start()
            kept = None  # its copy of the state, on the host, is not needed any more
            late = None
            for progress in training.chunks(start, moments=recorder.moments if recorder else ()):
                if late is not None:
                    settle(*late)
                ends = stopped.is_set() or progress.step == training.steps
                seen = recorder and recorder.look(progress)
                # Not before: the first look waits for a program, which is no speed of steps.
                speed.at(progress.step)
                show(progress.step, {})
                late = progress, seen, keeper and keeper.snapshot(progress, now=ends)
                if stopped.is_set():
                    break
            if late is not None:
                settle(*late)
            speed.at(progress.step)
            if keeper is not None:
                last = keeper.snapshot(progress, now=True)  # of a run whose patience ended
                if last is not None:
                    keeper.save(last, record.seconds, record.rows)
                keeper.wait()
        if stopped.is_set() and progress.step < training.steps and record.goes_on:
            words = f"stopped at step {progress.step} of {training.steps}"
            if keeper is not None:
                page = f"python -m jaxnn report {keeper.directory.path} makes a page of it so far"
                words += f"; the same again goes on from there; {page}"
            raise KeyboardInterrupt(words)
        result = record.result(name or "run", progress)
        figures = speed.told(result["steps"])
        if before is not None:
            result, figures = before[0], keeper.directory.speed  # pyright: ignore
        elif keeper is not None:
            if recorder is not None:
                recorder.end(progress)
            keeper.directory.write_json(SPEED, figures)
            keeper.directory.finish(result)
            if report:
                write_report(keeper.directory.path)
    members, path = training.layout.members, keeper and keeper.directory.path
    state, best = progress.state, progress.best
    return Run(result, record.rows, state, best, learner, path, members, figures)


@contextmanager
def _kept(
    training: Training,
    out: Directory | None,
    hparams: Hparams | None,
    saving: Saving | None,
) -> Iterator[tuple[Checkpointer | None, RestoredRun | None, Recorder | None]]:
    """Opens the directory; yields who keeps the run, what was kept before, and who records it."""
    kind("fit", "saving", saving or Saving(), Saving, fix="Pass saving=Saving(seconds=60)")
    if out is None:
        yield None, None, None
        return
    keeper = None
    try:
        with open_directory(out, hparams) as directory:
            keeper = Checkpointer(directory, training, saving or Saving(), directory.asked.config)
            try:
                kept = keeper.restore(out.resume, out.allow_change)
                keeper.prepare()
                with recorder_of(directory, training, kept and kept.step, out.report) as recorder:
                    yield keeper, kept, recorder
                keeper.wait()
            except BaseException as error:
                try:
                    keeper.wait()
                except Exception as late:
                    error.add_note(f"Besides, a checkpoint could not be saved: {late}")
                raise
    except NotFinite:
        if out.report and keeper is not None:
            # While it is locked, the run would be told to be going on.
            write_report(keeper.directory.path)
        raise


@lru_cache(32)  # An equal learner compiles nothing again: `fit` guards the same one alike.
def _guard_once(learner: Learner) -> Learner:
    return guard(learner)


def _check_finite(record: Record, keeper: Checkpointer | None) -> None:
    """Raises `NotFinite` if the last report of a single run is not, after a look for the reason."""
    row = record.rows[-1]
    if record.status == RUNNING and row.get("train/skipped") == 1.0:
        raise NotFinite(
            "fit",
            "no step is finite any more",
            got=f"every step skipped since the last report, at step {row['step']}",
            expected="a step that is finite",
            fix="Leave out not_finite='skip', to be told why",
        )
    if record.status != DIVERGED:
        return
    losses = {name: value for name, value in row.items() if name.endswith("loss")}
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    name = bad[0] if bad else "a parameter"
    why, fix = "", "Lower the learning rate, or clip the gradients with clip_by_global_norm(1.0)"
    if keeper is not None:
        keeper.wait()
        why = f", {diagnose(record.training, keeper, record.rows, name, record.seconds)}"
        fix += f", and see python -m jaxnn diagnose {keeper.directory.path}"
    raise NotFinite(
        "fit",
        f"{name} is not finite",
        got=f"{losses.get(name, math.nan)} at step {row['step']}{why}",
        expected="a finite loss",
        fix=fix,
    )
