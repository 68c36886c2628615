"""The progress of a run: its trials on each device, and the slot of each member."""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn.checks import InvalidValue
from jaxnn.driver.trial import Trial
from jaxnn.loop._advance import copy_arrays, take_rows
from jaxnn.loop.statuses import EMPTY, RUNNING
from jaxnn.loop.unchanged import filled, split
from jaxnn.names import named_leaves
from jaxnn.scale.layout import Layout, rows
from jaxnn.scale.memory import available, needed
from jaxnn.scale.placement import Placement, on_device
from jaxnn.typing import Any, Callable


@dataclass(frozen=True)
class Placed:
    """The trials of a run, partitioned over devices.

    Attributes:
      layout: the layout of the trials.
      parts: the trials on each device; for a single run, its trial.
      slot: the slot of each member, counted over all parts.
      busy: the slots of each part that may still be running, to the knowledge of the host.
    """

    layout: Layout
    parts: list[Trial]
    slot: np.ndarray
    busy: list[np.ndarray]

    def ordered(self, get: Callable[[Trial], Any]) -> Any:
        """Applies `get` to all trials, and returns the results in the order of the members."""
        tree = self.layout.join([get(part) for part in self.parts])
        in_order = np.array_equal(self.slot, np.arange(self.layout.slots))
        return tree if in_order else take_rows(tree, self.slot)

    def rebalanced(self, active: np.ndarray) -> "Placed":
        """Returns the trials, redistributed over devices if that saves time."""
        placed, order = self, self.layout.packed(active)
        if order is not None:
            active, slot = active[order], np.argsort(order)[self.slot]
            placed = replace(self, parts=self.layout.moved(self.parts, order), slot=slot)
        shares = active.reshape(len(self.parts), -1)
        return replace(placed, busy=[np.flatnonzero(share) for share in shares])

    def is_unreported(self) -> bool:
        """Returns whether a running trial has metrics of steps that were not reported yet."""
        windows = jax.device_get([(part.status, part.window) for part in self.parts])
        return any(
            np.any(np.asarray(sums)[np.equal(status, RUNNING)])
            for status, window in windows
            for sums in jax.tree.leaves(window)
        )

    def progress(
        self, step: int, metrics: dict[str, Any] | None = None, *, idle: bool = False
    ) -> "Progress":
        """Returns the progress of the run after `step` steps; see `Progress`."""
        status = self.ordered(lambda trial: trial.status)
        return Progress(step, metrics or {}, status, self, idle)


@dataclass(frozen=True)
class Progress:
    """The progress of a run at a report or at the end of a chunk.

    Attributes:
      step: the number of completed training steps.
      metrics: `{"train/loss": ..., "test/accuracy": ...}`, scalars or `[members]`, on the device;
        reading one waits for it. Training metrics cover the steps since the previous report. Empty
        between reports.
      status: the index of the run's status in `jaxnn.loop.STATUSES`, or `[members]` of them.
      placed: the trials on their devices.
      idle: whether the last steps did nothing, because all runs had stopped before.
    """

    step: int
    metrics: dict[str, Any]
    status: Any
    placed: Placed = field(repr=False)
    idle: bool = False

    @property
    def trial(self) -> Trial:
        """The `Trial` as one pytree, with members in order.

        It is valid until the next iteration, which donates its arrays. To keep it, copy it with
        `jax.tree.map(jnp.copy, progress.trial)`.
        """
        return self.placed.ordered(lambda trial: trial)

    @property
    def state(self) -> Any:
        """The learner's state, or the states of all members; valid as long as `trial`."""
        return self.placed.ordered(lambda trial: trial.state)

    @property
    def is_valid(self) -> bool:
        """Whether its arrays still exist: no iteration has donated them."""
        leaves = jax.tree.leaves([part.state for part in self.placed.parts])
        return not any(leaf.is_deleted() for leaf in leaves if hasattr(leaf, "is_deleted"))

    @property
    def best(self) -> Any:
        """The state of the best evaluation so far if a metric is watched, else `state`."""
        return self.placed.ordered(lambda trial: trial.best.state if trial.best else trial.state)


