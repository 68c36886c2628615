"""Plans for hardware that is not there: `python -m tests.planning.on_hardware NAME [BATCH_SIZE]`.

It prints the plan of a small GPT as JSON. A process of its own, since libtpu may abort it.
"""

import json
import sys

import jax
import numpy as np
import optax

import jaxnn


def main(name: str, batch_size: int = 32) -> None:
    """Prints the plan for some hardware; several devices shard the parameters."""
    network = jaxnn.gpt(512, layers=3, heads=4, features=256, positions=128, stacked=True)
    learner = jaxnn.learner(jaxnn.mixed_precision(network), jaxnn.next_token(), optax.adamw(1e-3))
    batch = {"inputs": jax.ShapeDtypeStruct((batch_size, 129), np.int32)}
    several = jaxnn.planning.hardware.hardware(name).devices > 1
    rules = jaxnn.scale.fsdp if several else None
    print(json.dumps(jaxnn.plan(learner, batch, name, rules=rules, fast=True).as_json()))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
