"""Text generation with an exported model, which samples one token after another.

A language model can have two programs. The writer program has a memory, such as keys and values, so
that it reads each token only once. Without it, the prediction program reads all tokens again for
each new one, padded to a power of two. Both require a causal model, which is checked once. The
samples are the same as those of `jaxnn.generate` with the same key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, number, positive_integer, share
from jaxnn.models._writing import bucket, draw
from jaxnn.runs.executable import Executable
from jaxnn.typing import Any

PIECES = (512, 64, 8, 1)  # tokens read at once; few programs suffice for prompts of any length
ROOM = 256  # smallest size of a memory without a bound, so that few sizes are compiled
SAME = 0.03  # tolerance for logits of a text that is read in pieces, relative to the largest


@dataclass(frozen=True)
class Drawing:
    """The sampling parameters of a token, see `jaxnn.generate`."""

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

    @property
    def numbers(self) -> tuple[Any, Any]:
        """The temperature and `top_p` as float32, the inputs of the programs."""
        top_p = None if self.top_p is None else jnp.float32(self.top_p)
        return jnp.float32(self.temperature), top_p


@dataclass(frozen=True)
class Writer:
    """Generates text with the programs of a language model.

    Attributes:
      predict: the program from tokens `[examples, length]` to logits
        `[examples, length, vocabulary]`.
      steps: the program that reads a piece of a text into a memory, see `jaxnn.runs.writing`.
      context: the maximum number of tokens in memory, or `None` if there is no bound. When it is
        reached, generation restarts from the second half of the tokens.
      vocabulary: the number of tokens in the vocabulary.
    """

    predict: Executable
    steps: Executable | None
    context: int | None
    vocabulary: int
    _arrays: dict[int, Any] = field(default_factory=dict, repr=False)

    def tokens(
        self, prompt: Any, length: int, drawing: Drawing, stop: Sequence[int] = ()
    ) -> Iterator[int]:
        """Yields up to `length` tokens that follow a prompt, and ends before a token in `stop`.

        Raises:
          InvalidValue: if the prompt is empty, a token is not in the vocabulary, or a number is out
            of range.
        """
        positive_integer("generate", "length", length)
        drawing.check(self.vocabulary)
        tokens = np.asarray(prompt)
        if tokens.ndim != 1 or not tokens.size or not np.issubdtype(tokens.dtype, np.integer):
            raise InvalidValue(
                "generate",
                "the prompt is not a text of at least one token",
                got=f"{tokens.dtype} of shape {tokens.shape}",
                expected="whole numbers [time], or text",
                fix="Begin it with a token",
            )
        if not 0 <= tokens.min() <= tokens.max() < self.vocabulary:
            raise InvalidValue(
                "generate",
                "a token of the prompt is not in the vocabulary",
                got=f"tokens from {tokens.min()} to {tokens.max()}",
                expected=f"whole numbers from 0 to {self.vocabulary - 1}",
                fix="Encode the prompt as the training data were",
            )
        drawn = (self._anew if self.steps is None else self._remembering)(
            tokens.tolist(), length, drawing
        )
        return _until(drawn, frozenset(stop))

    def warm(self) -> None:
        """Compiles the programs for prompts, of any length if the context is bounded."""
        drawing = Drawing(jax.random.key(0))
        for size in PIECES:
            if size <= (self.context or PIECES[1]):
                next(self.tokens(np.zeros(size, np.int32), 1, drawing))

    def _recent(self, read: list[int]) -> list[int]:
        if self.context is None or len(read) <= self.context:
            return read
        return read[-max(1, self.context // 2) :]

    def _remembering(self, read: list[int], length: int, drawing: Drawing) -> Iterator[int]:
        memory: Any = None
        logits: Any = None
        for place in range(length):
            if memory is None or len(read) > (self.context or len(read)):
                read = self._recent(read)
                memory, logits = self._begin(read, length - place)
            token = _draw(drawing.top_k, logits, drawing.key, np.int32(place), *drawing.numbers)
            # The last token is read as well, although its logits are not used.
            memory, logits = self._read(memory, token[None])
            yield int(token[0])
            read = [*read, int(token[0])]

    def _begin(self, read: list[int], more: int) -> tuple[Any, Any]:
        """Reads tokens into a new memory with room for `more`; also returns the next logits."""
        room = bucket(max(len(read) + more, ROOM))
        room = room if self.context is None else min(room, self.context)
        steps: Any = self.steps
        memory, logits, start = empty_memory(steps, room), None, 0
        for size in PIECES:
            while len(read) - start >= size:
                tokens = np.array([read[start : start + size]], np.int32)
                memory, logits = self._read(memory, tokens, fresh=start == 0)
                start += size
        return memory, logits

    def _read(self, memory: Any, tokens: Any, *, fresh: bool = False) -> tuple[Any, Any]:
        steps: Any = self.steps
        return _read(steps.exported, self._on_device(steps), memory, np.bool_(fresh), tokens)

    def _anew(self, read: list[int], length: int, drawing: Drawing) -> Iterator[int]:
        arrays, (_, like) = self._on_device(self.predict), self.predict.signature
        rows, size = (n if isinstance(n, int) else None for n in like.shape)
        for place in range(length):
            read = self._recent(read)
            width = size or min(bucket(len(read)), self.context or len(read) * 2 + 16)
            tokens = np.zeros((rows or 1, width), like.dtype)
            tokens[:, : len(read)] = read
            token = int(
                _next(self.predict.exported, drawing.top_k, arrays, tokens, np.int32(len(read) - 1),
                      drawing.key, np.int32(place), *drawing.numbers)
            )  # fmt: skip
            yield token
            read = [*read, token]

    def _on_device(self, program: Executable) -> dict[str, Any]:
        """Returns the arrays of a program on the device, and caches them."""
        key = id(program)
        if key not in self._arrays:
            self._arrays[key] = jax.device_put(program.own)
        return self._arrays[key]


def writer_of(predict: Executable, steps: Executable | None = None) -> Writer:
    """Returns the `Writer` for the programs of a model.

    Raises:
      InvalidType: if the model does not predict the next tokens, or is not causal.
    """
    outputs: Any = predict.exported.out_avals[0]
    _, like = predict.signature
    text = getattr(like, "ndim", 0) == 2 and outputs.ndim == 3
    text &= len(predict.exported.out_avals) == 1
    if not text or not jnp.issubdtype(like.dtype, jnp.integer):
        raise InvalidType(
            "generate",
            "the model does not write text",
            got=f"inputs {like} and outputs {outputs}",
            expected="tokens [examples, length], and logits [examples, length, vocabulary]",
            fix="Use model.predict(inputs)",
        )
    size, vocabulary = like.shape[1], outputs.shape[2]
    context = size if isinstance(size, int) else predict.program.limits.get(str(size), (1, None))[1]
    count = 4 if context is None else min(4, context)
    tokens = np.zeros((2, size if isinstance(size, int) else count), np.int32)
    tokens[:, 1:count:2] = min(1, vocabulary - 1)
    expected = _logits(predict, tokens, count)
    return Writer(predict, steps if _agrees(steps, tokens[0, :count], expected) else None, context,
                  vocabulary)  # fmt: skip


def _logits(predict: Executable, tokens: np.ndarray, count: int) -> np.ndarray:
    """Returns the logits of the first tokens; raises if they depend on later tokens."""
    other = tokens.copy()
    other[1, -1] = 1 - other[0, -1]
    one, two = predict("generate", other, 2).astype(np.float32)
    difference = np.abs(one - two)[:-1].max(initial=0.0)
    if difference > 1e-2 * max(1e-6, np.abs(one).max()):
        raise InvalidType(
            "generate",
            "what the model says of a token depends on those after it",
            got=f"logits that differ by {difference:.3g}",
            expected="a model that reads from the first token to the last, as gpt does",
            fix="Use model.predict(tokens)",
        )
    return one[:count]


def _agrees(steps: Executable | None, tokens: np.ndarray, expected: np.ndarray) -> bool:
    """Returns whether reading a text in two pieces gives the same logits as reading it whole."""
    if steps is None:
        return False
    arrays = steps.own
    memory, half, fresh = empty_memory(steps, len(tokens)), max(1, len(tokens) // 2), True
    for first, end in ((0, half), (half, len(tokens))):
        if end > first:
            piece = tokens[None, first:end].astype(np.int32)
            memory, logits = _read(steps.exported, arrays, memory, np.bool_(fresh), piece)
            error = np.abs(np.asarray(logits, np.float32) - expected[end - 1]).max()
            if not error <= SAME * np.abs(expected).max():
                return False
            fresh = False
    return True


def empty_memory(steps: Executable, room: int) -> Any:
    """Returns an empty memory with room for `room` tokens."""
    _, piece = steps.signature

    def empty(x: Any) -> Any:
        return jnp.zeros([n if isinstance(n, int) else room for n in x.shape], x.dtype)

    return jax.tree.map(empty, piece["memory"])


def _until(drawn: Iterator[int], stop: frozenset[int]) -> Iterator[int]:
    for token in drawn:
        if token in stop:
            return
        yield token


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def _read(program, arrays, memory, fresh, tokens):
    after = program.call(arrays, {"fresh": fresh, "memory": memory, "tokens": tokens})
    return after["memory"], after["logits"]


@partial(jax.jit, static_argnums=0)
def _draw(top_k, logits, key, place, temperature, top_p):
    return draw(key, place, logits[None], top_k, temperature, top_p)


@partial(jax.jit, static_argnums=(0, 1))
def _next(program, top_k, arrays, tokens, last, key, place, temperature, top_p):
    logits = program.call(arrays, tokens)[:1]
    logits = jax.lax.dynamic_index_in_dim(logits, last, 1, keepdims=False)
    return draw(key, place, logits, top_k, temperature, top_p)[0]
