"""The compiled programs of text generation, with a cache and one token at a time.

Prompts of different lengths are moved to the end of their rows, with padding in front, so that all
texts continue at the same position. Sizes are rounded up to powers of two, so that prompts and
texts of other lengths use the same program.
"""

from collections.abc import Mapping
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.checks import InvalidValue
from jaxnn.layers._memory import remembering
from jaxnn.masked import Masked, values_of
from jaxnn.network import Network
from jaxnn.typing import Any

LEAST = 16  # tokens, the size of the smallest program


def bucket(count: int) -> int:
    """Returns the size of the program for `count` tokens: a power of two, at least `LEAST`.

    >>> bucket(1), bucket(17), bucket(64)
    (16, 32, 64)
    """
    return max(LEAST, 1 << (count - 1).bit_length())


@lru_cache(maxsize=256)
def has_room(network: Network, context: int) -> bool:
    """Returns whether a network can cache `context` tokens, which learned positions may limit."""
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    try:
        jax.eval_shape(remembering(network, context).init, jax.random.key(0), tokens)
    except InvalidValue:
        return False
    return True


@lru_cache(maxsize=256)
def takes_masked(network: Network) -> bool:
    """Returns whether all parts of a network support `Masked` inputs."""
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    padded = Masked(tokens, jax.ShapeDtypeStruct((1, 1), jnp.bool_))
    reader = remembering(network, 2)
    try:
        params, state = jax.eval_shape(reader.init, jax.random.key(0), tokens)
        jax.eval_shape(reader.apply, params, state, padded)
    except Exception:  # a user's function may raise anything
        return False
    return True


def draw(key: Any, number: Any, logits: Any, top_k: Any, temperature: Any, top_p: Any) -> Any:
    """Samples the next token of each text, the `number`-th one, from logits `[batch, tokens]`."""
    logits = logits.astype(jnp.float32)

    def sampled():
        divisor = jnp.where(temperature > 0, temperature, 1.0)  # for a branch that is not taken
        allowed = _most_probable(_largest(logits / divisor, top_k), top_p)
        return jax.random.categorical(jax.random.fold_in(key, number), allowed).astype(jnp.int32)

    return lax.cond(temperature > 0, sampled, lambda: jnp.argmax(logits, -1).astype(jnp.int32))


def _read(reader: Network, params: Any, memory: Any, tokens: Any) -> tuple[Any, Any]:
    """Reads a chunk of tokens; returns the memory, and the logits of the next token."""
    logits, memory = reader.apply(params, memory, tokens)
    return memory, values_of(logits)[:, -1]


@partial(jax.jit, static_argnums=(0, 1))
def begin(network, context, params, state, prompt):
    """Reads prompts, with any padding in front; returns the memory and the next logits."""
    reader = remembering(network, context)
    memory = empty_memory(reader, params, state, values_of(prompt).shape[0])
    return _read(reader, params, memory, prompt)


