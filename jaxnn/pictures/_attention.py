"""Draws the weights of an attention layer, with one panel for each head.

    weights = attention_weights(network, run.state.params, tokens[:1])
    attention(weights["body/block_1/attention/branch/attention"][0], text).savefig("attention.png")

Each row is a query, each column is a key, and each row sums to 1.

>>> import jax, jax.numpy as jnp
>>> from jaxnn.layers import attention as attention_layer
>>> network, inputs = attention_layer(8, heads=2, causal=True), jnp.ones((1, 3, 4))
>>> params, _ = network.init(jax.random.key(0), inputs)
>>> attention_weights(network, params, inputs)[""][0, 0].round(2).tolist()
[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.3..., 0.3..., 0.3...]]
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.calls import join
from jaxnn.checks import InvalidValue, kind
from jaxnn.layers._attention import _NORMALIZED, Shape, split_heads
from jaxnn.layers.attending import attend, rotated
from jaxnn.network import Network, walk
from jaxnn.pictures import scheme
from jaxnn.pictures.arguments import check_shapes, names_of
from jaxnn.pictures.scheme import Figure
from jaxnn.transforms._capture import capture
from jaxnn.typing import Any, Array, Float, Params, State

HEADS, PLACES = 16, 512  # the largest numbers of heads and of positions in a figure


def attention(weights: Any, tokens: Sequence[str] | None = None) -> Figure:
    """Returns a matplotlib `Figure` of the attention weights for one example.

    Args:
      weights: `[heads, queries, keys]`; each row sums to 1. If there are more than 16 heads, the
        first 16 are drawn, and a remark in the figure says so.
      tokens: the token at each position. Tokens are drawn only if there is room for them.

    Raises:
      InvalidValue: if the weights have the wrong shape, or the number of tokens does not match it.
    """
    weights = np.asarray(weights, float)
    check_shapes(
        "attention",
        weights.ndim == 3 and weights.size and max(weights.shape[1:]) <= PLACES,
        expected=f"[heads, queries, keys] of one example, at most {PLACES} places",
        fix="Pass those of one example, attention_weights(...)[path][0]",
        weights=weights,
    )
    count, queries, keys = weights.shape
    places = max(queries, keys)
    names_of("attention", "tokens", tokens, places, "places")
    shown = weights[:HEADS]
    columns = min(len(shown), 1 if places > 96 else 2 if len(shown) <= 4 else 4)
    side = (scheme.WIDTH - 1.0) / columns  # inches
    texts, signs = [], str.maketrans({"\n": "↵", "\t": "⇥", " ": "␣"})
    if tokens is not None and 72 * side / places > scheme.TICK + 0.6:
        texts = [str(token).translate(signs)[:8] for token in tokens]
    longest = max(map(len, texts), default=0)
    remarks = [f"the first {HEADS} of {count} heads"] if count > HEADS else []
    remarks += [] if np.isfinite(shown).all() else ["in red: not finite"]
    figure, panels = scheme.panels(
        len(shown), columns, side * queries / keys + 0.2,
        0.5 + 0.06 * longest + 0.12 * len(remarks), sharex=True, sharey=True,
    )  # fmt: skip
    largest = shown.max(initial=0.0, where=np.isfinite(shown)) or 1.0
    image: Any = None
    for head, axes in enumerate(panels):
        axes.set_facecolor(scheme.MARK)  # visible where a weight is not finite
        image = axes.imshow(
            np.ma.masked_invalid(shown[head]), cmap=scheme.AMOUNT, vmin=0.0, vmax=largest,
            aspect="equal", interpolation="nearest", gid=f"head:{head}",
        )  # fmt: skip
        axes.set_title(f"head {head + 1}", fontsize=scheme.TICK, pad=2)
        axes.spines[:].set_visible(False)
        if texts:
            turned = 90 if longest > 1 else 0
            axes.set_xticks(range(keys), texts[:keys], rotation=turned, parse_math=False)
            axes.set_yticks(range(queries), texts[-queries:], parse_math=False)
        else:
            axes.locator_params(integer=True, nbins=4)
    layout: Any = figure.get_layout_engine()
    layout.set(hspace=0.02, wspace=0.02)
    scheme.key(figure, image, "weight", ax=figure.axes, fraction=0.05, aspect=24, pad=0.02)
    style: dict[str, Any] = {"fontsize": scheme.LABEL, "color": scheme.INK}
    figure.supylabel("query: the place that asks", **style)
    figure.supxlabel("\n".join(["key: the place that is looked at", *remarks]), **style)
    return figure


def attention_weights(
    network: Network, params: Params, inputs: Any, state: State | None = None
) -> dict[str, Float[Array, "..."]]:
    """Returns the weights `[batch, heads, queries, keys]` of every attention layer, by path.

    The weights are those of inference. They are computed from the layer's queries and keys, because
    the layer does not store them, and on some devices never computes them as a whole. For a layer
    inside `repeat`, the array has an axis of layers after the batch axis.

    Args:
      network: a network with at least one attention layer.
      params: the parameters of the network.
      inputs: the inputs of the network, with a leading batch axis.
      state: the state of the network. `None` means `{}`.

    Raises:
      InvalidType: if `network` is not a `Network`.
      InvalidValue: if the network has no attention layer, or one that does not call its `query` and
        `key` layers.
    """
    kind("attention_weights", "network", network, Network, fix="Pass a network, such as gpt(65)")
    layers = {
        path: Shape(**dict(part.parts.settings))
        for path, part in walk(network)
        if part.parts.kind == "attention"
    }
    if not layers:
        raise InvalidValue(
            "attention_weights",
            "there is no attention in the network",
            got=f"a network of kind {network.parts.kind}",
            expected="a network with attention(...) inside",
            fix="Pass one such as gpt(65)",
        )
    # The queries and keys are the outputs of these layers, or of the norms after them.
    parts = {path for path, _ in walk(network)}
    sides = {
        path: [
            join(path, f"{n}_norm" if join(path, f"{n}_norm") in parts else n) for n in _NORMALIZED
        ]
        for path in layers
    }
    (_, rows), _ = jax.jit(capture(network, [*chain(*sides.values())]).apply)(
        params, state or {}, inputs
    )
    return {path: _weights(layers[path], *(rows[x] for x in sides[path])) for path in layers}


@partial(jax.jit, static_argnums=0)
def _weights(shape: Shape, queries: Any, keys: Any) -> Any:
    """Returns the weights for queries and keys of shape `[batch, ..., time, heads * features]`."""
    if queries.ndim > 3:  # there is an axis of layers after the batch axis
        return jax.vmap(partial(_weights, shape), 1, 1)(queries, keys)
    q, k = split_heads(queries, shape.heads), split_heads(keys, shape.kv_heads)
    if shape.rotary is not None:
        q, k = (rotated(x, 0, shape.rotary) for x in (q, k))
    # Attending to the rows of an identity matrix returns the weights. `remembers` avoids the fused
    # kernel, which never computes them as a whole.
    rows = jnp.broadcast_to(jnp.eye(k.shape[2]), (*k.shape[:2], k.shape[2], k.shape[2]))
    return attend(q, k, rows, causal=shape.causal, window=shape.window, remembers=True)
