"""The decoder-only transformer, which predicts the next token at every position.

An embedding maps tokens to vectors; each block adds the outputs of causal attention and of a
feedforward network; the last layer computes a logit for every token of the vocabulary. There are
two forms:

- `"gpt2"`: learned positions, layer normalization, GELU (Radford et al. 2019).
- `"modern"`: rotary positions, RMS normalization, SwiGLU, no biases, as in Llama (Touvron et al.
  2023), and optionally grouped-query attention (`kv_heads`).

>>> network = gpt(65, layers=12, heads=4, features=128, positions=64, stacked=True)
>>> [name for name, _ in dict(network.parts.children)["body"].parts.children]
['positions', 'blocks', 'norm']
"""

import math
from collections.abc import Collection

import jax
import jax.numpy as jnp

from jaxnn.calls import passes_inputs, whole_gradient
from jaxnn.checks import choice, positive_integer
from jaxnn.layers import activation as nonlinear
from jaxnn.layers import attention, embedding, layer_norm, linear, rms_norm
from jaxnn.layers import dropout as dropout_layer
from jaxnn.layers import positions as positions_layer
from jaxnn.layers._dropout import is_zero
from jaxnn.layers._rotary import Rotary
from jaxnn.masked import per_place
from jaxnn.models._transformer import block, blocks
from jaxnn.network import Network, describe, parallel, serial, stateless
from jaxnn.typing import Any, Callable, Number

# The layers that may add a bias; the first four belong to attention.
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
    """Returns a decoder-only transformer: tokens `[batch, time]` to logits of the next token.

    Logits are `[batch, time, vocabulary]`. The defaults are those of the smallest GPT-2. If `tied`,
    the embedding is also the weight of the output layer (Press and Wolf 2017). Initial weights have
    standard deviation 0.02, those at the end of a branch `0.02 / sqrt(2 * layers)`.

    Args:
      vocabulary: the number of tokens.
      layers: the number of blocks.
      heads: the number of query heads.
      features: the width of the model.
      positions: the maximum length of a sequence, in the form `"gpt2"`; `"modern"` has no limit.
      form: `"gpt2"` or `"modern"`.
      kv_heads: the number of key and value heads; `heads` by default.
      head_features: the number of features of a head; `features / heads` by default.
      window: the number of positions that each position attends to; all previous ones by default.
      rotary: the base of the rotary positions of the form `"modern"`, or a `Rotary`.
      head_norm: whether the queries and keys of each head are normalized, as in Qwen3.
      hidden: the number of hidden nodes of a block; `4 * features` by default, or about
        `8 / 3 * features` in the form `"modern"`, where SwiGLU has a third layer.
      activation: the activation of the hidden nodes; by default GELU in its tanh approximation, as
        in GPT-2, or SiLU for the gate of SwiGLU.
      epsilon: added to the variance in each normalization.
      dropout: the dropout rate of embeddings, attention weights and branches; may be traced.
      bias: whether layers and normalizations add a bias, in the form `"gpt2"`; or, in either form,
        the names of those that do: `"query"`, `"key"`, `"value"`, `"attention"` (the outputs of
        attention), `"hidden"`, `"output"` (of the feedforward network) and `"norm"`.
      tied: whether the embedding is the weight of the output layer. Otherwise the layer `output`
        has a weight of its own.
      stacked: whether to `repeat` one block, whose parameters are stacked into one array for all
        blocks. It compiles in the time of one block, and runs as fast on accelerators, but slower
        on CPU.
      remat: the `remat` policy with which the backward pass recomputes each block to save memory,
        such as `"nothing"`; by default, all that the gradient needs is stored.

    Raises:
      InvalidValue: if an argument is out of range or unknown, or the numbers of heads do not
        divide; at trace time, if a sequence is longer than `positions`.

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
        attend = attention(
            features, heads=heads, kv_heads=kv_heads, head_features=head_features, causal=True,
            window=window, rotary=rotary if modern else None, norm=norm() if head_norm else None,
            dropout=dropout, bias=[_LAYERS[name] for name in bias if name in _LAYERS],
            scale=deviation * math.sqrt(features), output_scale=ends * math.sqrt(features),
        )  # fmt: skip
        if modern:
            gate = serial(nodes("hidden", hidden, features), ("activation", nonlinear(activation)))
            up = nodes("hidden", hidden, features)
            hidden_layers = [("hidden", parallel(("gate", gate), ("up", up), combine=_product))]
        else:
            nonlinearity = ("activation", nonlinear(activation))
            hidden_layers = [("hidden", nodes("hidden", hidden, features)), nonlinearity]
        output = ("output", nodes("output", features, hidden, ends))
        return block(attend, [*hidden_layers, output], norm, drops())

    body_blocks = blocks(make, layers, stacked, remat)
    scale = deviation * math.sqrt(features)
    places = [] if modern else [("positions", positions_layer(positions, scale=scale))]
    body = serial(*places, *drops(), *body_blocks, ("norm", norm()))
    children = ("tokens", embedding(vocabulary, features, scale=scale)), ("body", body)
    output = linear(vocabulary, bias=False, scale=scale)
    network = _tied(vocabulary, *children) if tied else serial(*children, ("output", output))
    return describe(
        network, "gpt", vocabulary=vocabulary, layers=layers, heads=heads, features=features,
        form=form,
    )  # fmt: skip


def _tied(vocabulary: int, *children: tuple[str, Network]) -> Network:
    """Composes an embedding, a body, and an output layer whose weight is the embedding."""

    def product(params, inputs):
        rows = inputs.reshape(-1, inputs.shape[-1])
        weight = whole_gradient(params["weight"].astype(rows.dtype))
        return (rows @ weight.T).reshape(*inputs.shape[:-1], -1)

    output = per_place(stateless(product), features=True)
    output = describe(output, "linear", features=vocabulary, weights_of="tokens")
    network = serial(*children, ("output", output))

    @passes_inputs
    def apply(params, state, inputs, *, key=None):
        return network.apply({**params, "output": params["tokens"]}, state, inputs, key=key)

    return Network(serial(*children).init, apply, network.parts)


def _product(outputs: tuple[jax.Array, ...]) -> jax.Array:
    return jnp.multiply(*outputs)
