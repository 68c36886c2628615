"""Text from a language model, token by token, as server-sent events.

The program of a model reads a window of tokens and gives logits for each place. A window has one
size: what is not written yet is filled up, which a causal network does not look at. Tokens of
several texts are computed in one batch, as other requests are.
"""

import json
from collections.abc import AsyncIterator, Awaitable
from typing import NamedTuple

import numpy as np

from jaxnn.checks import Explained
from jaxnn.serving.refusals import Refused
from jaxnn.serving.served import TEXT, Served
from jaxnn.typing import Any, Callable

WINDOW = 128  # tokens that are read at once, where the length is free
LONGEST = 2000  # tokens of an answer
PROMPT = 20_000  # characters
FIELDS = ("length", "temperature", "top_k", "seed")


class Wanted(NamedTuple):
    """What a request asks for."""

    prompt: np.ndarray
    length: int
    temperature: float
    top_k: int | None
    seed: int


def writes(served: Served) -> bool:
    """Returns whether a model writes text: it has a tokenizer, and no token looks at later ones."""
    if served.task != TEXT or served.tokens is None or served.kind != "tokens":
        return False
    window, half = window_of(served), window_of(served) // 2
    tokens = np.zeros((served.buckets[0], window), served.inputs.dtype)
    other = tokens.copy()
    other[:, half:] = 1
    first, second = (np.asarray(served.predict(x))[0] for x in (tokens, other))
    return bool(np.allclose(first[:half], second[:half], 1e-3, 1e-3))


def window_of(served: Served) -> int:
    """Returns how many tokens are read at once."""
    (size,) = served.inputs.shape
    if size is not None:
        return size
    bounds = [high for _, high in served.limits.values() if high is not None]
    return min([WINDOW, *bounds])


def wanted(served: Served, body: dict[str, Any]) -> Wanted:
    """Returns what a body asks for.

    Raises:
      Refused or InvalidValue: if it is not text that the model knows, or a number is out of range.
    """
    prompt = body["prompt"]
    if not isinstance(prompt, str) or not 0 < len(prompt) <= PROMPT:
        raise Refused(
            422, "the prompt is not a text", got=f"{str(prompt)[:40]!r}", where="generate",
            expected=f"1 to {PROMPT:,} characters", fix='Send {"prompt": "Once"}',
        )  # fmt: skip
    vocabulary = served.tokens.encode(prompt)
    tokens = np.asarray(getattr(vocabulary, "ids", vocabulary), np.int64)
    length = _number(body, "length", 200, 1, LONGEST, int)
    temperature = _number(body, "temperature", 0.8, 0.0, 5.0, float)
    top_k = _number(body, "top_k", 0, 0, 1 << 20, int)
    seed = _number(body, "seed", 0, 0, (1 << 32) - 1, int)
    return Wanted(tokens, int(length), temperature, int(top_k) or None, int(seed))


async def events(
    served: Served, ask: Wanted, predict: Callable[[Any], Awaitable[Any]]
) -> AsyncIterator[str]:
    """Yields server-sent events: `data: {"text": ...}` for each piece, and `done` in the end.

    Args:
      served: the model.
      ask: what is wanted.
      predict: computes the outputs of inputs, with those of other requests.
    """
    random = np.random.default_rng(ask.seed)
    tokens, window = ask.prompt.tolist(), window_of(served)
    written: list[int] = []
    sent, reason = "", "length"
    try:
        for _ in range(ask.length):
            recent = tokens[-window:]
            inputs = np.zeros((1, window), served.inputs.dtype)
            inputs[0, : len(recent)] = recent
            logits = np.asarray(await predict(inputs))[0, len(recent) - 1]
            token = drawn(logits.astype(np.float64), ask, random)
            if token in served.stop:
                reason = "stop"
                break
            tokens.append(token)
            written.append(token)
            text = served.tokens.decode(written)
            if len(text) > len(sent) and not text.endswith("\ufffd"):  # a letter may take several
                yield f"data: {json.dumps({'text': text[len(sent) :]})}\n\n"
                sent = text
    except Explained as error:
        yield f"event: error\ndata: {json.dumps({'error': str(error)})}\n\n"
    else:
        said = {"tokens": len(written), "reason": reason}
        yield f"event: done\ndata: {json.dumps(said)}\n\n"


def drawn(logits: np.ndarray, ask: Wanted, random: np.random.Generator) -> int:
    """Returns the next token."""
    if ask.temperature == 0:
        return int(logits.argmax())
    logits = logits / ask.temperature
    if ask.top_k is not None and ask.top_k < len(logits):
        logits = np.where(logits < np.sort(logits)[-ask.top_k], -np.inf, logits)
    # The largest of logits with Gumbel noise is a draw from their softmax.
    return int((logits - np.log(-np.log(random.random(len(logits)) + 1e-300))).argmax())


def _number(
    body: dict[str, Any], name: str, default: float, low: float, high: float, type_: type
) -> float:
    value = body.get(name, default)
    allowed = int if type_ is int else int | float
    if not isinstance(value, allowed) or isinstance(value, bool) or not low <= value <= high:
        raise Refused(
            422, f"{name} is out of range", got=f"{name}={str(value)[:40]}", where="generate",
            expected=f"{'a whole number' if type_ is int else 'a number'} from {low:g} to {high:g}",
            fix=f'Send "{name}": {default:g}, or leave it out',
        )  # fmt: skip
    return value
