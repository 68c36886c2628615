"""Proposes changes that make a step fit into memory, and finds the largest batch that fits."""

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
    """A change that makes a program fit, and its plan.

    Attributes:
      change: a description of the change, such as `"batch_size=512"`.
      plan: the plan of the changed program.
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
    """Returns changes that make a program fit, the smallest first; none if it already fits.

    It tries to shard the parameters by `fsdp` if there are several devices, to rematerialize each
    residual block in the backward pass (see `remat`), and both. It also proposes a smaller batch,
    combined with the most effective of these changes if none of them suffices.

    Args:
      learner: the learner.
      data: the training data, or one batch.
      hardware: the name of the hardware, as in `plan`.
      fast: whether to reduce the effort of the TPU compiler, as in `plan`.
      options: other arguments of `plan`.
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
    """Returns approximately the largest batch size whose step fits into memory.

    Nothing is executed. Memory grows almost linearly with the batch size, so two plans give an
    estimate, which further plans refine.

    Args:
      learner: the learner.
      data: the training data, or one batch, of any size.
      hardware: the name of the hardware, as in `plan`; by default the device of this machine.
      at_most: the largest size to return; by default the number of examples in the data.
      fast: whether to reduce the effort of the TPU compiler, as in `plan`.
      options: other arguments of `plan`.

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
        fix="Shard the parameters over more devices with rules=jaxnn.scale.fsdp, or use a smaller"
        " network",
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
        now = min(max(now // whole * whole, low + unit), high - unit)  # never a size tried before
    fitting = [each for each in tried if each.fits]
    return max(fitting or tried, key=lambda each: each.batch_size if fitting else -each.batch_size)


def _guess(tried: list[Plan]) -> int:
    """Returns the batch size that fits if memory grows linearly as in the last two plans."""
    one, two = sorted(tried[-2:], key=lambda each: each.batch_size)
    each = (two.memory.peak - one.memory.peak) / (two.batch_size - one.batch_size)
    room = one.chip.usable - one.memory.peak
    return one.batch_size + int(0.98 * room / max(each, 1.0))


def resized(data: Any, size: int) -> Any:
    """Returns data with another batch size; for a single batch, its shapes."""
    if not isinstance(data, Mapping):
        return replace(data, batch_size=size)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), dict(data))


def remat_blocks(learner: Learner) -> Learner:
    """Rematerializes each residual block in the backward pass, like `remat` in a network."""

    @wraps(learner.gradients)
    def gradients(*arguments, **options):
        with inside(_Remat()):
            return learner.gradients(*arguments, **options)

    return learner._replace(gradients=gradients)


@dataclass(frozen=True)
class _Remat:
    """A frame that stores only the inputs of each residual block for the backward pass."""

    def enter(self, name: str) -> "_Remat":
        return self

    def __call__(self, part, proceed, params, state, inputs, key):
        if part.parts.kind != "residual":
            return proceed(params, state, inputs, key)
        # Inner blocks are recomputed with the outer one, so no frame is needed within it.
        again = jax.checkpoint(lambda *arguments: proceed(*arguments, within=None))
        return again(params, state, inputs, key)
