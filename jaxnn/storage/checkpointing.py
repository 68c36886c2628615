"""Saves checkpoints of a run while it trains, and restores it from the newest one.

A checkpoint contains the whole `Trial`, with members in order, so it does not depend on devices.
The step determines the position in the data, and the journal is truncated to its length at that
step. So an interrupted run ends with the same bits and rows as an uninterrupted one. Training waits
only while its state is copied on the device; files are written in the background.
"""

import math
import time
import warnings
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import Caution, InvalidType
from jaxnn.driver.chunks import Training
from jaxnn.driver.placement import Progress
from jaxnn.driver.trial import Trial, is_good
from jaxnn.loop.unchanged import split
from jaxnn.scale import processes
from jaxnn.storage import checkpoints
from jaxnn.storage.background import Background
from jaxnn.storage.checkpoints import Saving
from jaxnn.storage.directory import CHECKPOINTS, RESULT, NoCheckpoint, RunDirectory
from jaxnn.storage.frozen import write_base
from jaxnn.storage.identity import check_identity, environment, identity
from jaxnn.storage.json_files import plain, with_nan
from jaxnn.storage.manifest import CorruptCheckpoint, Leaf, leaves_of
from jaxnn.typing import Any, Array


class Snapshot(NamedTuple):
    """A copy of a run's state on its devices; each process has its own part.

    Attributes:
      step: the number of completed training steps.
      leaves: the descriptions of all arrays, including those in the base of the run.
      arrays: the copies of the arrays that are not in the base, with PRNG keys as integers.
      good: whether the state is finite, as an array on the device.
      permanent: whether the checkpoint is never deleted.
      final: whether a failure to save it is an error; other saves are repeated later.
    """

    step: int
    leaves: list[Leaf]
    arrays: list[Array]
    good: Array | bool
    permanent: bool
    final: bool


class RestoredRun(NamedTuple):
    """A run restored from a checkpoint.

    Attributes:
      trial: the training state, on the devices of the mesh if there is one, else on the host.
      step: the number of completed training steps.
      seconds: the training time up to the checkpoint.
      rows: the reports up to the checkpoint.
    """

    trial: Trial
    step: int
    seconds: float
    rows: list[dict[str, Any]]


