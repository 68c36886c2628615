"""The overhead of `fit` over a plain `lax.scan`, including reports, chunks and metrics.

Only the time between the first and the last report of `fit` counts, which excludes startup.
"""

from importlib.metadata import version
from typing import Any

from experiments.benchmarks.classifiers import Given, jaxnn_learner


def fit(given: Given):
    """jaxnn: `fit` with ten reports per round."""
    import jax

    import jaxnn

    learner, data = jaxnn_learner(given)
    every = max(1, given.steps // 10)
    run: Any = None

    def train():
        nonlocal run
        options = {"steps": 11 * every, "every": every, "quiet": True}
        run = jaxnn.fit(learner, data, key=jax.random.key(0), **options)
        first, last = run.history[0], run.history[-1]
        seconds = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
        return seconds * given.steps

    def test():
        held_out = {"inputs": given.test_inputs, "labels": given.test_labels}
        rest = jaxnn.resident(held_out, batch_size=1000)
        return float(jaxnn.evaluate(learner, run.state, rest)["accuracy"])

    return train, test, f"jax {version('jax')}"
