"""Multi-head attention over sequences.

Linear layers compute a query, a key and a value for each position. Each output is an average of the
values, weighted by the similarity of the query to the keys:

    outputs = softmax(queries @ keys.T / sqrt(head_features)) @ values

This happens in several heads in parallel, each with separate features.

    >>> import jax, jax.numpy as jnp
    >>> layer = attention(8, heads=2, causal=True)
    >>> params, state = layer.init(jax.random.key(0), jnp.ones((1, 5, 3)))
    >>> jax.tree.map(jnp.shape, params["query"])
    {'bias': (8,), 'weight': (3, 8)}
    >>> layer.apply(params, state, jnp.ones((1, 5, 3)))[0].shape
    (1, 5, 8)

Source: Vaswani et al., Attention Is All You Need, NIPS 2017, eq. (1) and section 3.2.2,
https://arxiv.org/abs/1706.03762.
"""

from collections.abc import Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.calls import apply_inner, apply_part, init_part, part_key, passes_inputs
from jaxnn.checks import InvalidValue, choice, is_concrete, multiple, positive_integer
from jaxnn.checks import rate as check_rate
from jaxnn.layers._linear import check_sequences, linear
from jaxnn.layers._memory import memory_length
from jaxnn.layers._rotary import Rotary, rotary_of
from jaxnn.layers.attending import Visibility, attend, rotated, visible
from jaxnn.masked import Masked, put_back, refuse_masked, values_of
from jaxnn.network import Network, Parts, collect, without_empty, wrap
from jaxnn.typing import Any, Number, Size

_CACHE = ("keys", "values", "present", "position")
_NORMALIZED = ("query", "key")  # the layers whose outputs `norm` normalizes


class Shape(NamedTuple):
    """The arguments of `attention`, except those of its linear layers."""

    heads: int
    kv_heads: int
    head_features: int
    causal: bool = False
    window: int | None = None
    rotary: float | Rotary | None = None
    dropout: Number = 0.0


def attention(
    features: int,
    *,
    heads: int,
    kv_heads: int | None = None,
    head_features: int | None = None,
    causal: bool = False,
    window: int | None = None,
    rotary: float | Rotary | None = None,
    norm: Network | None = None,
    dropout: Number = 0.0,
    bias: bool | Collection[str] = True,
    scale: Number = 1.0,
    output_scale: Number = 1.0,
) -> Network:
    """Returns a multi-head attention layer.

    Inputs are `[batch, time, n]` for self-attention, or a pair of such arrays, of which the first
    attends to the second. Outputs are `[batch, time, features]`. The parts are the linear layers
    `query`, `key`, `value` and `output`. In `Masked` sequences, padding is never attended to,
    packed sequences do not attend to each other, and positions are counted without padding. A query
    that attends to nothing yields zeros.

    Args:
      features: the number of output features.
      heads: the number of query heads.
      kv_heads: the number of key and value heads, each shared by `heads / kv_heads` query heads
        (grouped-query attention); `heads` by default.
      head_features: the number of features of a head; `features / heads` by default.
      causal: whether a position attends only to itself and earlier positions.
      window: the number of positions that each position attends to: itself and those right before
        it. All by default. Requires `causal`.
      rotary: rotary position embeddings, given by their base, usually 10000, or a `Rotary`. By
        default the layer has no position embeddings.
      norm: a normalization, such as `rms_norm()`, of the queries and keys of each head. Its parts
        are named `query_norm` and `key_norm`.
      dropout: the dropout rate of the attention weights; may be traced.
      bias: whether the linear layers have a bias, or the names of those that do.
      scale: multiplies the initial weights of queries, keys and values; may be traced.
      output_scale: multiplies the initial weights of the output layer; may be traced.

    Raises:
      InvalidValue: if `heads` does not divide `features` or is not a multiple of `kv_heads`, an
        argument is out of range, or `window` is given without `causal`; at trace time, if the
        inputs have the wrong shape.

    Source of grouped queries: Ainslie et al., GQA, EMNLP 2023, https://arxiv.org/abs/2305.13245; of
    the window: Beltagy et al., Longformer, 2020, section 3.1, https://arxiv.org/abs/2004.05150.
    """
    features = positive_integer("attention", "features", features)
    heads = positive_integer("attention", "heads", heads)
    kv_heads = positive_integer("attention", "kv_heads", heads if kv_heads is None else kv_heads)
    if head_features is None:
        multiple("attention", "features", features, "heads", heads)
        head_features = features // heads
    multiple("attention", "heads", heads, "kv_heads", kv_heads)
    positive_integer("attention", "head_features", head_features)
    if window is not None:
        positive_integer("attention", "window", window)
    if rotary is not None:
        rotary_of("attention", rotary)
        if head_features % 2:
            raise InvalidValue(
                "attention",
                "head_features is not a multiple of 2, as rotary requires",
                got=f"head_features={head_features}",
                expected="an even number, for pairs of features",
                fix=f"Pass head_features={head_features + 1}, or leave rotary out",
            )
    check_rate("attention", "dropout", dropout)
    layers = ("query", "key", "value", "output")
    biased = () if bias is False else layers if bias is True else tuple(bias)
    for name in biased:
        choice("attention", "bias", name, layers)
    if window is not None and not causal:
        raise InvalidValue(
            "attention",
            "a window requires causal attention",
            got=f"window={window} and causal=False",
            expected="causal=True with a window",
            fix="Pass causal=True, or leave window out",
        )
    width = {"query": heads, "key": kv_heads, "value": kv_heads}
    return _attention(
        Shape(heads, kv_heads, head_features, causal, window, rotary, dropout),
        *(
            (name, linear(n * head_features, bias=name in biased, scale=scale))
            for name, n in width.items()
        ),
        ("output", linear(features, bias="output" in biased, scale=output_scale)),
        *(
            ()
            if norm is None
            else ((f"{name}_norm", _of_each_head(norm, width[name])) for name in _NORMALIZED)
        ),
    )


