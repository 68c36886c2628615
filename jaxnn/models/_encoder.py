"""Encoder transformers, whose attention is not causal, for texts and images.

- `bert` computes features of every token of a text (Devlin et al. 2019); followed by `over_time`,
  features of the whole text.
- `vit` computes logits of an image, a sequence of patches (Dosovitskiy et al. 2021).

>>> network = bert(30522, layers=6, heads=12, features=384)
>>> [name for name, _ in network.parts.children]
['embed', 'positions', 'norm', 'body']
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnn.calls import apply_part, init_part, passes_inputs
from jaxnn.checks import InvalidValue, multiple, positive_integer
from jaxnn.layers import activation as nonlinear
from jaxnn.layers import attention, conv, embedding, layer_norm, linear, over_time
from jaxnn.layers import dropout as dropout_layer
from jaxnn.layers import positions as positions_layer
from jaxnn.layers._dropout import is_zero
from jaxnn.masked import map_places
from jaxnn.models._transformer import Named, block, blocks
from jaxnn.network import Network, Parts, collect, describe, serial, stateless, without_empty
from jaxnn.typing import Any, Callable, Number


def exact_gelu(x: Any) -> Any:
    """Computes GELU by the error function, PyTorch's default; JAX's is the tanh approximation."""
    return jax.nn.gelu(x, approximate=False)


def bert(
    vocabulary: int,
    *,
    layers: int = 12,
    heads: int = 12,
    features: int = 768,
    hidden: int | None = None,
    positions: int = 512,
    types: int = 2,
    activation: Callable[[Any], Any] = exact_gelu,
    epsilon: float = 1e-12,
    dropout: Number = 0.0,
    stacked: bool = False,
    remat: str | None = None,
) -> Network:
    """Returns a BERT encoder: tokens `[batch, time]` to features `[batch, time, features]`.

    Texts of different lengths are `Masked` inputs, whose padding is never attended to. If texts
    have segments, such as a question and an answer, inputs are `{"tokens": ..., "types": ...}`,
    where `types` `[batch, time]` is the segment of every token, from 0.

    Args:
      vocabulary: the number of tokens.
      layers: the number of blocks.
      heads: the number of attention heads.
      features: the width of the model.
      hidden: the number of hidden nodes of a block; `4 * features` by default.
      positions: the maximum length of a text, in tokens.
      types: the maximum number of segments of a text.
      activation: the activation of the hidden nodes.
      epsilon: added to the variance in each normalization.
      dropout: the dropout rate of embeddings, attention weights and branches; may be traced.
      stacked: whether to `repeat` one block with stacked parameters, as in `gpt`.
      remat: the `remat` policy with which the backward pass recomputes blocks, as in `gpt`.

    Raises:
      InvalidValue: if a size is not positive, or `heads` does not divide `features`; at trace time,
        if a text is longer than `positions`, or the inputs are a dict with other fields.

    Source: Devlin et al., BERT, NAACL 2019, section 3, https://arxiv.org/abs/1810.04805.
    """
    for name, value in (("vocabulary", vocabulary), ("layers", layers), ("types", types)):
        positive_integer("bert", name, value)
    multiple("bert", "features", features, "heads", heads)
    make = _maker(features, heads, hidden, activation, epsilon, dropout, norm_first=False)
    network = serial(
        ("embed", _typed(embedding(vocabulary, features), embedding(types, features))),
        ("positions", positions_layer(positions)),
        ("norm", layer_norm(epsilon=epsilon)),
        *_drops(dropout),
        ("body", serial(*blocks(make, layers, stacked, remat))),
    )
    return describe(
        network, "bert", vocabulary=vocabulary, layers=layers, heads=heads, features=features
    )


def vit(
    outputs: int | None,
    *,
    patch: int = 16,
    patches: int = 196,
    layers: int = 12,
    heads: int = 12,
    features: int = 768,
    hidden: int | None = None,
    activation: Callable[[Any], Any] = exact_gelu,
    epsilon: float = 1e-12,
    dropout: Number = 0.0,
    bias: bool = True,
    stacked: bool = False,
    remat: str | None = None,
) -> Network:
    """Returns a vision transformer: `[batch, height, width, channels] -> [batch, outputs]`.

    An image is divided into patches, and each is mapped to a vector. A learned vector, the class
    token, is put before them; the output layer takes its features after the last block.

    Args:
      outputs: the number of output nodes; `None` returns the features of the class token.
      patch: the height and width of a patch, in pixels.
      patches: the number of patches of an image.
      layers: the number of blocks.
      heads: the number of attention heads.
      features: the width of the model.
      hidden: the number of hidden nodes of a block; `4 * features` by default.
      activation: the activation of the hidden nodes.
      epsilon: added to the variance in each normalization.
      dropout: the dropout rate of patches, attention weights and branches; may be traced.
      bias: whether the query, key and value layers add a bias.
      stacked: whether to `repeat` one block with stacked parameters, as in `gpt`.
      remat: the `remat` policy with which the backward pass recomputes blocks, as in `gpt`.

    Raises:
      InvalidValue: if a size is not positive, or `heads` does not divide `features`; at trace time,
        if an image has a different number of patches.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, eq. (1) to (4),
    https://arxiv.org/abs/2010.11929.
    """
    for name, value in (("patch", patch), ("patches", patches), ("layers", layers)):
        positive_integer("vit", name, value)
    multiple("vit", "features", features, "heads", heads)
    make = _maker(features, heads, hidden, activation, epsilon, dropout, bias=bias)
    head = [] if outputs is None else [("output", linear(outputs))]
    network = serial(
        ("patches", conv(features, patch, strides=patch, padding="VALID")),
        ("sequence", _sequence(patches)),
        ("class", class_token()),
        ("positions", positions_layer(patches + 1)),
        *_drops(dropout),
        ("body", serial(*blocks(make, layers, stacked, remat))),
        ("norm", layer_norm(epsilon=epsilon)),
        ("pool", over_time("first")),
        *head,
    )
    return describe(network, "vit", layers=layers, heads=heads, features=features, patch=patch)


def class_token() -> Network:
    """Returns a layer that prepends a learned vector, initially 0, to `[batch, time, features]`."""

    def init(key, inputs):
        return {"weight": jnp.zeros(inputs.shape[-1], jnp.float32)}

    def apply(params, inputs):
        row = params["weight"].astype(inputs.dtype)[None, None]
        row = jnp.broadcast_to(row, (inputs.shape[0], 1, inputs.shape[-1]))
        return jnp.concatenate([row, inputs], 1)

    return describe(stateless(apply, init), "class_token")


def _maker(
    features: int,
    heads: int,
    hidden: int | None,
    activation: Callable[[Any], Any],
    epsilon: float,
    dropout: Number,
    *,
    bias: bool = True,
    norm_first: bool = True,
) -> Callable[[], Network]:
    """Returns a function that returns a new block with bidirectional attention."""
    biased = ("query", "key", "value", "output") if bias else ("output",)

    def make() -> Network:
        attend = attention(features, heads=heads, dropout=dropout, bias=biased)
        feedforward = [
            ("hidden", linear(4 * features if hidden is None else hidden)),
            ("activation", nonlinear(activation)),
            ("output", linear(features)),
        ]

        def norm() -> Network:
            return layer_norm(epsilon=epsilon)

        return block(attend, feedforward, norm, _drops(dropout), norm_first=norm_first)

    return make


def _drops(rate: Number) -> list[Named]:
    return [] if is_zero(rate) else [("dropout", dropout_layer(rate))]


def _typed(tokens: Network, types: Network) -> Network:
    """Returns the sum of the embeddings of tokens and of the segments that they belong to."""

    def init(key, inputs):
        words, _ = _words_and_types(inputs)
        return collect(
            {
                "tokens": init_part("tokens", tokens, key, words),
                "types": init_part("types", types, key, words),
            }
        )

    @passes_inputs
    def apply(params, state, inputs, *, key=None):
        words, kinds = _words_and_types(inputs)
        after = {}
        rows, after["tokens"] = apply_part("tokens", tokens, params, state, words, key)
        if kinds is None:  # all tokens belong to the first segment
            kinds = map_places(jnp.zeros_like, words)
        more, after["types"] = apply_part("types", types, params, state, kinds, key)
        return map_places(jnp.add, rows, more), without_empty(after)

    return Network(init, apply, Parts("typed", (), (("tokens", tokens), ("types", types))))


def _words_and_types(inputs: Any) -> tuple[Any, Any]:
    if not isinstance(inputs, Mapping):
        return inputs, None
    if inputs.keys() != {"tokens", "types"}:
        raise InvalidValue(
            "bert",
            "the inputs have the wrong fields",
            got=f"fields {', '.join(sorted(inputs))}",
            expected="tokens and types, or an array of tokens instead of a dict",
            fix="Pass {'tokens': tokens, 'types': types}",
        )
    return inputs["tokens"], inputs["types"]


def _sequence(patches: int) -> Network:
    """Flattens `[batch, rows, columns, features]`, row by row, to `[batch, patches, features]`."""

    def apply(params, images):
        count = images.shape[1] * images.shape[2]
        if count != patches:
            raise InvalidValue(
                "vit",
                "the image has the wrong number of patches",
                got=f"{images.shape[1]} x {images.shape[2]} patches",
                expected=f"{patches} patches in total",
                fix="Resize the images, or interpolate the positions: warm_start with resize(0)",
            )
        return images.reshape(images.shape[0], count, images.shape[-1])

    return describe(stateless(apply), "sequence", patches=patches)
