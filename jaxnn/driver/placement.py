"""The trials of a run where they are: a part on each device, and in which slot each member is."""

from dataclasses import dataclass, replace

import jax
import numpy as np

from jaxnn.driver.trial import Trial
from jaxnn.loop.statuses import EMPTY
from jaxnn.scale.layout import Layout, rows
from jaxnn.typing import Any, Callable


@dataclass(frozen=True)
class Placed:
    """The trials of a run, a part on each device.

    Attributes:
      layout: how they are laid out.
      parts: the trials of each device; of one run, the trial.
      slot: where each member is, over all parts.
      busy: the slots that may still go on, as far as the host knows, of each part.
    """

    layout: Layout
    parts: list[Trial]
    slot: np.ndarray
    busy: list[np.ndarray]

    def ordered(self, get: Callable[[Trial], Any]) -> Any:
        """Returns something of all trials, in the order of the members."""
        tree = self.layout.join([get(part) for part in self.parts])
        if self.layout.members is None or np.array_equal(self.slot, np.arange(self.layout.slots)):
            return tree
        return _rows(tree, self.slot)

    def dealt(self, active: np.ndarray) -> "Placed":
        """Returns the trials, shared out anew where that saves time, given which slots go on."""
        placed, order = self, self.layout.packed(active)
        if order is not None:
            active, slot = active[order], np.argsort(order)[self.slot]
            placed = replace(self, parts=self.layout.moved(self.parts, order), slot=slot)
        shares = active.reshape(len(self.parts), -1)
        return replace(placed, busy=[np.flatnonzero(share) for share in shares])


def again(trial: Trial, slots: np.ndarray, members: int) -> Trial:
    """Returns the kept trials of these slots; those past the last member are empty."""
    part = rows(trial, np.minimum(slots, members - 1))
    status = np.where(slots < members, np.asarray(part.status), EMPTY).astype(np.int8)
    return part._replace(status=status, member=slots)


@jax.jit
def _rows(tree, index):
    return rows(tree, index)
