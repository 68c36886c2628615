"""Writing: one token after the other, each drawn from what a network says of the tokens so far.

The whole text is one compiled program. The network reads the prompt once, keeps the keys and values
of its attention in a cache, and then reads one token at a time; what it writes is what it would
write if it read everything anew for each token.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.models import gpt
    >>> network = gpt(65, layers=1, heads=2, features=16, positions=32)
    >>> params, state = network.init(jax.random.key(0), jnp.zeros((1, 32), jnp.int32))
    >>> prompt = jnp.array([[1, 2, 3]])
    >>> generate(network, params, state, prompt, 8, key=jax.random.key(1)).shape
    (1, 8)
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn.checks import (
    InvalidType,
    InvalidValue,
    is_concrete,
    kind,
    number,
    positive_integer,
    share,
)
from jaxnn.layers._memory import remembering
from jaxnn.masked import refuse_masked
from jaxnn.network import Network
from jaxnn.typing import Any, Array, Int, Number


def generate(
    network: Network,
    params: Any,
    state: Any,
    prompt: Any,
    length: int,
    *,
    key: Any,
    temperature: Number | int = 1.0,
    top_k: int | None = None,
    top_p: Number | None = None,
    context: int | None = None,
) -> Int[Array, "batch length"]:
    """Draws the `length` tokens that follow a prompt.

    Args:
      network: from tokens `[batch, time]` to logits `[batch, time, vocabulary]`, such as `gpt`.
        Only its `attention`, which must be causal, and its `positions` may tell one place from
        another: all else must treat every place alike. Unless they are traced, the parameters are
        tried on a few tokens, read whole and in two pieces: the logits must agree.
      params: its parameters.
      state: its state, `{}` for most.
      prompt: whole numbers `[batch, time]`, at least one for each text.
      length: how many tokens to draw.
      key: decides the draws.
      temperature: divides the logits, at least 0: below 1 the likelier become likelier still, and
        at 0 the likeliest is taken. May be traced.
      top_k: draws only from so many, the likeliest.
      top_p: draws only from the likeliest that together have this probability, in (0, 1]. May be
        traced.
      context: how many tokens the network looks back at most. When so many are read, it starts
        anew from the later half of them. By default it looks back to the beginning.

    Returns:
      The tokens after the prompt, int32.

    Raises:
      InvalidType: if the network does not give the same logits when it reads piece by piece, or
        the prompt has the wrong type.
      InvalidValue: if a number is out of range, a token is not in the vocabulary, or the network
        has fewer positions than prompt and `length` need.

    Source of top-p: Holtzman et al., The Curious Case of Neural Text Degeneration, ICLR 2020,
    section 3.1, https://arxiv.org/abs/1904.09751.
    """
    kind("generate", "network", network, Network, fix="Pass a network such as gpt(...)")
    positive_integer("generate", "length", length)
    number("generate", "temperature", temperature, low=0.0)
    if top_p is not None:
        share("generate", "top_p", top_p)
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise InvalidType(
            "generate",
            "key is not a key",
            got=f"a {type(key).__name__}",
            expected="a key of jax.random",
            fix="Pass key=jax.random.key(0)",
        )
    prompt = prompt if hasattr(prompt, "dtype") else _one_array(prompt)
    if prompt.ndim != 2 or not np.issubdtype(prompt.dtype, np.integer) or not prompt.size:
        raise InvalidType(
            "generate",
            "the prompt has the wrong type",
            got=f"dtype {prompt.dtype} and shape {prompt.shape}",
            expected="whole numbers [batch, time], at least one for each text",
            fix="Pass prompt[None] for a single text, and a token to begin with",
        )
    reads = int(prompt.shape[1] + length - 1)  # the last token is drawn and never read
    context = reads if context is None else positive_integer("generate", "context", context)
    if context < 2 <= reads:
        raise InvalidValue(
            "generate",
            "context is too short to continue from a half of it",
            got=f"context={context}",
            expected="at least 2",
            fix="Pass the length of the sequences that the network was trained on",
        )
    context = min(context, reads)
    vocabulary = _check_reads_on(network, params, state, context)
    if is_concrete(prompt) and not (0 <= int(prompt.min()) <= int(prompt.max()) < vocabulary):
        raise InvalidValue(
            "generate",
            "a token of the prompt is not in the vocabulary",
            got=f"tokens from {prompt.min()} to {prompt.max()}",
            expected=f"whole numbers from 0 to {vocabulary - 1}",
            fix="Encode the prompt as the training data were",
        )
    if top_k is not None:
        positive_integer("generate", "top_k", top_k, at_most=vocabulary)
    return _generate(
        network, top_k, length, context, params, state, jnp.asarray(prompt, jnp.int32), key,
        jnp.float32(temperature), None if top_p is None else jnp.float32(top_p),
    )  # fmt: skip


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _generate(network, top_k, length, context, params, state, prompt, key, temperature, top_p):
    reader = remembering(network, context)
    batch = prompt.shape[0]

    def draw(number, logits):
        logits = logits.astype(jnp.float32)
        likeliest = jnp.argmax(logits, -1).astype(jnp.int32)
        hot = jnp.where(temperature > 0, temperature, 1.0)
        allowed = _most_probable(_largest(logits / hot, top_k), top_p)
        drawn = jax.random.categorical(jax.random.fold_in(key, number), allowed).astype(jnp.int32)
        return jnp.where(temperature > 0, drawn, likeliest)

    def read(memory, tokens):
        logits, memory = reader.apply(params, memory, tokens)
        return memory, logits[:, -1]

    def write(carry, number):
        memory, logits = carry
        token = draw(number, logits)
        return read(memory, token[:, None]), token

    def piece(known, done, count):
        """Reads the known tokens, and writes `count` more, for which the memory has room."""
        start = read(empty_memory(reader, state, batch), known)
        (_, logits), tokens = lax.scan(write, start, done + jnp.arange(count - 1))
        last = draw(done + count - 1, logits)
        return jnp.concatenate([tokens.T, last[:, None]], 1)

    half = max(1, context // 2)
    known = prompt if prompt.shape[1] <= context else prompt[:, -half:]
    done = min(length, context - known.shape[1] + 1)
    text = piece(known, 0, done)
    if done == length:
        return text
    # The memory was full: all other pieces begin with the last half, and are one loop.
    room = context - half + 1
    known = jnp.concatenate([known, text], 1)[:, -half:]

    def resume(known, done):
        text = piece(known, done, room)
        return jnp.concatenate([known, text], 1)[:, -half:], text

    _, pieces = lax.scan(resume, known, jnp.arange(done, length, room))
    rest = jnp.moveaxis(pieces, 0, 1).reshape(batch, -1)
    return jnp.concatenate([text, rest], 1)[:, :length]


def _largest(logits, count):
    """Leaves only the `count` largest logits."""
    if count is None:
        return logits
    _, places = lax.top_k(logits, count)  # of equals the first, so that there are no more
    chosen = jnp.zeros(logits.shape, bool).at[jnp.arange(len(logits))[:, None], places].set(True)
    return jnp.where(chosen, logits, -jnp.inf)


def _most_probable(logits, probability):
    """Leaves only the largest logits that together have at least the probability."""
    if probability is None:
        return logits
    ordered = jnp.sort(logits, -1)[:, ::-1]
    chances = jax.nn.softmax(ordered, -1)
    before = jnp.cumsum(chances, -1) - chances  # of those that are likelier
    lowest = jnp.min(jnp.where(before < probability, ordered, jnp.inf), -1, keepdims=True)
    # Rounding may make a sum that is not 1: all are all.
    return jnp.where((logits < lowest) & (probability < 1), -jnp.inf, logits)


def empty_memory(reader: Network, state: Any, batch: int) -> Any:
    """Returns the network's own state, with an empty memory where it has none."""
    tokens = jax.ShapeDtypeStruct((batch, 1), jnp.int32)
    return _update(reader.init(jax.random.key(0), tokens)[1], state)


