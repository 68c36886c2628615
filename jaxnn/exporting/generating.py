"""Writing with a model file: one token after the other, by the program that predicts.

The program reads all tokens so far for each one that it draws, filled up to a power of two, so that
few programs are compiled. What comes after a place changes nothing there, which is tried once. The
draws are those of `jaxnn.generate` with the same key.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, number, positive_integer, share
from jaxnn.models._writing import bucket, draw
from jaxnn.runs.prediction import Executable
from jaxnn.typing import Any


@dataclass(frozen=True)
class Drawing:
    """How a token is drawn, see `jaxnn.generate`."""

    key: Any
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def check(self, vocabulary: int) -> None:
        """Raises `InvalidValue` unless all numbers are in range."""
        number("generate", "temperature", self.temperature, low=0.0)
        if self.top_p is not None:
            share("generate", "top_p", self.top_p)
        if self.top_k is not None:
            positive_integer("generate", "top_k", self.top_k, at_most=vocabulary)


def write_tokens(
    program: Executable, prompt: Any, length: int, drawing: Drawing, stop: Sequence[int]
) -> Iterator[int]:
    """Yields up to `length` tokens that follow a prompt, and ends before one of `stop`.

    Raises:
      InvalidType: if the program does not give logits of what follows each token, from what is
        before alone.
      InvalidValue: if the prompt is empty, or has a token that is not in the vocabulary.
    """
    positive_integer("generate", "length", length)
    context, vocabulary = _checked(program)
    drawing.check(vocabulary)
    tokens = np.asarray(prompt)
    if tokens.ndim != 1 or not tokens.size or not np.issubdtype(tokens.dtype, np.integer):
        raise InvalidValue(
            "generate",
            "the prompt is not a text of at least one token",
            got=f"{tokens.dtype} of shape {tokens.shape}",
            expected="whole numbers [time], or text",
            fix="Begin it with a token",
        )
    if not 0 <= tokens.min() <= tokens.max() < vocabulary:
        raise InvalidValue(
            "generate",
            "a token of the prompt is not in the vocabulary",
            got=f"tokens from {tokens.min()} to {tokens.max()}",
            expected=f"whole numbers from 0 to {vocabulary - 1}",
            fix="Encode the prompt as the training data were",
        )
    return _written(program, tokens.tolist(), length, drawing, frozenset(stop), context)


def _written(
    program: Executable, read: list[int], length: int, drawing: Drawing, stop: Any, context: Any
) -> Iterator[int]:
    names, like = program.signature
    arrays = {name: jnp.asarray(program.arrays[name]) for name in names}
    rows = like.shape[0] if isinstance(like.shape[0], int) else 1
    temperature = jnp.float32(drawing.temperature)
    top_p = None if drawing.top_p is None else jnp.float32(drawing.top_p)
    for place in range(length):
        if context is not None and len(read) > context:  # it starts anew from the later half
            read = read[-max(1, context // 2) :]
        size = like.shape[1] if isinstance(like.shape[1], int) else bucket(len(read))
        size = size if context is None else min(size, context)
        tokens = np.zeros((rows, size), like.dtype)
        tokens[:, : len(read)] = read
        token = int(
            _next(program.program, drawing.top_k, arrays, tokens, np.int32(len(read) - 1),
                  drawing.key, np.int32(place), temperature, top_p)
        )  # fmt: skip
        if token in stop:
            return
        yield token
        read = [*read, token]


@partial(jax.jit, static_argnums=(0, 1))
def _next(program, top_k, arrays, tokens, last, key, place, temperature, top_p):
    logits = program.call(arrays, tokens)[:1]
    logits = jax.lax.dynamic_index_in_dim(logits, last, 1, keepdims=False)
    return draw(key, place, logits, top_k, temperature, top_p)[0]


def _checked(program: Executable) -> tuple[int | None, int]:
    """Returns how many tokens the program reads at most, and how many there are."""
    outputs: Any = program.program.out_avals[0]
    _, like = program.signature
    text = getattr(like, "ndim", 0) == 2 and outputs.ndim == 3
    text &= len(program.program.out_avals) == 1
    if not text or not jnp.issubdtype(like.dtype, jnp.integer):
        raise InvalidType(
            "generate",
            "the model does not write text",
            got=f"inputs {like} and outputs {outputs}",
            expected="tokens [examples, length], and logits [examples, length, vocabulary]",
            fix="Use model.predict(inputs)",
        )
    size, vocabulary = like.shape[1], outputs.shape[2]
    most = size if isinstance(size, int) else _most(program.limits, str(size))
    _check_causal(program, 4 if most is None else min(4, most), size)
    return most, vocabulary


def _most(limits: Mapping[str, tuple[int, int | None]], name: str) -> int | None:
    return limits.get(name, (1, None))[1]


def _check_causal(program: Executable, count: int, size: Any) -> None:
    width = size if isinstance(size, int) else count
    if width < 2:
        return
    tokens = np.zeros((2, width), np.int32)
    tokens[1, -1] = 1
    one, other = program("generate", tokens, 2)[:, :-1].astype(np.float32)
    if np.abs(one - other).max() > 1e-2 * max(1e-6, np.abs(one).max()):
        raise InvalidType(
            "generate",
            "what the model says of a token depends on those after it",
            got=f"logits that differ by {np.abs(one - other).max():.3g}",
            expected="a model that reads from the first token to the last, as gpt does",
            fix="Use model.predict(tokens)",
        )
