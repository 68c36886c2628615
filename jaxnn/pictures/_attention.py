"""Who looks at whom: the weights of attention, a panel for each head.

    weights = attention_weights(network, run.state.params, tokens[:1])
    attention(weights["body/block_1/look/branch/attention"][0], text).savefig("attention.png")

Each row is a place that asks, each column a place that is looked at; a row sums to 1.

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
from jaxnn.transforms._capture import capture
from jaxnn.typing import Any, Array, Float, Params, State

HEADS, PLACES = 16, 512  # that are drawn


def attention(weights: Any, tokens: Sequence[str] | None = None) -> Any:
    """Returns a matplotlib `Figure` of the weights of attention, for one example.

    Args:
      weights: `[heads, queries, keys]`, each row of which sums to 1; of more than 16 heads the
        first 16 are drawn, and the picture says so.
      tokens: what stands at each place; written where there is room for it.

    Raises:
      InvalidValue: if the weights have another form, or there are other numbers of tokens.
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
    texts = []
    if tokens is not None and 72 * side / places > scheme.TICK + 0.6:
        texts = [_visible(token) for token in tokens]
    longest = max(map(len, texts), default=0)
    remarks = [f"the first {HEADS} of {count} heads"] if count > HEADS else []
    remarks += [] if np.isfinite(shown).all() else ["in red: not finite"]
    figure, panels = scheme.panels(
        len(shown), columns, side * queries / keys + 0.2,
        0.5 + 0.06 * min(longest, 8) + 0.12 * len(remarks), sharex=True, sharey=True,
    )  # fmt: skip
    largest = shown.max(initial=0.0, where=np.isfinite(shown)) or 1.0
    image: Any = None
    for head, axes in enumerate(panels):
        axes.set_facecolor(scheme.MARK)  # seen where there is no colour
        image = axes.imshow(
            np.ma.masked_invalid(shown[head]), cmap=scheme.AMOUNT, vmin=0.0, vmax=largest,
            aspect="equal", interpolation="nearest", gid=f"head:{head}",
        )  # fmt: skip
        axes.set_title(f"head {head + 1}", fontsize=scheme.TICK, pad=2)
        axes.spines[:].set_visible(False)
        if texts:
            names = [text[:8] for text in texts]
            turned = 90 if longest > 1 else 0
            axes.set_xticks(range(keys), names[:keys], rotation=turned, parse_math=False)
            axes.set_yticks(range(queries), names[-queries:], parse_math=False)
        else:
            axes.locator_params(integer=True, nbins=4)
    figure.get_layout_engine().set(hspace=0.02, wspace=0.02)
    scheme.key(figure, image, "weight", ax=figure.axes, fraction=0.05, aspect=24, pad=0.02)
    style: dict[str, Any] = {"fontsize": scheme.LABEL, "color": scheme.INK}
    figure.supylabel("query: the place that asks", **style)
    figure.supxlabel("\n".join(["key: the place that is looked at", *remarks]), **style)
    return figure


def attention_weights(
    network: Network, params: Params, inputs: Any, state: State | None = None
) -> dict[str, Float[Array, "..."]]:
    """Returns the weights `[batch, heads, queries, keys]` of every attention, by its path.

    They are those of inference for these inputs, computed from its queries and keys. The layer
    itself does not keep them, and on some devices never computes them as a whole. Of a layer
    inside `repeat` there is an axis of layers after the batch.

    Args:
      network: any network with attention inside.
      params: its parameters.
      inputs: its inputs, with the batch in front.
      state: its state; none is `{}`.

    Raises:
      InvalidType: if it is not a network.
      InvalidValue: if there is no attention in it, or one that does not call its `query` and `key`.
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
    # What is compared comes from the layers, or from the norms after them.
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
    """Returns the weights of queries and keys `[batch, ..., time, heads * features]`."""
    if queries.ndim > 3:  # an axis of layers after the batch
        return jax.vmap(partial(_weights, shape), 1, 1)(queries, keys)
    q, k = split_heads(queries, shape.heads), split_heads(keys, shape.kv_heads)
    if shape.rotary is not None:
        q, k = (rotated(x, 0, shape.rotary) for x in (q, k))
    # A mean of the rows of the identity is the weights; kernels that hold none would not take it.
    rows = jnp.broadcast_to(jnp.eye(k.shape[2]), (*k.shape[:2], k.shape[2], k.shape[2]))
    return attend(q, k, rows, causal=shape.causal, window=shape.window, remembers=True)


def _visible(token: Any) -> str:
    """Returns a token as it is written at an axis: what cannot be seen has a sign."""
    return str(token).translate({ord("\n"): "↵", ord("\t"): "⇥", ord(" "): "␣"})
