"""Texts that a language model writes during training: continuations of observed examples.

Each text begins with the first half of a context. The network reads it and generates one token
after another with a memory, as `jaxnn.generate` does. When the memory is full, the network starts
again from the last half of a context. The random draws depend only on the key of the run, so texts
at different steps differ only because the parameters differ.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn.layers._memory import remembering
from jaxnn.models._writing import empty_memory
from jaxnn.network import Network
from jaxnn.typing import Any, Array

TOKENS = 160  # the number of generated tokens of each text
TEXTS = 2  # the maximum number of texts
TEMPERATURE = 0.8  # the divisor of the logits
DRAWS = 0x7E87  # is folded into the key of the run
CLOSE = 0.03  # the tolerance of logits computed with a memory, relative to the largest


class Writing(NamedTuple):
    """The number of texts, and the number of tokens in a context of the network."""

    texts: int
    context: int

    @property
    def known(self) -> int:
        """The number of tokens in a prompt."""
        return self.context // 2

    @property
    def piece(self) -> int:
        """The number of tokens that are generated before the memory is full."""
        return min(TOKENS, self.context - self.known + 1)

    @property
    def pieces(self) -> int:
        """The number of pieces of a text, each of which starts with an empty memory."""
        return -(-TOKENS // self.piece)

    @property
    def reads(self) -> int:
        """The number of tokens that the network reads in total."""
        return self.texts * self.pieces * (self.known + self.piece - 1)


def write(
    network: Network, plan: Writing, params: Any, state: Any, inputs: Any, outputs: Any, key: Any
) -> dict[str, Array]:
    """Generates continuations `text` `[texts, TOKENS]` of the first inputs, and `text/agrees`.

    Args:
      network: a network that maps tokens `[batch, time]` to logits `[batch, time, n]`.
      plan: the number and size of the texts.
      params: the parameters of the network.
      state: the state of the network.
      inputs: the tokens `[batch, time]` that the prompts are taken from.
      outputs: the logits of `inputs`, computed without a memory. `text/agrees` is true if those
        computed with a memory are close to them; otherwise the texts are invalid.
      key: the key of the run.
    """
    reader, key = remembering(network, plan.context), jax.random.fold_in(key, DRAWS)

    def piece(known, number):
        own = jax.random.fold_in(key, number)

        def read(carry, place):
            token, memory = carry
            logits, memory = reader.apply(params, memory, token[:, None])
            logits = logits[:, -1].astype(jnp.float32)
            draws = jax.random.fold_in(own, place)
            token = jax.random.categorical(draws, logits / TEMPERATURE).astype(known.dtype)
            return (token, memory), (token, logits)

        memory = empty_memory(reader, params, state, plan.texts)
        _, memory = reader.apply(params, memory, known[:, :-1])
        start = known[:, -1], memory
        _, (tokens, logits) = lax.scan(read, start, jnp.arange(plan.piece))
        known = jnp.concatenate([known, tokens.T], 1)[:, -plan.known :]
        return known, (tokens.T, logits[0])

    begin = inputs[: plan.texts, : plan.known]
    _, (tokens, logits) = lax.scan(piece, begin, jnp.arange(plan.pieces))
    whole = outputs[: plan.texts, plan.known - 1].astype(jnp.float32)
    close = jnp.max(jnp.abs(logits[0] - whole)) <= CLOSE * jnp.max(jnp.abs(whole))
    written = jnp.moveaxis(tokens, 0, 1).reshape(plan.texts, -1)[:, :TOKENS]
    return {"text": written, "text/agrees": close}


def prompts(plan: Writing, inputs: Any) -> np.ndarray:
    """Returns the prompts, tokens `[texts, known]`."""
    return np.asarray(inputs)[: plan.texts, : plan.known]


def spelled(tokens: Any, vocabulary: tuple[str, ...]) -> np.ndarray:
    """Decodes rows of tokens to texts; unknown tokens become replacement characters."""
    names = (*vocabulary, "\ufffd")
    texts = ["".join(names[min(int(t), len(vocabulary))] for t in row) for row in tokens]
    return np.array(texts, dtype=str)
