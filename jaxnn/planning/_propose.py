"""What would fit: a batch size, remat, sharding; and the largest batch that a device holds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import NamedTuple

import jax

from jaxnn.calls import inside
from jaxnn.checks import InvalidValue, positive_integer
from jaxnn.data import Data
from jaxnn.formatting import amount
from jaxnn.learning import Learner
from jaxnn.planning._plan import as_data, plan
from jaxnn.planning.figures import Plan
from jaxnn.planning.hardware import hardware as read_name
from jaxnn.scale.rules import fsdp
from jaxnn.typing import Any

TRIES = 6  # compilations for a batch size


class Proposal(NamedTuple):
    """A change with which a program fits, and its plan.

    Attributes:
      change: what to do, in words.
      plan: of the changed program.
    """

    change: str
    plan: Plan

    def __str__(self) -> str:
        peak = amount(self.plan.memory.peak, "B")
        return f"{self.change}: {peak} on each device"


def propose(
    learner: Learner,
    data: Data | Mapping[str, Any],
    hardware: str = "cpu",
    *,
    fast: bool = True,
    **options: Any,
) -> tuple[Proposal, ...]:
    """Returns changes with which a program fits, the least first; of what fits already, none.

    It tries to shard the parameters by `fsdp`, where there are several devices, to compute blocks
    again for their gradients (see `remat`), both, and smaller batches with what helps most.

    Args:
      learner: how parameters change.
      data: what it learns from, or one batch.
      hardware: its name, see `plan`.
      fast: whether the TPU's compiler may take less care, see `plan`.
      options: others of `plan`.
    """
    now = plan(learner, data, hardware, fast=fast, **options)
    if now.fits:
        return ()
    several = read_name(hardware).devices > 1 and options.get("rules") is None
    sharded = {**options, "rules": fsdp} if several else options
    tries = [("rules=jaxnn.scale.fsdp", learner, sharded)] if several else []
    tries.append(("remat of each block", remat_blocks(learner), options))
    if several:
        tries.append(("rules=jaxnn.scale.fsdp and remat of each block", tries[-1][1], sharded))
    planned = [
        (change, changed, chosen, plan(changed, data, hardware, fast=fast, **chosen))
        for change, changed, chosen in tries
    ]
    fitting = [Proposal(change, each) for change, _, _, each in planned if each.fits]
    change, changed, chosen, _ = min(planned, key=lambda each: each[3].memory.peak)
    ways = [("", learner, options)]
    if not fitting:
        ways.append((f" with {change}", changed, chosen))
    for change, changed, chosen in ways:
        smaller = _largest(changed, data, hardware, now.batch_size, fast, chosen)
        if smaller.fits:
            fitting.append(Proposal(f"batch_size={smaller.batch_size}{change}", smaller))
    return tuple(fitting)


def find_batch_size(
    learner: Learner,
    data: Data | Mapping[str, Any],
    hardware: str = "here",
    *,
    at_most: int | None = None,
    fast: bool = True,
    **options: Any,
) -> int:
    """Finds about the largest batch whose step fits; nothing runs, so that nothing can fail.

    Memory grows with the batch nearly in a line, which two plans give; others check it.

    Args:
      learner: how parameters change.
      data: what it learns from, or one batch, with any size of batch.
      hardware: its name, see `plan`; the device at hand by default.
      at_most: the largest size to return; by default the examples of the data.
      fast: whether the TPU's compiler may take less care, see `plan`.
      options: others of `plan`.

    Raises:
      InvalidValue: if not even the smallest batch fits.
    """
    if at_most is not None:
        positive_integer("find_batch_size", "at_most", at_most)
    best = _largest(learner, data, hardware, at_most, fast, options)
    if best.fits:
        return best.batch_size
    raise InvalidValue(
        "find_batch_size",
        "no batch fits",
        got=f"{amount(best.memory.peak, 'B')} for {best.batch_size} examples on {best.hardware}",
        expected=f"at most {amount(round(best.chip.usable), 'B')} on each device",
        fix="Shard the parameters over more devices, rules=jaxnn.scale.fsdp, or make the network"
        " smaller",
    )


def _largest(
    learner: Learner, data: Any, hardware: str, at_most: int | None, fast: bool, options: Any
) -> Plan:
    """Returns the plan of the largest batch that fits, or of the smallest if none does."""
    unit = read_name(hardware).devices
    limit = at_most or (2**24 if isinstance(data, Mapping) else data.num_examples)
    limit = max(unit, limit // unit * unit)
    now = max(unit, min(limit, as_data(data).batch_size // unit * unit))
    tried: list[Plan] = []
    low, high = 0, limit + unit
    while len(tried) < TRIES and low < now < high:
        planned = plan(learner, resized(data, now), hardware, fast=fast, **options)
        tried.append(planned)
        low, high = (now, high) if planned.fits else (low, now)
        if low and high - low <= max(unit, low // 32):
            break
        now = _guess(tried) if len(tried) > 1 else now * 2 if planned.fits else now // 2
        whole = 8 * unit if now >= 64 * unit else unit
        now = min(max(now // whole * whole, low + unit), high - unit)  # never what is known
    fitting = [each for each in tried if each.fits]
    return max(fitting or tried, key=lambda each: each.batch_size if fitting else -each.batch_size)


def _guess(tried: list[Plan]) -> int:
    """Returns the batch that fits if memory grows in the line of the last two plans."""
    one, two = sorted(tried[-2:], key=lambda each: each.batch_size)
    each = (two.memory.peak - one.memory.peak) / (two.batch_size - one.batch_size)
    room = one.chip.usable - one.memory.peak
    return one.batch_size + int(0.98 * room / max(each, 1.0))


def resized(data: Any, size: int) -> Any:
    """Returns data in batches of another size; of a batch its shapes."""
    if not isinstance(data, Mapping):
        return replace(data, batch_size=size)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), dict(data))


def remat_blocks(learner: Learner) -> Learner:
    """Computes each residual block again for its gradient, as `remat` inside a network does."""

    @wraps(learner.gradients)
    def gradients(*arguments, **options):
        with inside(_Remat()):
            return learner.gradients(*arguments, **options)

    return learner._replace(gradients=gradients)


@dataclass(frozen=True)
class _Remat:
    """Keeps of a residual block its inputs alone."""

    def enter(self, name: str) -> "_Remat":
        return self

    def __call__(self, part, proceed, params, state, inputs, key):
        if part.parts.kind != "residual":
            return proceed(params, state, inputs, key)
        # Blocks inside are computed again with it.
        again = jax.checkpoint(lambda *arguments: proceed(*arguments, within=None))
        return again(params, state, inputs, key)
