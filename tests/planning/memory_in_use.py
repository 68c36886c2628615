"""The memory that a step takes: `python -m tests.planning.memory_in_use`.

It prints, as JSON, the peak of a plan and that of the process over what it had before.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnn
from jaxnn.scale.memory import used_by


def main(rows: int = 60_000, width: int = 1024) -> None:
    """Plans a step of a wide network, then does some steps."""
    learner = jaxnn.learner(jaxnn.mlp([width, width], 10), jaxnn.classification(), optax.adam(1e-3))
    batch = {
        "inputs": np.ones((rows, 64), np.float32),
        "labels": np.zeros(rows, np.int32),
    }
    plan = jaxnn.plan(learner, batch)
    # What the plan measured is given back; a small run warms up what every run needs.
    small = jaxnn.resident(jax.tree.map(lambda x: x[:8], batch), batch_size=8)
    options = {"steps": 3, "key": jax.random.key(0)}
    for progress in jaxnn.train(learner, small, **options):
        jax.block_until_ready(progress.metrics)
    jnp.zeros(1).block_until_ready()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is counted from here
    before = used_by()
    data = jaxnn.resident(batch, batch_size=rows)
    for progress in jaxnn.train(learner, data, **options):
        jax.block_until_ready(progress.metrics)
    print(json.dumps({"planned": plan.memory.peak, "before": before.now, "peak": used_by().peak}))


if __name__ == "__main__":
    main()
