"""Text generation: each token is sampled given the tokens so far.

The network reads the prompt once, stores the keys and values of its attention in a cache, and then
reads one token at a time, with the outputs that it would have if it read the whole text for each
token. Prompts of different lengths form one batch, and lengths that round up to the same power of
two share one compiled program.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnn.models import gpt
    >>> network = gpt(65, layers=1, heads=2, features=16, positions=32)
    >>> params, state = network.init(jax.random.key(0), jnp.zeros((1, 32), jnp.int32))
    >>> prompt = jnp.array([[1, 2, 3]])
    >>> generate(network, params, state, prompt, 8, key=jax.random.key(1)).shape
    (1, 8)
    >>> arguments = (network, params, state, prompt, 8)
    >>> len([token for token in generate_tokens(*arguments, key=jax.random.key(1))])
    8
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
from jaxnn.masked import Masked, values_of
from jaxnn.models._writing import (
    begin,
    bucket,
    empty_memory,
    has_room,
    takes_masked,
    write_all,
    write_beyond,
    write_one,
)
from jaxnn.network import Network
from jaxnn.typing import Any, Number


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
    stop: Sequence[int] = (),
) -> Any:
    """Samples the tokens that follow a prompt, up to `length` of them or to a `stop` token.

    Args:
      network: maps tokens `[batch, time]` to logits `[batch, time, vocabulary]`, such as `gpt`.
        Outputs may depend on other positions through `attention`, which must be causal, and
        `positions` only. Unless the parameters are traced, this is verified: a few tokens are read
        as a whole and in two chunks, and the logits must agree.
      params: the parameters of the network; the cache has their precision.
      state: the state of the network, `{}` for most.
      prompt: integers `[batch, time]`, at least one token for each text; `Masked` for prompts of
        different lengths, as `Tokenizer.batch` returns.
      length: the maximum number of tokens to sample.
      key: the random key of the samples.
      temperature: divides the logits; at least 0. Less than 1 favours probable tokens; at 0, the
        most probable token is selected. May be traced.
      top_k: samples from that many of the most probable tokens only.
      top_p: samples from the most probable tokens whose cumulative probability reaches this number,
        in (0, 1]. May be traced.
      context: the maximum number of tokens that the network reads. When it has read them, it starts
        again from the second half of them. By default it reads the whole text.
      stop: the tokens that end a text, such as `Tokenizer.stop`. Generation ends when all texts
        have ended.

    Returns:
      The tokens after the prompt, int32 `[batch, length]`. With `stop`, they are `Masked`: the
      token that ends a text, and those after it, are padding.

    Raises:
      InvalidType: if the network computes other logits when it reads in chunks, or an argument has
        the wrong type.
      InvalidValue: if a number is out of range, a token is not in the vocabulary, or the network
        has fewer positions than the prompt and `length` require.

    Source of top-p: Holtzman et al., The Curious Case of Neural Text Degeneration, ICLR 2020,
    section 3.1, https://arxiv.org/abs/1904.09751.
    """
    plan = _plan(network, params, state, prompt, length, key, temperature, top_k, top_p, context)
    stop = tuple(stop)
    if plan.beyond:
        if stop or isinstance(prompt, Masked):
            raise InvalidValue(
                "generate",
                "beyond its context it supports neither stop nor Masked prompts",
                got=f"{plan.context} tokens of context" + ", and stop" * bool(stop),
                expected="a context of at least the tokens of the prompt and the sampled ones",
                fix="Leave context out, or ask for fewer tokens",
            )
        return write_beyond(
            network, top_k, length, plan.context, params, state, plan.prompt, *plan.drawing
        )
    tokens, mask = write_all(
        network, top_k, plan.most, plan.context, params, state, plan.prompt, jnp.int32(length),
        jnp.asarray(stop, jnp.int32), *plan.drawing,
    )  # fmt: skip
    tokens, mask = tokens[:, :length], mask[:, :length]
    return Masked(tokens, mask) if stop else tokens


def generate_tokens(
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
    stop: Sequence[int] = (),
) -> Iterator[np.ndarray]:
    """Yields the tokens of `generate` one by one, int32 `[batch]`, as they are sampled.

    The arguments and errors are those of `generate`, but no argument may be traced. A text that has
    ended repeats its `stop` token; the iterator ends when all texts have ended.
    """
    plan = _plan(network, params, state, prompt, length, key, temperature, top_k, top_p, None)
    memory, logits = begin(network, plan.context, params, state, plan.prompt)
    ended: Any = np.zeros(len(logits), bool)
    last = np.zeros(len(logits), np.int32)
    for place in range(length):
        token, memory, logits = write_one(
            network, top_k, plan.context, params, memory, logits, plan.drawing[0],
            jnp.int32(place), *plan.drawing[1:],
        )  # fmt: skip
        last = np.where(ended, last, np.asarray(token))
        ended = ended | np.isin(last, tuple(stop))
        yield last
        if ended.all():
            return


class _Plan(NamedTuple):
    """The validated arguments of `generate`, with sizes rounded up to those of a compiled program.

    Attributes:
      prompt: the prompt, `Masked` with padding in front if the program allows it.
      most: the number of tokens that the program can sample.
      context: the length of the cache.
      drawing: the key, the temperature and `top_p`.
      beyond: whether more tokens are read than the cache holds.
    """

    prompt: Any
    most: int
    context: int
    drawing: tuple[Any, Any, Any]
    beyond: bool


def _plan(
    network: Any,
    params: Any,
    state: Any,
    prompt: Any,
    length: int,
    key: Any,
    temperature: Any,
    top_k: Any,
    top_p: Any,
    context: int | None,
) -> _Plan:
    """Checks the arguments of `generate`, and returns the plan."""
    kind("generate", "network", network, Network, fix="Pass a network such as gpt(...)")
    positive_integer("generate", "length", length)
    number("generate", "temperature", temperature, low=0.0)
    if top_p is not None:
        share("generate", "top_p", top_p)
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise InvalidType(
            "generate",
            "key is not a random key",
            got=f"a {type(key).__name__}",
            expected="a key of jax.random",
            fix="Pass key=jax.random.key(0)",
        )
    given, prompt = prompt, values_of(prompt)
    prompt = prompt if hasattr(prompt, "dtype") else np.asarray(prompt)
    if prompt.ndim != 2 or not np.issubdtype(prompt.dtype, np.integer) or not prompt.size:
        raise InvalidType(
            "generate",
            "the prompt has the wrong type",
            got=f"dtype {prompt.dtype} and shape {prompt.shape}",
            expected="integers [batch, time], at least one token for each text",
            fix="Pass prompt[None] for a single text, and a token to begin with",
        )
    reads = int(prompt.shape[1] + length - 1)  # the last token is sampled but not read
    context = reads if context is None else positive_integer("generate", "context", context)
    if context < 2 <= reads:
        raise InvalidValue(
            "generate",
            "context is too short to continue from its second half",
            got=f"context={context}",
            expected="at least 2",
            fix="Pass the length of the sequences that the network was trained on",
        )
    context = min(context, reads)
    vocabulary = _check_chunks(network, params, state, context)
    if is_concrete(prompt) and not (0 <= int(prompt.min()) <= int(prompt.max()) < vocabulary):
        raise InvalidValue(
            "generate",
            "a token of the prompt is not in the vocabulary",
            got=f"tokens from {prompt.min()} to {prompt.max()}",
            expected=f"integers from 0 to {vocabulary - 1}",
            fix="Encode the prompt with the tokenizer of the training data",
        )
    if top_k is not None:
        positive_integer("generate", "top_k", top_k, at_most=vocabulary)
    drawing = key, jnp.float32(temperature), None if top_p is None else jnp.float32(top_p)
    if context < reads:
        return _Plan(jnp.asarray(prompt, jnp.int32), length, context, drawing, True)
    time, most = bucket(prompt.shape[1]), bucket(length)
    padded = takes_masked(network) and has_room(network, time + most)
    if not padded:
        time, most = int(prompt.shape[1]), length  # a program for exactly these sizes
    # The program reads the last token too, so the cache has a position for it where possible.
    room = time + most if has_room(network, time + most) else time + most - 1
    return _Plan(_at_the_end(given, time, padded), most, room, drawing, False)


def _at_the_end(prompt: Any, time: int, padded: bool) -> Any:
    """Returns prompts at the end of rows of length `time`, `Masked` if they are or if `padded`."""
    values = values_of(prompt)
    values = jnp.asarray(values if hasattr(values, "dtype") else np.asarray(values), jnp.int32)
    if not isinstance(prompt, Masked) and not padded:
        return values
    mask = prompt.mask if isinstance(prompt, Masked) else jnp.ones(values.shape, bool)
    if is_concrete(mask) and not bool(jnp.asarray(mask).any(1).all()):
        raise InvalidValue(
            "generate",
            "a prompt is empty",
            got=f"prompts of {jnp.asarray(mask).sum(1).tolist()} tokens",
            expected="at least one token for each text",
            fix="Begin it with a token, such as the beginning-of-text token",
        )
    order = jnp.argsort(mask, axis=1, stable=True)  # padding comes first
    pads = ((0, 0), (time - values.shape[1], 0))
    values, mask = (jnp.pad(jnp.take_along_axis(x, order, 1), pads) for x in (values, mask))
    return Masked(values, mask)


def _check_chunks(network: Network, params: Any, state: Any, context: int) -> int:
    """Returns the size of the vocabulary; raises unless the network can read in chunks."""
    error, logits = _reading_error(network, min(context, 4), params, state)
    if is_concrete(error) and error > 0.03:
        raise InvalidType(
            "generate",
            "the logits differ between reading in chunks and as a whole",
            got=f"{network.parts.kind}, whose logits differ by {float(error):.0%}",
            expected="causal attention, positions, and layers that treat every position alike; and"
            " an apply that returns the state of its parts",
            fix="Apply the network to the whole text for each token, or replace the part that mixes"
            " positions",
        )
    return logits.shape[-1]


@partial(jax.jit, static_argnums=(0, 1))
def _reading_error(network, count, params, state):
    """Returns the relative error of logits of tokens read in two chunks, and the last logits."""
    reader, half = remembering(network, count), max(1, count // 2)
    memory, chunks = empty_memory(reader, params, state, 1), []
    tokens = jnp.arange(count, dtype=jnp.int32)[None] % 2
    whole, _ = network.apply(params, state, tokens)
    if not hasattr(whole, "shape"):
        raise InvalidType(
            "generate",
            "the outputs of the network are not one array of logits",
            got=f"a {type(whole).__name__}",
            expected="one array [batch, time, vocabulary]",
            fix="Pass the network without capture",
        )
    for chunk in (tokens[:, :half], tokens[:, half:]):
        if chunk.size:
            logits, memory = reader.apply(params, memory, chunk)
            chunks.append(logits)
    whole, logits = whole.astype(jnp.float32), jnp.concatenate(chunks, 1).astype(jnp.float32)
    return jnp.abs(logits - whole).max() / jnp.abs(whole).max(), whole[:, -1]
