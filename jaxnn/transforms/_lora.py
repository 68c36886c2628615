"""Low-rank adaptation: a network is adjusted by few numbers, and its own weights stay as they are.

To each chosen weight `[..., n, m]` is added a product of two thin matrices, `down` `[..., n, rank]`
and `up` `[..., rank, m]`, and only these are trained. `up` starts at 0, so at first nothing is
changed. The weights themselves are state, and usually come from somewhere:

    adapted = lora(warm_start(model, params, inputs).network, {"*/weight": True}, rank=8)

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models import mlp
>>> network = lora(mlp([32], 3), {"hidden_1/weight": True}, rank=2)
>>> params, state = network.init(jax.random.key(0), jnp.ones((1, 16)))
>>> jax.tree.map(jnp.shape, params)
{'hidden_1': {'weight': {'down': (16, 2), 'up': (2, 32)}}}
>>> sorted(merge_lora(params, state)[0])
['hidden_1', 'output']
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.calls import apply_inner, part_key
from jaxnn.checks import InvalidValue, positive, positive_integer
from jaxnn.layers._linear import flat_draw
from jaxnn.names import chosen, listing, named_leaves, pairs_of
from jaxnn.network import Network, without_empty, wrap
from jaxnn.transforms._freeze import filter_leaves
from jaxnn.typing import Any, Number, Params, State


def lora(
    network: Network,
    rules: Mapping[str, bool] | Sequence[tuple[str, bool]],
    *,
    rank: int,
    scale: Number = 16.0,
) -> Network:
    """Trains `weight + scale / rank * down @ up` instead of each weight that the rules choose.

    `params` are `{"down": ..., "up": ...}` at the place of each chosen weight; `state` is
    `{"base": all parameters of the network, "scale": scale / rank, "network": its own state}`, the
    last only if there is any.

    Args:
      rules: `{pattern: whether it is adapted}` over the names of the parameters, as in
        `jaxnn.names`: the first that matches counts, and what none matches stays as it is. Of more
        than two axes all but the last two are a batch of matrices: the layers of `repeat`, or the
        window of a convolution. So the bias of a repeated layer would pass for a matrix: choose
        `"*/weight"`.
      rank: the number of columns of `down` and of rows of `up`; much smaller than those of the
        weights.
      scale: how strongly the adapters count; may be traced. The paper's alpha.

    Raises:
      InvalidType: if the network or a rule has the wrong type, or `rank` is not an int.
      InvalidValue: if `rank` or `scale` is not positive; when initialised, if a rule matches
        nothing (the names are listed), no weight is chosen, or one has fewer than two axes.

    Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, section 4.1,
    https://arxiv.org/abs/2106.09685.
    """
    rules = pairs_of("lora", rules)
    rank = positive_integer("lora", "rank", rank)
    positive("lora", "scale", scale)

    def init(key, inputs):
        base, state = network.init(key, inputs)
        weights = _weights(rules, base)
        adapters = _adapters(part_key(key, "lora"), weights, rank)
        adapted = filter_leaves(base, weights.__contains__)
        ordered = [adapters[name] for name in named_leaves(adapted)]
        params = jax.tree.unflatten(jax.tree.structure(adapted), ordered)
        factor = jnp.asarray(scale / rank, jnp.float32)
        return params, without_empty({"base": base, "scale": factor, "network": state})

    def apply(params, state, inputs, *, key=None):
        outputs, after = apply_inner(network, *merge_lora(params, state), inputs, key)
        return outputs, without_empty(
            {"base": state["base"], "scale": state["scale"], "network": after}
        )

    shown = scale if isinstance(scale, int | float) else "traced"
    return wrap(network, "lora", apply, init, rules=tuple(rules), rank=rank, scale=shown)


def merge_lora(params: Params, state: State) -> tuple[Params, State]:
    """Returns `(params, state)` of the network inside `lora`, the adapters added to its weights."""
    by_name, sums = named_leaves(params), []
    for name, weight in named_leaves(state["base"]).items():
        down, up = (by_name.get(f"{name}/{side}".lstrip("/")) for side in ("down", "up"))
        if down is not None and up is not None:
            change, scale = down @ up, state["scale"]
            # Inside `repeat` each layer has a scale.
            scale = scale.reshape(scale.shape + (1,) * (change.ndim - scale.ndim))
            weight = weight + (scale.astype(change.dtype) * change).astype(weight.dtype)
        sums.append(weight)
    return jax.tree.unflatten(jax.tree.structure(state["base"]), sums), state.get("network", {})


def _weights(rules: Any, base: Any) -> dict[str, Any]:
    """Returns the weights that the rules choose, by name."""
    leaves = named_leaves(base)
    weights = {name: leaves[name] for name in chosen("lora", rules, leaves)}
    matrices = [name for name, leaf in leaves.items() if leaf.ndim > 1]
    wrong = [f"{name} of shape {x.shape}" for name, x in weights.items() if x.ndim < 2]
    if wrong or not weights:
        raise InvalidValue(
            "lora",
            "a parameter that is chosen is no matrix" if wrong else "no weight is chosen",
            got=wrong[0] if wrong else f"rules {dict(rules)}",
            expected=f"some of {listing(matrices)}",
            fix="Choose weights alone: {'*weight': True}",
        )
    return weights


def _adapters(key: Any, weights: dict[str, Any], rank: int) -> dict[str, Any]:
    """Draws `down` of variance `1 / n` for all weights at once, and makes each `up` of zeros."""
    shapes = {name: (*leaf.shape[:-1], rank) for name, leaf in weights.items()}
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    draws = jnp.split(flat_draw(jax.random.normal, key, (int(ends[-1]),)), ends[:-1])
    return {
        name: {
            "down": draw.reshape(shape) / math.sqrt(shape[-2]),
            "up": jnp.zeros((*shape[:-2], rank, weights[name].shape[-1]), jnp.float32),
        }
        for (name, shape), draw in zip(shapes.items(), draws)
    }
