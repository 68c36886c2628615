"""The trials of a run where they are: a part on each device, and in which slot each member is."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn.checks import InvalidValue
from jaxnn.driver.trial import Trial
from jaxnn.loop.statuses import EMPTY
from jaxnn.scale.layout import Layout, rows
from jaxnn.scale.memory import available, needed
from jaxnn.scale.placement import Placement
from jaxnn.typing import Any, Callable


@dataclass(frozen=True)
class Placed:
    """The trials of a run, a part on each device.

    Attributes:
      layout: how they are laid out.
      parts: the trials of each device; of one run, the trial.
      slot: where each member is, over all parts.
      busy: the slots of each part that may still be running, as far as the host knows.
    """

    layout: Layout
    parts: list[Trial]
    slot: np.ndarray
    busy: list[np.ndarray]

    def ordered(self, get: Callable[[Trial], Any]) -> Any:
        """Returns something of all trials, in the order of the members."""
        tree = self.layout.join([get(part) for part in self.parts])
        in_order = np.array_equal(self.slot, np.arange(self.layout.slots))
        return tree if in_order else _rows(tree, self.slot)

    def rebalanced(self, active: np.ndarray) -> "Placed":
        """Returns the trials, shared out anew where that saves time, given the active slots."""
        placed, order = self, self.layout.packed(active)
        if order is not None:
            active, slot = active[order], np.argsort(order)[self.slot]
            placed = replace(self, parts=self.layout.moved(self.parts, order), slot=slot)
        shares = active.reshape(len(self.parts), -1)
        return replace(placed, busy=[np.flatnonzero(share) for share in shares])


def restored(trial: Trial, slots: Any, members: int | None) -> Trial:
    """Returns copies of the saved trials of these slots; those past the last member are empty."""
    if members is None:
        return jax.tree.map(jnp.array, trial)
    part = rows(trial, np.minimum(slots, members - 1))
    status = np.where(slots < members, np.asarray(part.status), EMPTY).astype(np.int8)
    return part._replace(status=status, member=slots)


def fitted(layout: Layout, width: int | None, compiled: Callable[[Layout], Any]) -> Layout:
    """Returns the layout with as many members side by side as memory allows.

    Args:
      layout: with as many as there would be.
      width: how many were asked for, if any.
      compiled: returns the program of a layout.

    Raises:
      InvalidValue: if that is fewer than were asked for.
    """
    asked = layout.width
    while layout.width and layout.width > 1:
        need, have = needed(compiled(layout)), available(layout.devices[0])
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
    """Returns the sharding of each array of a trial on a mesh: states by the rules, all else whole.

    Args:
      placement: the mesh and the rules.
      trial: of a single run, or of all members, whose axis is not split; or its shapes.
    """
    state, whole = trial.state, placement.replicated(trial)
    if members := len(trial.member.shape):
        state = jax.eval_shape(lambda state: rows(state, 0), state)
    state = jax.tree.map(lambda x: leading(x, members), placement.shardings(state))
    best = whole.best and whole.best._replace(state=state)
    return whole._replace(state=state, best=best)


def leading(sharding: NamedSharding, axes: int) -> NamedSharding:
    """Returns the sharding with so many axes before it, which are not split."""
    spec = PartitionSpec(*(None,) * axes, *sharding.spec)
    return NamedSharding(sharding.mesh, spec)


def placed_trial(placement: Placement, trial: Trial) -> Trial:
    """Returns the shapes of a trial with the sharding of each array."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        trial,
        trial_shardings(placement, trial),
    )


def spread(placement: Placement, trial: Trial) -> Trial:
    """Returns copies of a trial's arrays on a mesh."""
    shardings = trial_shardings(placement, trial)
    return jax.tree.map(
        lambda x, place: jax.device_put(x, place, may_alias=False), trial, shardings
    )


@jax.jit
def _rows(tree, index):
    return rows(tree, index)
