"""Applies a selection to all members, whichever devices hold their trials."""

from dataclasses import replace
from functools import partial

import jax

from jaxnn.driver.placement import Placed, spread
from jaxnn.driver.trial import Trial
from jaxnn.learning._learner import SELECT
from jaxnn.typing import Any, Callable


def selected(select: Callable[[Any, Trial], Trial], key: Any, placed: Placed, step: int) -> Placed:
    """Returns the trials after a selection.

    Args:
      select: the selection.
      key: the key of the run, or the keys of all members.
      placed: the trials before the selection.
      step: the step of the selection, which determines its randomness.
    """
    key = key[0] if key.shape else key
    key = jax.random.fold_in(jax.random.fold_in(key, SELECT), step)
    trials = placed.layout.join(placed.parts)
    if (placement := placed.layout.placement) is not None:
        trials = _select(select, None, key, trials)
        return replace(placed, parts=[spread(placement, trials)])
    trials = _select(select, placed.layout.sharding, key, trials)
    return replace(placed, parts=placed.layout.cut(trials))


@partial(jax.jit, static_argnums=(0, 1))
def _select(select, sharding, key, trials):
    trials = select(key, trials)
    return trials if sharding is None else jax.lax.with_sharding_constraint(trials, sharding)
