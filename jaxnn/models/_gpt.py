"""The transformer that writes: from the tokens so far to what comes next, at every place.

Tokens become rows of numbers; block after block, every place looks at earlier ones (`attention`)
and thinks about what it saw (two layers of nodes); the last layer asks of every token how likely it
is to be next. Two forms of it, by `form`:

- `"gpt2"`: learned positions, layer normalization, GELU (Radford et al. 2019).
- `"modern"`: rotary positions, RMS normalization, SwiGLU, no biases (as in Llama; Touvron et al.
  2023), with grouped queries if `kv_heads` says so.

>>> network = gpt(65, layers=12, heads=4, features=128, positions=64, stacked=True)
>>> [name for name, _ in dict(network.parts.children)["body"].parts.children]
['positions', 'blocks', 'norm']
"""

import math
from collections.abc import Collection

import jax
import jax.numpy as jnp

from jaxnn.calls import apply_part, init_part, passes_inputs
from jaxnn.checks import choice, positive_integer
from jaxnn.layers import activation as nonlinear
from jaxnn.layers import attention, embedding, layer_norm, linear, rms_norm
from jaxnn.layers import dropout as dropout_layer
from jaxnn.layers import positions as positions_layer
from jaxnn.layers._dropout import is_zero
from jaxnn.layers._rotary import Rotary
from jaxnn.masked import put_back, values_of
from jaxnn.models._transformer import block, blocks
from jaxnn.network import (
    Network,
    Parts,
    collect,
    describe,
    output_shape,
    parallel,
    serial,
    without_empty,
)
from jaxnn.typing import Any, Callable, Number

# What may add a bias; the first four are layers of attention.
_LAYERS = {"query": "query", "key": "key", "value": "value", "attention": "output"}
_BIASED = (*_LAYERS, "hidden", "output", "norm")


