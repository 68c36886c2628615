"""The keeper of a run: saves checkpoints beside the training, and goes on from the newest one.

A checkpoint holds the whole `Trial`, members in their order, so it does not depend on devices. The
position in the data is the step, and rows of metrics are cut to where they were, so that a run that
was stopped and one that was not end with the same bits and the same rows. Saving takes from the
training no more than the time to copy its state on the device; the rest happens in the background.
"""

import math
import time
import warnings
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import Caution, InvalidType
from jaxnn.driver.chunks import Progress, Training
from jaxnn.driver.trial import Trial, is_good
from jaxnn.storage import checkpoints
from jaxnn.storage.background import Background
from jaxnn.storage.checkpoints import Saving
from jaxnn.storage.directory import CHECKPOINTS, RESULT, NoCheckpoint, RunDirectory
from jaxnn.storage.identity import check_identity, environment, identity
from jaxnn.storage.json_files import plain, with_nan
from jaxnn.storage.manifest import Damaged, Leaf, leaves_of
from jaxnn.typing import Any


class Snapshot(NamedTuple):
    """A copy of a run's state, on its devices.

    Attributes:
      step: whose state it is.
      leaves: what the arrays are.
      arrays: a copy of each, random keys as numbers.
      good: whether it is worth keeping; known when the device is done.
      for_good: whether it is to be kept for good.
    """

    step: int
    leaves: list[Leaf]
    arrays: list[Any]
    good: Any
    for_good: bool


class Kept(NamedTuple):
    """What was kept of a run.

    Attributes:
      trial: the state and what is known beside it, on the host.
      step: at which it was kept.
      seconds: the time that the run had taken.
      rows: those of its metrics.
    """

    trial: Trial
    step: int
    seconds: float
    rows: list[dict[str, Any]]