def _attention(shape: Shape, *children: tuple[str, Network]) -> Network:
    """Builds the network from its four linear layers, followed by the two norms, if any."""
    norms = dict(children[4:])

    def init(key, inputs):
        queries, memory = map(values_of, _pair(inputs))
        mixed, keys = (
            jax.ShapeDtypeStruct((*x.shape[:-1], count * shape.head_features), x.dtype)
            for x, count in ((queries, shape.heads), (memory, shape.kv_heads))
        )
        given = zip(children, (queries, memory, memory, mixed, mixed, keys))
        params, state = collect({name: init_part(name, part, key, x) for (name, part), x in given})
        if (length := _memory_length(shape)) is not None:
            # One axis for texts and heads, as in the products of attention: if these reshaped the
            # cache, XLA on CPU would copy it for each token.
            size = queries.shape[0] * shape.kv_heads, length, shape.head_features
            empty = jnp.zeros(size, queries.dtype)
            present = jnp.ones((queries.shape[0], length), bool)
            state |= {"keys": empty, "values": empty, "present": present}
            state |= {"position": jnp.zeros((), jnp.int32)}
        return params, state

    @passes_inputs
    def apply(params, state, inputs, *, key=None):
        pair = _pair(inputs)
        queries, memory = map(values_of, pair)
        split, after = [], {}
        heads = shape.heads, shape.kv_heads, shape.kv_heads
        for (name, child), given, count in zip(children, (queries, memory, memory), heads):
            rows, after[name] = apply_part(name, child, params, state, given, key)
            if (name := f"{name}_norm") in norms:
                rows, after[name] = apply_part(name, norms[name], params, state, rows, key)
            split.append(split_heads(rows, count))
        q, k, v = split
        remembers = _memory_length(shape) is not None and key is None
        position = state["position"] if remembers else 0
        if remembers:
            _check_padding(pair)
        if shape.rotary is not None:
            q, k = (
                rotated(
                    x,
                    position,
                    shape.rotary,
                    side.places() if isinstance(side, Masked) and not remembers else None,
                )
                for x, side in zip((q, k), pair)
            )
        cache = {name: state[name] for name in _CACHE if name in state}
        if remembers:
            k, v, cache = _append(cache, k, v, pair[1])
            seen = Visibility(present=cache["present"])
        else:
            seen = visible(*pair, shape.causal, shape.window)
        mixed = attend(
            q, k, v, seen=seen, causal=shape.causal, window=shape.window, position=position,
            dropout=shape.dropout, key=part_key(key, "dropout"), remembers=remembers,
        )  # fmt: skip
        rows = mixed.swapaxes(1, 2).reshape(*queries.shape[:-1], -1)
        outputs, after["output"] = apply_part(*children[3], params, state, rows, key)
        return put_back(pair[0], outputs), without_empty(after) | cache

    # The description omits defaults, and rates that are arrays.
    settings = tuple(
        (name, value)
        for name, value in shape._asdict().items()
        if isinstance(value, int | float | Rotary) and value != Shape._field_defaults.get(name)
    )
    return Network(init, apply, Parts("attention", settings, children, flow="layer"))