@partial(jax.jit, static_argnums=(0, 1, 2))
def write_one(network, top_k, context, params, memory, logits, key, number, temperature, top_p):
    """Samples one token of each text and reads it; returns it, the memory and the next logits."""
    token = draw(key, number, logits, top_k, temperature, top_p)
    memory, logits = _read(remembering(network, context), params, memory, token[:, None])
    return token, memory, logits


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def write_all(
    network, top_k, most, context, params, state, prompt, length, stop, key, temperature, top_p
):
    """Samples up to `length` tokens; returns them and their mask, both `[batch, most]`."""
    reader, batch = remembering(network, context), values_of(prompt).shape[0]
    memory, logits = begin(network, context, params, state, prompt)

    def is_running(carry):
        number, _, _, _, _, ended = carry
        return (number < length) & ~ended.all()

    def step(carry):
        number, memory, logits, tokens, mask, ended = carry
        token = draw(key, number, logits, top_k, temperature, top_p)
        ended = ended | (token[:, None] == stop[None]).any(1)
        token = jnp.where(ended, 0, token)
        tokens, mask = (
            lax.dynamic_update_slice_in_dim(x, new[:, None], number, 1)
            for x, new in ((tokens, token), (mask, ~ended))
        )
        # The last token is read too, although its logits are not used: the cache has room for it.
        memory, logits = _read(reader, params, memory, token[:, None])
        return number + 1, memory, logits, tokens, mask, ended

    tokens, mask = jnp.zeros((batch, most), jnp.int32), jnp.zeros((batch, most), bool)
    start = (jnp.int32(0), memory, logits, tokens, mask, jnp.zeros(batch, bool))
    _, _, _, tokens, mask, _ = lax.while_loop(is_running, step, start)
    return tokens, mask


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def write_beyond(network, top_k, length, context, params, state, prompt, key, temperature, top_p):
    """Samples `length` tokens with a cache of `context`, which restarts from its second half."""
    reader = remembering(network, context)
    batch = prompt.shape[0]

    def write(carry, number):
        memory, logits = carry
        token = draw(key, number, logits, top_k, temperature, top_p)
        return _read(reader, params, memory, token[:, None]), token

    def segment(known, done, count):
        """Reads the known tokens, and samples `count` more, for which the memory has room."""
        start = _read(reader, params, empty_memory(reader, params, state, batch), known)
        (_, logits), tokens = lax.scan(write, start, done + jnp.arange(count - 1))
        last = draw(key, done + count - 1, logits, top_k, temperature, top_p)
        return jnp.concatenate([tokens.T, last[:, None]], 1)

    half = max(1, context // 2)
    known = prompt if prompt.shape[1] <= context else prompt[:, -half:]
    done = min(length, context - known.shape[1] + 1)
    text = segment(known, 0, done)
    if done == length:
        return text
    # The memory is full: all other segments begin with its second half, in one loop.
    room = context - half + 1
    known = jnp.concatenate([known, text], 1)[:, -half:]

    def resume(known, done):
        text = segment(known, done, room)
        return jnp.concatenate([known, text], 1)[:, -half:], text

    _, segments = lax.scan(resume, known, jnp.arange(done, length, room))
    rest = jnp.moveaxis(segments, 0, 1).reshape(batch, -1)
    return jnp.concatenate([text, rest], 1)[:, :length]


def _largest(logits, count):
    """Sets all but the `count` largest logits to -inf."""
    if count is None:
        return logits
    _, places = lax.top_k(logits, count)  # exactly `count`, also if logits are equal
    chosen = jnp.zeros(logits.shape, bool).at[jnp.arange(len(logits))[:, None], places].set(True)
    return jnp.where(chosen, logits, -jnp.inf)


def _most_probable(logits, probability):
    """Sets all logits to -inf but the largest, whose probabilities sum to `probability` or more."""
    if probability is None:
        return logits
    ordered = jnp.sort(logits, -1)[:, ::-1]
    probabilities = jax.nn.softmax(ordered, -1)
    before = jnp.cumsum(probabilities, -1) - probabilities  # of more probable tokens
    lowest = jnp.min(jnp.where(before < probability, ordered, jnp.inf), -1, keepdims=True)
    # With probability 1 every token is allowed, although the sum may be rounded to less than 1.
    return jnp.where((logits < lowest) & (probability < 1), -jnp.inf, logits)


def empty_memory(reader: Network, params: Any, state: Any, batch: int) -> Any:
    """Returns the state of the network, extended by empty caches for `batch` texts.

    The caches have the dtype of the parameters, if all of these have the same.
    """
    tokens = jax.ShapeDtypeStruct((batch, 1), jnp.int32)
    memory = reader.init(jax.random.key(0), tokens)[1]
    floats = [x for x in jax.tree.leaves(params) if jnp.issubdtype(x.dtype, jnp.floating)]
    dtypes = {x.dtype for x in floats}
    own = dtypes.pop() if len(dtypes) == 1 else None

    def cast(x):
        return x.astype(own or x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return _update(jax.tree.map(cast, memory), state)


def _update(tree: Any, other: Any) -> Any:
    """Merges nested dicts; leaves of `other` replace those of `tree`."""
    if not isinstance(tree, Mapping):
        return other
    shared = {name: _update(tree[name], other[name]) for name in tree if name in other}
    return {**tree, **other, **shared}