def _update(tree: Any, other: Any) -> Any:
    """Returns nested dicts with the leaves of both, those of `other` where both have one."""
    if not isinstance(tree, Mapping):
        return other
    shared = {name: _update(tree[name], other[name]) for name in tree if name in other}
    return {**tree, **other, **shared}


def _check_reads_on(network: Network, params: Any, state: Any, context: int) -> int:
    """Returns the number of logits; raises unless the network can read piece by piece."""
    error, logits = _reading_error(network, min(context, 4), params, state)
    if is_concrete(error) and error > 0.03:
        raise InvalidType(
            "generate",
            "the network reads piece by piece otherwise than as a whole",
            got=f"{network.parts.kind}, whose logits differ by {float(error):.0%}",
            expected="causal attention, positions, and layers that treat every place alike; and an"
            " apply that returns the state of its parts",
            fix="Apply the network to the whole text for each token, or replace the part that looks"
            " at other places",
        )
    return logits.shape[-1]


@partial(jax.jit, static_argnums=(0, 1))
def _reading_error(network, count, params, state):
    """Returns how far logits of tokens read in two pieces are from those read whole, and these."""
    reader, half = remembering(network, count), max(1, count // 2)
    memory, pieces = empty_memory(reader, state, 1), []
    tokens = jnp.arange(count, dtype=jnp.int32)[None] % 2
    whole, _ = network.apply(params, state, tokens)
    if not hasattr(whole, "shape"):
        raise InvalidType(
            "generate",
            "the network does not give logits alone",
            got=f"a {type(whole).__name__}",
            expected="one array [batch, time, vocabulary]",
            fix="Pass the network that was not changed by capture",
        )
    for piece in (tokens[:, :half], tokens[:, half:]):
        if piece.size:
            logits, memory = reader.apply(params, memory, piece)
            pieces.append(logits)
    whole, pieces = whole.astype(jnp.float32), jnp.concatenate(pieces, 1).astype(jnp.float32)
    return jnp.abs(pieces - whole).max() / jnp.abs(whole).max(), whole[:, -1]


def _one_array(prompt: Any) -> np.ndarray:
    """Returns the tokens of a prompt in lists; raises unless all texts are of one length."""
    refuse_masked("generate", prompt)
    try:
        return np.asarray(prompt)
    except ValueError:
        raise InvalidType(
            "generate",
            "the prompts have different lengths",
            got=f"texts of {', '.join(str(np.size(x)) for x in prompt)} tokens",
            expected="whole numbers [batch, time]",
            fix="Call it once for each length of a prompt",
        ) from None