def _of_each_head(norm: Network, heads: int) -> Network:
    """Wraps `norm` to normalize each head of `[batch, time, heads * features]` separately."""

    def split(x):
        return x.reshape(*x.shape[:-1], heads, -1)

    def init(key, inputs):
        return norm.init(key, jax.eval_shape(split, inputs))

    def apply(params, state, inputs, *, key=None):
        outputs, after = apply_inner(norm, params, state, split(inputs), key)
        return outputs.reshape(inputs.shape), after

    return wrap(norm, "of_each_head", apply, init, heads=heads)


def split_heads(rows: Any, heads: int) -> Any:
    """Reshapes `[batch, time, heads * features]` to `[batch, heads, time, features]`."""
    return rows.reshape(*rows.shape[:-1], heads, -1).swapaxes(1, 2)


def _memory_length(shape: Shape) -> Size | None:
    """Returns the length of the key-value cache, or `None` when there is none.

    A compiled program cannot raise: there, tokens beyond the end overwrite the last positions.

    Raises:
      InvalidValue: if there is a cache and the attention is not causal.
    """
    length = memory_length()
    if length is not None and not shape.causal:
        raise InvalidValue(
            "attention",
            "only causal attention can read a sequence in chunks",
            got="causal=False",
            expected="causal=True",
            fix="Pass causal=True where the network is built",
        )
    return length


def _pair(inputs: Any) -> tuple[Any, Any]:
    """Returns the inputs of the queries, and the inputs of the keys and values."""
    pair = inputs if isinstance(inputs, tuple | list) and len(inputs) == 2 else (inputs, inputs)
    check_sequences("attention", *map(values_of, pair))
    return pair[0], pair[1]


def _check_padding(pair: tuple[Any, Any]) -> None:
    """Raises if a `Masked` chunk is a pair or is packed: a cache supports padding only."""
    if pair[0] is not pair[1] or getattr(pair[0], "segments", None) is not None:
        refuse_masked("attention", pair)


def _append(cache: Any, k: Any, v: Any, chunk: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Appends the keys and values of a chunk; returns all keys, all values and the new cache."""
    length, position, time = cache["keys"].shape[1], cache["position"], k.shape[2]
    last = time + (int(position) if is_concrete(position) else 0)
    if last > length:
        raise InvalidValue(
            "attention",
            "the cache is too short",
            got=f"{last} positions for a cache of {length}",
            expected=f"at most {length} positions",
            fix=f"Create a cache of at least {last} positions",
        )
    keys, values = (
        lax.dynamic_update_slice_in_dim(
            old, new.reshape(-1, *new.shape[2:]).astype(old.dtype), position, 1
        )
        for old, new in ((cache["keys"], k), (cache["values"], v))
    )
    present = cache["present"]
    if isinstance(chunk, Masked):
        present = lax.dynamic_update_slice_in_dim(present, chunk.mask, position, 1)
    after = {"keys": keys, "values": values, "present": present, "position": position + time}
    k, v = (x.reshape(*k.shape[:2], *x.shape[1:]).astype(k.dtype) for x in (keys, values))
    return k, v, after
