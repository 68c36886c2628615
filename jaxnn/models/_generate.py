"""Writing: one token after the other, each drawn from what a network says of the tokens so far.

The network reads the prompt once, keeps the keys and values of its attention in a cache, and then
reads one token at a time; what it writes is what it would write if it read everything anew for each
token. Prompts of different lengths are one batch, and other lengths compile nothing.

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
    """Draws the tokens that follow a prompt, `length` of them or up to one that ends the text.

    Args:
      network: from tokens `[batch, time]` to logits `[batch, time, vocabulary]`, such as `gpt`.
        Only its `attention`, which must be causal, and its `positions` may tell one place from
        another: all else must treat every place alike. Unless they are traced, the parameters are
        tried on a few tokens, read whole and in two pieces: the logits must agree.
      params: its parameters; what it remembers is in their precision.
      state: its state, `{}` for most.
      prompt: whole numbers `[batch, time]`, at least one for each text; `Masked` for prompts of
        different lengths, such as `Tokenizer.batch` gives.
      length: how many tokens to draw at most.
      key: decides the draws.
      temperature: divides the logits, at least 0: below 1 the likelier become likelier still, and
        at 0 the likeliest is taken. May be traced.
      top_k: draws only from so many, the likeliest.
      top_p: draws only from the likeliest that together have this probability, in (0, 1]. May be
        traced.
      context: how many tokens the network looks back at most. When so many are read, it starts
        anew from the later half of them. By default it looks back to the beginning.
      stop: the tokens that end a text, such as `Tokenizer.stop`. When all texts have ended, so
        does the program.

    Returns:
      The tokens after the prompt, int32 `[batch, length]`; with `stop`, `Masked`: those before the
      one that ended the text.

    Raises:
      InvalidType: if the network does not give the same logits when it reads piece by piece, or
        the prompt has the wrong type.
      InvalidValue: if a number is out of range, a token is not in the vocabulary, or the network
        has fewer positions than prompt and `length` need.

    Source of top-p: Holtzman et al., The Curious Case of Neural Text Degeneration, ICLR 2020,
    section 3.1, https://arxiv.org/abs/1904.09751.
    """
    plan = _plan(network, params, state, prompt, length, key, temperature, top_k, top_p, context)
    stop = tuple(stop)
    if plan.beyond:
        if stop or isinstance(prompt, Masked):
            raise InvalidValue(
                "generate",
                "beyond its context it writes prompts of one length, to their full length",
                got=f"{plan.context} tokens of context" + ", and stop" * bool(stop),
                expected="a context for all that is read and drawn",
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
    """Yields the tokens of `generate` one after the other, int32 `[batch]`, as they are drawn.

    The arguments are those of `generate`, all known. After the end of a text its tokens are those
    of `stop` that ended it; after the end of all texts there are none.
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
    """What is written: the prompt in the size of its program, and how tokens are drawn.

    Attributes:
      prompt: `Masked` with empty places in front, or whole, if it goes beyond its context.
      most: the tokens of the program.
      context: the places of its memory.
      drawing: the key, the temperature and the probability.
      beyond: whether more is read than is remembered.
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
    """Checks everything, and returns what is written."""
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
    given, prompt = prompt, values_of(prompt)
    prompt = prompt if hasattr(prompt, "dtype") else np.asarray(prompt)
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
    drawing = key, jnp.float32(temperature), None if top_p is None else jnp.float32(top_p)
    if context < reads:
        return _Plan(jnp.asarray(prompt, jnp.int32), length, context, drawing, True)
    time, most = bucket(prompt.shape[1]), bucket(length)
    padded = takes_masked(network) and has_room(network, time + most)
    if not padded:
        time, most = int(prompt.shape[1]), length  # a program for exactly these
    # The last token that is drawn is remembered where the first of a longer text would be.
    room = time + most if has_room(network, time + most) else time + most - 1
    return _Plan(_at_the_end(given, time, padded), most, room, drawing, False)


def _at_the_end(prompt: Any, time: int, padded: bool) -> Any:
    """Returns prompts at the end of rows of a length, `Masked` if they are or if `padded`."""
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
            fix="Begin it with a token, such as the one for the beginning of a text",
        )
    order = jnp.argsort(mask, axis=1, stable=True)  # those that are empty come first
    pads = ((0, 0), (time - values.shape[1], 0))
    values, mask = (jnp.pad(jnp.take_along_axis(x, order, 1), pads) for x in (values, mask))
    return Masked(values, mask)


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
    memory, pieces = empty_memory(reader, params, state, 1), []
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