class Keeper:
    """Keeps a run in its directory."""

    def __init__(self, directory: RunDirectory, training: Training, saving: Saving, config: Any):
        self.directory = directory
        self.training = training
        self.saving = saving
        self.config = plain(config)
        self.environment = plain(environment(training))
        self.folder = directory.path / CHECKPOINTS
        self.background = Background()
        self.saved_at = time.monotonic()
        self.saved_step = -1
        self.damaged = 0
        # The engine takes a fifth of a second to import, which compiling hides.
        self.background.start(_warm_up)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the run is."""
        return plain(identity(self.training))

    def found(self, resume: bool, allow_change: Collection[str]) -> Kept | None:
        """Returns what the run goes on from; `None` where it begins.

        Raises:
          NoCheckpoint: if there is nothing, though `resume` demands it.
          Invalid: if what is there is of another run.
        """
        newest = self._newest(allow_change)
        if newest is None:
            return self._nothing(resume)
        content, trial = newest
        self._compare(content["environment"])
        rows = self.directory.cut(content["rows"])
        self.saved_step = content["step"]
        if content["step"] < self.training.steps:
            self.directory.unfinish()
        return Kept(trial, content["step"], content["seconds"], [with_nan(row) for row in rows])

    def prepare(self) -> None:
        """Compiles what copies the state, beside the training, so that the first save need not."""
        if self.training.layout.members is None:  # members are copied where they are laid out
            like = jax.eval_shape(self.training.whole)
            self.background.start(lambda: _lowered(like).compile() and None)

    def newest(self) -> Kept | None:
        """Returns what was kept last; its rows are left alone."""
        newest = self._newest(None)
        return newest and Kept(newest[1], newest[0]["step"], newest[0]["seconds"], [])

    def _newest(self, allow_change: Collection[str] | None) -> tuple[dict[str, Any], Trial] | None:
        """Returns manifest and trial of the newest good checkpoint, the changes made.

        All that differs is allowed if `allow_change` is `None`.
        """
        changes: dict[str, Any] = {}

        def check(content: Mapping[str, Any]) -> None:
            same_jax = content["environment"].get("jax") == self.environment["jax"]
            allowed = allow_change
            if allowed is None or self._decides_more(content["config"]):
                allowed = {*content["identity"], *self.identity}
            changes.update(check_identity(content["identity"], self.identity, allowed, same_jax))

        def damage(path: Path, error: Damaged) -> None:
            self.damaged += 1
            place = checkpoints.quarantine(path, error)
            warnings.warn(f"{error} It is now in {place}.", Caution, stacklevel=2)

        like = jax.eval_shape(lambda: self.training.whole())
        newest = checkpoints.newest(self.folder, like, check, damage)
        return newest and (newest[0], self._changed(newest[1], changes))

    def _decides_more(self, before: Mapping[str, Any]) -> bool:
        """Whether a field of the configuration was changed from which something else may follow.

        That it may was asked when the directory was opened. A hyper-parameter is only itself.
        """
        now = self.config
        changed = {name for name in {**before, **now} if before.get(name) != now.get(name)}
        return not changed <= set(self.training.hparams)

    def _nothing(self, resume: bool) -> None:
        if resume:
            raise NoCheckpoint(
                "fit",
                f"{self.directory.path} has no checkpoint to go on from",
                got=f"{self.damaged} damaged, now in quarantine" if self.damaged else "none",
                expected="one that is good",
                fix="Leave out resume (--resume), to begin anew",
            )
        if self.damaged or (self.directory.path / RESULT).exists():
            warnings.warn("no checkpoint is good: the run begins anew", Caution, stacklevel=3)
        self.directory.unfinish()
        self.directory.cut(0)

    def _compare(self, before: Mapping[str, Any]) -> None:
        """Says what has changed around the run."""
        now = self.environment
        changes = [f"{n} {before.get(n)} -> {now[n]}" for n in now if before.get(n) != now[n]]
        if changes:
            text = f"going on is valid, but may not be bit for bit: {', '.join(changes)}"
            warnings.warn(text, Caution, stacklevel=3)

    def _changed(self, trial: Trial, changes: Collection[str]) -> Trial:
        """Returns the trial with the hyper-parameters and the key that were changed on purpose."""
        new = {}
        given = [name for name in self.training.hparams if name in changes]
        if given and not hasattr(trial.state, "hparams"):
            raise InvalidType(
                "fit",
                "the learner's state keeps its hyper-parameters where they cannot be changed",
                got=f"a {type(trial.state).__name__}, and another {', '.join(given)}",
                expected="a state with a field hparams",
                fix="Name another directory (--out), to begin anew",
            )
        if given:
            new["hparams"] = dict(self.training.hparams)
        if "key" in changes:
            fresh = self.training.whole()
            trial = trial._replace(order=fresh.order)
            new |= {"key": fresh.state.key} if hasattr(trial.state, "key") else {}
        return trial._replace(state=trial.state._replace(**new)) if new else trial

    def snapshot(self, progress: Progress, *, now: bool = False) -> Snapshot | None:
        """Returns a copy of the state if it is time to save, without waiting for the device."""
        self.background.check()
        waited = time.monotonic() - self.saved_at >= self.saving.seconds
        for_good = self._for_good(progress)
        if progress.step == self.saved_step or not (
            now or for_good or (waited and not self.background.busy)
        ):
            return None
        self.saved_at, self.saved_step = time.monotonic(), progress.step
        trial = progress.trial
        arrays, good = _duplicate(trial)
        if self.training.layout.members is not None:
            good = True  # members that have diverged are kept as they are: they end alone
        return Snapshot(progress.step, leaves_of(trial), arrays, good, for_good)

    def _for_good(self, progress: Progress) -> bool:
        every, step = self.saving.every, progress.step
        before = (step - 1) // self.training.every * self.training.every
        return bool(every and progress.metrics and step // every > before // every)

    def save(self, snapshot: Snapshot, seconds: float, rows: list[dict[str, Any]]) -> None:
        """Saves a snapshot in the background, after all rows of its time were written."""
        size = self.directory.size(rows[-1]["step"] if rows else 0)
        value = self._value(rows)

        def work():
            if not bool(snapshot.good):
                return  # the coming report says what is wrong
            fields = {
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": seconds,
                "rows": size,
                "value": value,
                "for_good": snapshot.for_good,
                "config": self.config,
                "eval_path": self.training.learner.eval_path,
                "identity": self.identity,
                "environment": self.environment,
            }
            try:
                checkpoints.write_checkpoint(
                    self.folder, snapshot.step, snapshot.leaves, snapshot.arrays, fields,
                    before=self.directory.check_owner,
                )  # fmt: skip
            except OSError:
                self.directory.check_owner()  # who took the directory has swept what was written
                raise
            lower = self.training.watch is None or self.training.watch.lower
            checkpoints.retain(self.folder, self.saving, lower)

        self.background.start(work)

    def _value(self, rows: list[dict[str, Any]]) -> float | None:
        """Returns the last value of the watched metric, of a population that of its best member."""
        watch = self.training.watch
        values = [row[watch.metric] for row in rows if watch.metric in row] if watch else []
        if watch is None or not values:
            return None
        finite = [value for value in np.ravel(values[-1]).tolist() if math.isfinite(value)]
        return (min if watch.lower else max)(finite, default=None)

    def wait(self) -> None:
        """Waits until what was saved is on the disk, and raises what went wrong."""
        self.background.wait()


@jax.jit
def _duplicate(trial):
    def copy(array):
        is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(array) if is_key else jnp.copy(array)

    return [copy(array) for array in jax.tree.leaves(trial)], is_good(trial.state, trial.window)


_lowered = _duplicate.lower


def _warm_up() -> None:
    import orbax.checkpoint  # noqa: F401
