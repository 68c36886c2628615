"""Plans of a small GPT for hardware that is not there."""

from typing import Any

import jax
import numpy as np
import optax

import jaxnn


def planned(name: str, batch_size: int) -> dict[str, Any]:
    """Returns the plan for some hardware, as JSON; several devices shard the parameters."""
    network = jaxnn.gpt(512, layers=3, heads=4, features=256, positions=128, stacked=True)
    learner = jaxnn.learner(jaxnn.mixed_precision(network), jaxnn.next_token(), optax.adamw(1e-3))
    batch = {"inputs": jax.ShapeDtypeStruct((batch_size, 129), np.int32)}
    several = jaxnn.planning.hardware.hardware(name).devices > 1
    rules = jaxnn.scale.fsdp if several else None
    return jaxnn.plan(learner, batch, name, rules=rules, fast=True).as_json()
