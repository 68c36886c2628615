"""What a language model writes at a moment: it continues texts of the data it is observed on.

Each text begins with the first half of what the network reads at once. The network reads that, and
continues token by token, with a memory, as `jaxnn.generate` does; when the memory is full, it
starts again from the last half of what is there. The draws depend on the key of the run alone, so
that two moments differ by what was learned between them.
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

TOKENS = 160  # that are written of each text
TEXTS = 2  # at most
TEMPERATURE = 0.8  # by which logits are divided
DRAWS = 0x7E87  # folded into the key of the run
CLOSE = 0.03  # by which logits read piece by piece may differ, relative to the largest


class Writing(NamedTuple):
    """How many texts are written, and how many tokens the network reads at once."""

    texts: int
    context: int

    @property
    def known(self) -> int:
        """The tokens that a text begins with."""
        return self.context // 2

    @property
    def piece(self) -> int:
        """The tokens that are written before the memory is full."""
        return min(TOKENS, self.context - self.known + 1)

    @property
    def pieces(self) -> int:
        """How often it starts anew."""
        return -(-TOKENS // self.piece)

    @property
    def reads(self) -> int:
        """All tokens that are read."""
        return self.texts * self.pieces * (self.known + self.piece - 1)


def write(
    network: Network, plan: Writing, params: Any, state: Any, inputs: Any, outputs: Any, key: Any
) -> dict[str, Array]:
    """Returns the tokens that continue the first texts, `[texts, TOKENS]`.

    Args:
      network: from tokens `[batch, time]` to logits.
      plan: what to write.
      params: its parameters.
      state: its state.
      inputs: tokens `[batch, time]`.
      outputs: the logits of these, read as a whole: `agrees` says whether the network gives the
        same when it reads piece by piece, without which nothing that it writes is its own.
      key: of the run.
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
    """Returns the tokens that the texts begin with."""
    return np.asarray(inputs)[: plan.texts, : plan.known]


def spelled(tokens: Any, vocabulary: tuple[str, ...]) -> np.ndarray:
    """Returns rows of tokens as texts; those that stand for nothing are replacement characters."""
    names = (*vocabulary, "\ufffd")
    texts = ["".join(names[min(int(t), len(vocabulary))] for t in row) for row in tokens]
    return np.array(texts, dtype=str)
