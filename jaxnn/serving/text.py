"""Streams generated text as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import jax
import numpy as np

from jaxnn.checks import Explained
from jaxnn.exporting.generating import Drawing
from jaxnn.exporting.tokens import Tokens, pieces
from jaxnn.serving.refusals import Refused
from jaxnn.serving.served import Served
from jaxnn.typing import Any

LONGEST = 2000  # maximum number of tokens to generate
PROMPT = 20_000  # maximum length of a prompt in characters
AT_ONCE = 4  # maximum number of texts in progress, each of which has a memory of its own
FIELDS = ("length", "temperature", "top_k", "seed")


def events(served: Served, body: dict[str, Any], turns: asyncio.Semaphore) -> AsyncIterator[str]:
    """Returns server-sent events: `data: {"text": ...}` for each piece, and `done` at the end.

    A text begins when `turns` has a place for it; until then it takes no memory.

    Raises:
      Refused or InvalidValue: if the prompt is not text or cannot be encoded, or a number is out of
        range.
    """
    prompt, writer, tokenizer = body["prompt"], served.writer, served.tokens
    text = isinstance(prompt, str) and 0 < len(prompt) <= PROMPT
    if not text or writer is None or tokenizer is None:
        raise Refused(
            422, "the prompt is not a text", got=f"{str(prompt)[:40]!r}", where="generate",
            expected=f"1 to {PROMPT:,} characters", fix='Send {"prompt": "Once"}',
        )  # fmt: skip
    encoded = tokenizer.encode(prompt)
    tokens = np.asarray(getattr(encoded, "ids", encoded), np.int64)
    length = int(_number(body, "length", 200, 1, LONGEST, int))
    temperature = _number(body, "temperature", 0.8, 0.0, 5.0, float)
    top_k = int(_number(body, "top_k", 0, 0, 1 << 20, int))
    seed = int(_number(body, "seed", 0, 0, (1 << 32) - 1, int))
    few = top_k if 0 < top_k < writer.vocabulary else None
    drawing = Drawing(jax.random.key(seed), temperature, few)
    drawn = writer.tokens(tokens, length, drawing, served.about.stop)
    return _events(tokenizer, drawn, length, turns)


async def _events(
    tokenizer: Tokens, drawn: Iterator[int], length: int, turns: asyncio.Semaphore
) -> AsyncIterator[str]:
    count = 0

    def counted() -> Iterator[int]:
        nonlocal count
        for token in drawn:
            count += 1
            yield token

    text = pieces(tokenizer, counted())
    try:
        async with turns:
            while (piece := await asyncio.to_thread(next, text, None)) is not None:
                yield f"data: {json.dumps({'text': piece})}\n\n"
    except Explained as error:
        yield f"event: error\ndata: {json.dumps({'error': str(error)})}\n\n"
    else:
        said = {"tokens": count, "reason": "stop" if count < length else "length"}
        yield f"event: done\ndata: {json.dumps(said)}\n\n"


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