class Checkpointer:
    """Saves and restores a run in its directory."""

    def __init__(self, directory: RunDirectory, training: Training, saving: Saving, config: Any):
        self.directory = directory
        self.training = training
        self.saving = saving
        self.config = plain(config)
        self.environment = plain(environment(training))
        self.folder = directory.path / CHECKPOINTS
        self.lower = training.watch is None or training.watch.lower
        self.background = Background()
        self.saved_at = time.monotonic()
        self.saved_step = -1
        self.is_final = False  # whether the last save is the final one
        self.base: dict[str, Any] = {}  # the entries of arrays that no step changes
        self.failed = ""  # the message of a failed save that was not final
        self.corrupt = 0

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The identity of the run, see `jaxnn.storage.identity`."""
        return plain(identity(self.training))

    def prepare(self) -> None:
        """Compiles the copy of the state in the background."""
        if self.training.layout.members is None:  # the layout of members may still change
            like, fixed = self.training.whole_shapes(), self.training.fixed
            self.background.start(lambda: _lower(like, fixed).compile())

    def save_base(self, progress: Progress) -> None:
        """Saves the arrays that no step changes before the first step, unless they are saved.

        Raises:
          OSError: if they cannot be written.
        """
        trial, fixed = progress.trial, self.training.fixed
        leaves, arrays = leaves_of(trial.state), split(trial.state, fixed)[1]
        leaves = [leaves[place] for place in fixed]
        prefixes = ("state", "best/state") if trial.best else ("state",)
        names = {f"{prefix}/{leaf.name}" for prefix in prefixes for leaf in leaves}
        if names <= self.base.keys():
            return
        entries = write_base(self.folder, leaves, arrays)
        self.base = {
            f"{prefix}/{name}": {**entry, "name": f"{prefix}/{name}"}
            for prefix in prefixes
            for name, entry in entries.items()
        }

    def restore(self, resume: bool, allow_change: Collection[str]) -> RestoredRun | None:
        """Restores the run from its newest intact checkpoint; returns `None` if there is none.

        Raises:
          NoCheckpoint: if `resume` requires a checkpoint and there is none.
          Invalid: if the checkpoint belongs to a different run.
        """
        newest = self.newest(allow_change)
        if newest is None:
            if resume:
                raise NoCheckpoint(
                    "fit",
                    f"{self.directory.path} has no checkpoint to resume from",
                    got=f"{self.corrupt} corrupt, now in quarantine" if self.corrupt else "none",
                    expected="a good one",
                    fix="Leave out resume (--resume), to start over",
                )
            if processes.is_first() and (self.corrupt or (self.directory.path / RESULT).exists()):
                warnings.warn("no checkpoint is good: the run starts over", Caution, stacklevel=2)
            self.directory.unfinish()
            processes.agree("rows", lambda: self.directory.cut(0))
            return None
        content, trial = newest
        before, now = content["environment"], self.environment
        changes = [f"{n} {before.get(n)} -> {now[n]}" for n in now if before.get(n) != now[n]]
        if changes:
            text = f"resuming is valid, but may not be bit for bit: {', '.join(changes)}"
            warnings.warn(text, Caution, stacklevel=2)
        rows = processes.agree("rows", lambda: self.directory.cut(content["rows"]))
        rows = [with_nan(row) for row in rows]
        self.saved_step = content["step"]
        self.base = {each["name"]: each for each in content["arrays"] if "base" in each}
        if content["step"] < self.training.steps:
            self.directory.unfinish()
        return RestoredRun(trial, content["step"], content["seconds"], rows)

    def newest(
        self, allow_change: Collection[str] | None = None
    ) -> tuple[dict[str, Any], Trial] | None:
        """Returns the manifest and trial of the newest intact checkpoint, with allowed changes.

        By default every change is allowed. The journal is not truncated.
        """
        changes: dict[str, Any] = {}

        def check(content: Mapping[str, Any]) -> None:
            saved, allowed = content["identity"], allow_change
            if allowed is None or self._config_implies_more(content["config"]):
                allowed = {*saved, *self.identity}
            same_jax = content["environment"].get("jax") == self.environment["jax"]
            changes.update(check_identity(saved, self.identity, allowed, same_jax))

        def on_corrupt(path: Path, error: CorruptCheckpoint) -> None:
            self.corrupt += 1
            place = checkpoints.quarantine(path, error)
            warnings.warn(f"{error} It is now in {place}.", Caution, stacklevel=2)

        like = self.training.whole_shapes()
        newest = checkpoints.newest(self.folder, like, check, on_corrupt)
        return newest and (newest[0], self._changed(newest[1], changes))

    def _config_implies_more(self, before: Mapping[str, Any]) -> bool:
        """Whether a changed field of the configuration may change other parts of the identity.

        `open_directory` has already checked that the change is allowed. A changed hyper-parameter
        changes nothing else.
        """
        now = self.config
        changed = {name for name in {**before, **now} if before.get(name) != now.get(name)}
        return not changed <= set(self.training.hparams)

    def _changed(self, trial: Trial, changes: Collection[str]) -> Trial:
        """Returns the trial with the new values of changed hyper-parameters and of the key."""
        state = trial.state
        given = [name for name in self.training.hparams if name in changes]
        if given and not hasattr(state, "hparams"):
            raise InvalidType(
                "fit",
                "the learner's state has no field for its hyper-parameters",
                got=f"a {type(state).__name__}, and another {', '.join(given)}",
                expected="a state with a field hparams",
                fix="Choose another directory (--out) to start over",
            )
        if given:
            state = state._replace(hparams=dict(self.training.hparams))
        if "key" in changes:
            fresh = self.training.whole()
            trial = trial._replace(order=fresh.order)
            state = state._replace(key=fresh.state.key) if hasattr(state, "key") else state
        return trial._replace(state=state)

    def snapshot(self, progress: Progress, *, now: bool = False) -> Snapshot | None:
        """Copies the state if it is time to save, without waiting for the device."""
        self.background.check()
        if now and progress.step == self.saved_step and not self.is_final:
            self.background.wait()  # if that save fails, this is the last chance
        self._warn_of_failure()
        every, step = self.saving.every, progress.step
        before = (step - 1) // self.training.every * self.training.every
        permanent = bool(every and progress.metrics and step // every > before // every)
        due = now or permanent or processes.agree("save", self._waited)
        if step == self.saved_step or not due:
            return None
        self.saved_at, self.saved_step = time.monotonic(), step
        arrays, good = _duplicate(progress.trial, self.training.fixed)
        if self.training.layout.members is not None:
            good = True  # a diverged member stops without ending the run
        return Snapshot(step, leaves_of(progress.trial), arrays, good, permanent, now)

    def _waited(self) -> bool:
        """Whether the next save is due and the previous one is complete."""
        waited = time.monotonic() - self.saved_at >= self.saving.seconds
        return waited and not self.background.busy

    def save(self, snapshot: Snapshot, seconds: float, rows: list[dict[str, Any]]) -> None:
        """Saves a snapshot in the background, once the rows up to its step are written."""
        self.is_final = snapshot.final
        try:
            size = self.directory.size(rows[-1]["step"] if rows else 0)
        except OSError as error:
            self._try_again(snapshot, error)
            return
        value = self._value(rows)

        def work():
            if not bool(snapshot.good):
                return  # the next report raises the error
            fields = {
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": seconds,
                "rows": size,
                "value": value,
                "for_good": snapshot.permanent,
                "config": self.config,
                "eval_path": self.training.learner.eval_path,
                "identity": self.identity,
                "environment": self.environment,
            }
            try:
                checkpoints.write_checkpoint(
                    self.folder, snapshot.step, snapshot.leaves, snapshot.arrays, fields,
                    before=self.directory.check_owner, base=self.base,
                )  # fmt: skip
            except OSError as error:
                self.directory.check_owner()  # a new owner has removed the draft
                self._try_again(snapshot, error)
                return
            if processes.is_first():
                checkpoints.retain(self.folder, self.saving, self.lower)

        self.background.start(work)

    def _try_again(self, snapshot: Snapshot, error: OSError) -> None:
        """Notes a save that failed, to be tried again; raises its error if it is the final one."""
        if snapshot.final or jax.process_count() > 1:  # processes save together
            raise error
        self.failed = f"step {snapshot.step} was not saved ({error})"
        self.saved_step = -1 if self.saved_step == snapshot.step else self.saved_step

    def _value(self, rows: list[dict[str, Any]]) -> float | None:
        """Returns the last value of the watched metric; for a population, of its best member."""
        watch = self.training.watch
        values = [row[watch.metric] for row in rows if watch.metric in row] if watch else []
        finite = [value for value in np.ravel(values[-1:]).tolist() if math.isfinite(value)]
        return (min if self.lower else max)(finite, default=None)

    def retain(self) -> None:
        """Deletes the checkpoints that a finished run does not retain."""
        checkpoints.retain(self.folder, self.saving, self.lower, least=1)

    def wait(self) -> None:
        """Waits until the last save is on disk, and raises its error."""
        self.background.wait()
        self._warn_of_failure()

    def _warn_of_failure(self) -> None:
        """Warns of a failed save, in the training thread."""
        if failed := self.failed:
            self.failed = ""
            text = f"{failed}; training continues, and the next save is tried as usual"
            warnings.warn(text, Caution, stacklevel=3)


@partial(jax.jit, static_argnums=1)
def _duplicate(trial, fixed):
    """Copies all arrays except those that no step changes, and checks whether they are finite."""

    def copy(array):
        is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(array) if is_key else jnp.copy(array)

    best = trial.best and trial.best._replace(state=split(trial.best.state, fixed)[0])
    rest = trial._replace(state=split(trial.state, fixed)[0], best=best)
    return [copy(array) for array in jax.tree.leaves(rest)], is_good(trial.state, trial.window)


_lower = _duplicate.lower