def laid_out(
    layout: Layout, begin: Callable[..., Trial], saved: Trial | None, *, consume: bool
) -> list[Trial]:
    """Returns the initial or restored trials of a run, partitioned over devices.

    Args:
      layout: the layout of the trials.
      begin: a function that returns the initial trials of the given slots.
      saved: the trials to resume from, on any device or the host, if any.
      consume: whether arrays of `saved` may be donated; by default they are copied.
    """
    if layout.placement is not None:
        ((slots, _),) = layout.places
        there = spread(layout.placement, begin(slots) if saved is None else saved)
        return [there if saved is None or consume else copy_arrays(there)]
    return [
        on_device(begin(slots) if saved is None else _restored(saved, slots, layout.members), to)
        for slots, to in layout.places
    ]


def shared(trial: Trial, fixed: tuple[int, ...], origin: Any) -> Trial:
    """Returns a trial that stores each array that no step changes once; populations are unchanged.

    Args:
      trial: the initial or restored trial.
      fixed: the leaf indices of these arrays in the learner's state.
      origin: the initial parameters and state, if the caller passed them. Those on the same devices
        with equal values are used instead of copies.
    """
    if not fixed or trial.member.shape:
        return trial
    state, constants = split(trial.state, fixed)
    names = [*named_leaves(trial.state)]
    given = {} if origin is None else named_leaves(dict(zip(("params", "state"), origin)))
    for number, place in enumerate(fixed):
        copy, own = constants[number], given.get(names[place])
        if isinstance(own, jax.Array) and own.sharding.device_set == copy.sharding.device_set:
            own = on_device(own, copy.sharding)
            constants[number] = own if bool(_are_equal(own, copy)) else copy
    best = trial.best and trial.best._replace(
        state=filled(split(trial.best.state, fixed)[0], constants)
    )
    return trial._replace(state=filled(state, constants), best=best)


@jax.jit
def _are_equal(one, other):
    return (one == other).all()


def _restored(trial: Trial, slots: Any, members: int | None) -> Trial:
    """Returns copies of the saved trials of the given slots; slots past the last are `EMPTY`."""
    if members is None:
        return jax.tree.map(jnp.array, trial)
    part = rows(trial, np.minimum(slots, members - 1))
    status = np.where(slots < members, np.asarray(part.status), EMPTY).astype(np.int8)
    return part._replace(status=status, member=slots)


def fitted(layout: Layout, width: int | None, compiled: Callable[[Layout], Any]) -> Layout:
    """Returns the layout with the largest width that memory allows.

    Args:
      layout: the layout with the desired width.
      width: the requested width, if any.
      compiled: a function that compiles the program of a layout.

    Raises:
      InvalidValue: if the requested width does not fit.
    """
    asked = layout.width
    while layout.width and layout.width > 1:
        device = layout.devices[0]
        need, have = needed(compiled(layout), device.platform), available(device)
        if need <= have:
            break
        layout = replace(layout, width=max(1, int(layout.width * have / need)))
    if width is not None and layout.width != asked:
        raise InvalidValue(
            "train",
            "so many members side by side do not fit into the memory of a device",
            got=f"width={width}",
            expected=f"width of at most {layout.width}",
            fix=f"Pass width={layout.width}, or leave it out",
        )
    return layout


def trial_shardings(placement: Placement, trial: Trial) -> Trial:
    """Returns the shardings of a trial on a mesh: by the rules for states, else replicated.

    Args:
      placement: the mesh and the rules.
      trial: the arrays or shapes of a single run or a population; the member axis is not sharded.
    """
    state, whole = trial.state, placement.replicated(trial)
    if members := len(trial.member.shape):
        state = jax.eval_shape(lambda state: rows(state, 0), state)
    state = jax.tree.map(lambda x: leading(x, members), placement.shardings(state))
    best = whole.best and whole.best._replace(state=state)
    return whole._replace(state=state, best=best)


def leading(sharding: NamedSharding, axes: int) -> NamedSharding:
    """Returns the sharding with `axes` leading axes that are not sharded."""
    spec = PartitionSpec(*(None,) * axes, *sharding.spec)
    return NamedSharding(sharding.mesh, spec)


def shapes_on(placement: Placement | None, trial: Trial) -> Trial:
    """Returns the shapes of a trial, with shardings if the run is on a mesh."""
    if placement is None:
        return trial
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        trial, trial_shardings(placement, trial),
    )  # fmt: skip


def spread(placement: Placement, trial: Trial) -> Trial:
    """Puts the arrays of a trial on a mesh."""
    return jax.tree.map(on_device, trial, trial_shardings(placement, trial))
