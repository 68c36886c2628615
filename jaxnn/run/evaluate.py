"""Evaluation and prediction over any number of examples, exact to the last one."""

from functools import partial

import jax
import numpy as np
from jax import lax

from jaxnn import metrics as measures
from jaxnn.checks import kind, positive_integer
from jaxnn.data.resident import Resident, resident
from jaxnn.learner import Learner
from jaxnn.typing import Any


@partial(jax.jit, static_argnums=0)
def evaluation(learner: Learner, state: Any, data: Resident) -> dict[str, Any]:
    """Returns the metrics over all the data as arrays on the device, without waiting for them."""

    def add(number, sums):
        return measures.merge(sums, learner.evaluate(state, data.in_order(number)))

    # The first batch gives the sums their structure; the loop does the others.
    first = learner.evaluate(state, data.in_order(0))
    return measures.values(lax.fori_loop(1, data.num_batches, add, first))


def evaluate(learner: Learner, state: Any, data: Resident) -> dict[str, float]:
    """Returns every metric over all the data, `{"loss": ..., "accuracy": ...}`.

    The last batch is padded with examples of weight 0, so that the result is that of one batch
    with all the examples, whatever the batch size.
    """
    fix = "Pass resident({'inputs': inputs, 'labels': labels}, batch_size=1024)"
    kind("evaluate", "data", data, Resident, fix=fix)
    return {name: float(value) for name, value in evaluation(learner, state, data).items()}


@partial(jax.jit, static_argnums=0)
def _predict(learner, state, data, number):
    return learner.predict(state, data.in_order(number)["inputs"])


def predict(learner: Learner, state: Any, inputs: Any, *, batch_size: int = 1024) -> Any:
    """Returns the outputs for any number of inputs, as NumPy arrays with the same leading axis.

    Args:
      learner: how outputs are made.
      state: with the parameters.
      inputs: an array `[examples, ...]`, or a pytree of them.
      batch_size: the most examples that the device computes at once.

    Raises:
      InvalidValue: if there are no examples, or a number is not finite.
    """
    positive_integer("predict", "batch_size", batch_size)
    data = resident({"inputs": inputs}, batch_size=batch_size)
    batches = [
        _predict(learner, state, data, np.int32(number)) for number in range(data.num_batches)
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: data.num_examples], *batches)