def gpt(
    vocabulary: int,
    *,
    layers: int = 12,
    heads: int = 12,
    features: int = 768,
    positions: int = 1024,
    form: str = "gpt2",
    kv_heads: int | None = None,
    head_features: int | None = None,
    window: int | None = None,
    rotary: float | Rotary = 10000.0,
    head_norm: bool = False,
    hidden: int | None = None,
    activation: Callable[[Any], Any] | None = None,
    epsilon: float = 1e-6,
    dropout: Number = 0.0,
    bias: bool | Collection[str] = True,
    tied: bool = True,
    stacked: bool = False,
    remat: str | None = None,
) -> Network:
    """Makes logits of the next token at every place: `[batch, time] -> [batch, time, vocabulary]`.

    The defaults are those of the smallest GPT-2. The rows of the tokens are also the weights of the
    output, if they are `tied` (Press and Wolf 2017). Weights start with deviation 0.02, those at
    the end of a branch with `0.02 / sqrt(2 * layers)`.

    Args:
      vocabulary: the number of tokens.
      layers: the number of blocks.
      heads: of the attention.
      features: the width of the model.
      positions: the longest sequence, of the form `"gpt2"`; the other one has no such limit.
      form: `"gpt2"` or `"modern"`.
      kv_heads: the heads of keys and values; as many as of queries, by default.
      head_features: the features of a head; `features / heads`, by default.
      window: how far back a place looks; to the beginning, by default.
      rotary: the base of the rotary positions of the form `"modern"`, or a `Rotary`.
      head_norm: whether the queries and keys of each head are normalized, as in Qwen3.
      hidden: the nodes between the layers of a block; 4 times the features, by default, or 8/3 of
        them where SwiGLU has a third layer.
      activation: of the hidden nodes; by default GELU, by its approximation with tanh as in GPT-2,
        or SiLU for the gate of SwiGLU.
      epsilon: of the normalizations.
      dropout: the rate of dropout of tokens, attention and branches; may be traced.
      bias: whether nodes and layer normalization add a bias, of the form `"gpt2"`; or the names of
        those that do, in either form: `"query"`, `"key"`, `"value"`, `"attention"` (the outputs of
        attention), `"hidden"`, `"output"` (of the hidden nodes) and `"norm"`.
      tied: whether the rows of the tokens are the weights of the output; else these are the layer
        `output`.
      stacked: whether the blocks are one block that is repeated, with parameters in one array for
        all: it compiles in the time of one, and runs as fast on accelerators, slower on CPU.
      remat: the policy by which each block is computed again for its gradient, to save memory, such
        as `"nothing"` (see `remat`); by default what the gradient needs is stored.

    Raises:
      InvalidValue: if a size is not positive, heads do not divide, or, when traced, a sequence is
        longer than the positions.

    Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019, section 2.3;
    Shazeer, GLU Variants Improve Transformer, 2020, eq. (6), https://arxiv.org/abs/2002.05202.
    """
    positive_integer("gpt", "vocabulary", vocabulary)
    positive_integer("gpt", "layers", layers)
    positive_integer("gpt", "features", features)
    choice("gpt", "form", form, ("gpt2", "modern"))
    modern = form == "modern"
    if isinstance(bias, bool):
        bias = _BIASED if bias and not modern else ()
    for name in bias:
        choice("gpt", "bias", name, _BIASED)
    activation = activation or (jax.nn.silu if modern else jax.nn.gelu)
    if hidden is None:
        hidden = 8 * -(-features // 3) if modern else 4 * features
    deviation = 0.02
    ends = deviation / math.sqrt(2 * layers)

    def norm() -> Network:
        if modern:
            return rms_norm(epsilon=epsilon)
        return layer_norm(epsilon=epsilon, bias="norm" in bias)

    def nodes(role: str, count: int, fan_in: int, deviation: float = deviation) -> Network:
        return linear(count, bias=role in bias, scale=deviation * math.sqrt(fan_in))

    def drops() -> list[tuple[str, Network]]:
        return [] if is_zero(dropout) else [("dropout", dropout_layer(dropout))]

    def make() -> Network:
        looking = attention(
            features, heads=heads, kv_heads=kv_heads, head_features=head_features, causal=True,
            window=window, rotary=rotary if modern else None, norm=norm() if head_norm else None,
            dropout=dropout, bias=[_LAYERS[name] for name in bias if name in _LAYERS],
            scale=deviation * math.sqrt(features), output_scale=ends * math.sqrt(features),
        )  # fmt: skip
        if modern:
            gate = serial(nodes("hidden", hidden, features), ("activation", nonlinear(activation)))
            up = nodes("hidden", hidden, features)
            thinking = [("hidden", parallel(("gate", gate), ("up", up), combine=_product))]
        else:
            nonlinearity = ("activation", nonlinear(activation))
            thinking = [("hidden", nodes("hidden", hidden, features)), nonlinearity]
        output = [("output", nodes("output", features, hidden, ends))]
        return block(looking, [*thinking, *output], norm, drops())

    body_blocks = blocks(make, layers, stacked, remat)
    scale = deviation * math.sqrt(features)
    places = [] if modern else [("positions", positions_layer(positions, scale=scale))]
    body = serial(*places, *drops(), *body_blocks, ("norm", norm()))
    children = ("tokens", embedding(vocabulary, features, scale=scale)), ("body", body)
    output = linear(vocabulary, bias=False, scale=scale)
    network = _tied(*children) if tied else serial(*children, ("output", output))
    return describe(
        network, "gpt", vocabulary=vocabulary, layers=layers, heads=heads, features=features,
        form=form,
    )  # fmt: skip


def _tied(*children: tuple[str, Network]) -> Network:
    """Embeds tokens, applies a body, and asks of each token's row how well it fits the outcome."""
    (_, tokens), (_, body) = children

    def init(key, inputs):
        results = {"tokens": init_part("tokens", tokens, key, inputs)}
        rows = output_shape(tokens, *results["tokens"], inputs)
        return collect({**results, "body": init_part("body", body, key, rows)})

    @passes_inputs
    def apply(params, state, inputs, *, key=None):
        after = {}
        rows, after["tokens"] = apply_part("tokens", tokens, params, state, inputs, key)
        features, after["body"] = apply_part("body", body, params, state, rows, key)
        x = values_of(features)
        weight = params["tokens"]["weight"].astype(x.dtype)
        with jax.named_scope("output"):
            logits = x.reshape(-1, x.shape[-1]) @ weight.T
        return put_back(features, logits.reshape(*x.shape[:-1], -1)), without_empty(after)

    return Network(init, apply, Parts("tied", (), children))


def _product(outputs: tuple[jax.Array, ...]) -> jax.Array:
    return jnp.multiply(*outputs)
