"""Ensembles: combine the predictions of many trained networks in one `Network`.

run = fit(..., key=keys(range(8)))
network = ensemble(run.learner, run.best)
"""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidType, choice
from jaxnn.learning._learner import Learner
from jaxnn.network import Network
from jaxnn.typing import Any


def ensemble(
    learner: Learner,
    states: Any,
    *,
    average: Literal["probabilities", "outputs", "none"] = "probabilities",
) -> Network:
    """Returns a network that averages the predictions of the members.

    The network has no trainable parameters: the members' states are its state.

    Args:
      learner: the learner that trained the members.
      states: the members' states, stacked: `run.state` or `run.best` of a population.
      average: `"probabilities"` averages softmax(outputs) over members and returns the logarithm,
        so that the outputs are logits; `"outputs"` averages the outputs themselves, for regression
        or logits; `"none"` returns the outputs of all members, `[batch, members, ...]`.

    Raises:
      InvalidType: if the states are those of a single run.
      InvalidValue: if `average` is unknown.

    Source: Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using
    Deep Ensembles, NeurIPS 2017, section 2.4, https://arxiv.org/abs/1612.01474.
    """
    combined = {
        "probabilities": lambda x: jax.nn.logsumexp(jax.nn.log_softmax(x, -1), 0) - jnp.log(len(x)),
        "outputs": lambda x: jnp.mean(x, 0),
        "none": lambda x: jnp.moveaxis(x, 0, 1),
    }
    choice("ensemble", "average", average, combined)
    if jnp.ndim(states.step) != 1:
        raise InvalidType(
            "ensemble",
            "the states are not stacked over members",
            got="the state of one run",
            expected="states with a leading axis of members",
            fix="Train with key=jaxnn.keys(range(8)), and pass run.state or run.best",
        )

    def init(key, inputs):
        return {}, {"members": states}

    def apply(params, state, inputs, *, key=None):
        outputs = jax.vmap(learner.predict, (0, None))(state["members"], inputs)
        return jax.tree.map(combined[average], outputs), state

    return Network(init, apply)
