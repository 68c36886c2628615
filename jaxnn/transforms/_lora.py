"""Low-rank adaptation: fine-tuning with few parameters, without changes to the network's weights.

To each selected weight `[..., n, m]`, the product of two thin matrices is added, `down`
`[..., n, rank]` and `up` `[..., rank, m]`, and only these are trained. `up` is initially 0, so that
outputs are initially unchanged. The weights are state, usually those of a pretrained model:

    adapted = lora(model.network, rank=8)
    fit(learner(adapted, ...), ..., start=({}, {"base": model.params}))

Linear layers compute `inputs @ weight + (inputs @ down) @ up`, so that the gradient of the weight,
a third of the work of a training step, is never computed. With all matrices of a model of 135
million parameters adapted, a step takes 0.7 of the operations of training all weights, and less of
the time, since the optimizer updates few parameters. All other layers receive the sum of the weight
and the product.

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
from collections.abc import Collection, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.calls import apply_inner, inside, join, part_key
from jaxnn.checks import InvalidType, InvalidValue, kind, positive, positive_integer
from jaxnn.layers._linear import flat_draw
from jaxnn.names import chosen, listing, named_leaves, pairs_of
from jaxnn.network import Network, walk, without_empty, wrap
from jaxnn.transforms._freeze import filter_leaves
from jaxnn.transforms._low_rank import Beside, LowRank, merge_low_rank
from jaxnn.typing import Any, Number, Params, State


def lora(
    network: Network,
    rules: Mapping[str, bool] | Sequence[tuple[str, bool]] | None = None,
    *,
    rank: int,
    scale: Number = 16.0,
    kinds: Collection[str] | None = None,
) -> Network:
    """Returns a network that uses `weight + scale / rank * down @ up` for each selected weight.

    `params` are `{"down": ..., "up": ...}` in place of each selected weight; `state` is
    `{"base": all parameters of the network, "scale": scale / rank, "network": its own state}`, the
    last only if it is not empty.

    Args:
      network: any network.
      rules: `{pattern: whether to adapt}` over the names of the parameters, as in `jaxnn.names`:
        the first match counts, and parameters that no rule matches are unchanged. If a weight has
        more than two axes, those before the last two are a batch of matrices: the layers of
        `repeat`, or the window of a convolution. A Flax `kernel` with several input or output axes,
        as in attention, is one matrix, whose output axes are those of its `bias`. The bias of a
        repeated layer has two axes as well: select `"*/weight"`. By default, the weights of all
        layers of the `kinds` are adapted.
      rank: the number of columns of `down` and of rows of `up`, much smaller than those of the
        weights.
      scale: multiplies the product, divided by `rank`; may be traced. The paper's alpha.
      kinds: the kinds of layers, as named in the description of the network, whose parameter
        `weight` may be adapted: `("linear",)` by default without rules, any kind with rules.

    Raises:
      InvalidType: if the network or a rule has the wrong type, or `rank` is not an int.
      InvalidValue: if `rank` or `scale` is not positive, or the network has no layer of a kind; by
        `init`, if a rule matches nothing (the names are listed), no weight is selected, one has
        fewer than two axes, or the adapter of a Flax kernel would be larger than the kernel.

    Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, section 4.1,
    https://arxiv.org/abs/2106.09685.
    """
    kind("lora", "network", network, Network, fix="Pass a network, such as mlp([64], 10)")
    rank = positive_integer("lora", "rank", rank)
    positive("lora", "scale", scale)
    if rules is None:
        rules, kinds = {"*": True}, ("linear",) if kinds is None else kinds
    rules = pairs_of("lora", rules)
    among = None if kinds is None else _weights_of(network, kinds)

    def init(key, inputs):
        base, state = network.init(key, inputs)
        weights = _weights(rules, base, among)
        leaves = named_leaves(base)
        shapes = {name: _matrix_shape(name, leaves) for name in weights}
        _check_smaller(weights, shapes, rank)
        adapters = _adapters(part_key(key, "lora"), shapes, rank)
        adapted = filter_leaves(base, weights.__contains__)
        ordered = [adapters[name] for name in named_leaves(adapted)]
        params = jax.tree.unflatten(jax.tree.structure(adapted), ordered)
        factor = jnp.asarray(scale / rank, jnp.float32)
        return params, without_empty({"base": base, "scale": factor, "network": state})

    def apply(params, state, inputs, *, key=None):
        adapted, own = _beside(merge_low_rank(params), state)
        with inside(Beside()):
            outputs, after = apply_inner(network, adapted, own, inputs, key)
        return outputs, without_empty(
            {"base": state["base"], "scale": state["scale"], "network": after}
        )

    shown = scale if isinstance(scale, int | float) else "traced"
    settings: dict[str, Any] = {} if kinds is None else {"kinds": tuple(kinds)}
    settings |= {"rules": tuple(rules), "rank": rank, "scale": shown}
    return wrap(network, "lora", apply, init, **settings)


def merge_lora(params: Params, state: State) -> tuple[Params, State]:
    """Returns `(params, state)` of the network inside `lora`, with adapters added to its weights.

    With them, the network itself has the outputs of the adapted network, up to rounding.
    """
    adapted, own = _beside(params, state)
    return merge_low_rank(adapted), own


def _beside(params: Params, state: State) -> tuple[Params, State]:
    """Returns parameters with a `LowRank` in place of each adapted weight, and the inner state."""
    by_name, leaves = named_leaves(params), []
    for name, weight in named_leaves(state["base"]).items():
        down, up = (by_name.get(f"{name}/{side}".lstrip("/")) for side in ("down", "up"))
        if down is not None and up is not None:
            scale = state["scale"]
            # Inside `repeat`, each layer has its own scale.
            scale = scale.reshape(scale.shape + (1,) * (up.ndim - scale.ndim))
            weight = LowRank(weight, down, scale.astype(up.dtype) * up)
        leaves.append(weight)
    structure = jax.tree.structure(state["base"])
    return jax.tree.unflatten(structure, leaves), state.get("network", {})


def _weights_of(network: Network, kinds: Collection[str]) -> set[str]:
    """Returns the names of the parameter `weight` of all layers of the given kinds."""
    if isinstance(kinds, str) or not all(isinstance(each, str) for each in kinds):
        raise InvalidType(
            "lora",
            "the kinds of layers have the wrong type",
            got=f"kinds={kinds!r}",
            expected="a list of kinds, as the description of the network names them",
            fix="Pass kinds=['linear']",
        )
    parts = [(path, part.parts.kind) for path, part in walk(network)]
    missing = set(kinds) - {each for _, each in parts}
    if missing or not kinds:
        raise InvalidValue(
            "lora",
            "the network has no layer of a kind",
            got=f"{min(missing, default='no kinds')!r}",
            expected=f"some of {listing(dict.fromkeys(each for _, each in parts))}",
            fix="Select weights by name: lora(network, {'*kernel': True}, rank=8)",
        )
    return {join(path, "weight") for path, each in parts if each in kinds}


def _weights(rules: Any, base: Any, among: set[str] | None) -> dict[str, Any]:
    """Returns the weights that the rules select, by name; only names in `among`, if given."""
    leaves = named_leaves(base)
    names = chosen("lora", rules, leaves)
    weights = {name: leaves[name] for name in names if among is None or name in among}
    matrices = [name for name, leaf in leaves.items() if leaf.ndim > 1]
    wrong = [f"{name} of shape {x.shape}" for name, x in weights.items() if x.ndim < 2]
    if wrong or not weights:
        raise InvalidValue(
            "lora",
            "a selected parameter is not a matrix" if wrong else "no weight is selected",
            got=wrong[0] if wrong else f"rules {dict(rules)}",
            expected=f"some of {listing(matrices)}",
            fix="Select only weights: {'*weight': True}",
        )
    return weights


def _matrix_shape(name: str, leaves: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the shape of a weight as one matrix or a batch of matrices."""
    shape, (parent, _, last) = leaves[name].shape, name.rpartition("/")
    bias = leaves.get(join(parent, "bias"))
    if last != "kernel" or bias is None or not 0 < bias.ndim < len(shape):
        return shape
    # With two equal axes, it may also be a batch of matrices, each with a bias of one axis.
    unclear = bias.ndim > 1 and shape[0] == shape[1]
    if len(shape) == 2 or unclear or shape[-bias.ndim :] != bias.shape:
        return shape
    return math.prod(shape[: -bias.ndim]), math.prod(bias.shape)


def _check_smaller(weights: Mapping[str, Any], shapes: Mapping[str, Any], rank: int) -> None:
    """Raises `InvalidValue` if the adapter of a kernel with several axes is larger than it."""
    for name, (*batch, inputs, outputs) in shapes.items():
        size, several = math.prod(batch) * rank * (inputs + outputs), weights[name].ndim > 2
        if name.endswith("kernel") and several and size > weights[name].size:
            raise InvalidValue(
                "lora",
                f"the adapter of {name} is larger than the weight",
                got=f"{size:,} numbers for a weight of shape {weights[name].shape}, as"
                f" {'matrices' if batch else 'a matrix'} of {inputs} x {outputs}",
                expected="fewer numbers than the weight has",
                fix=f"Pass a smaller rank, or begin the rules with {name!r}: False",
            )


def _adapters(key: Any, weights: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """Draws `down` with variance `1 / n` for weights of these shapes; each `up` is zeros."""
    shapes = {name: (*shape[:-1], rank) for name, shape in weights.items()}
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    draws = jnp.split(flat_draw(jax.random.normal, key, (int(ends[-1]),)), ends[:-1])
    return {
        name: {
            "down": draw.reshape(shape) / math.sqrt(shape[-2]),
            "up": jnp.zeros((*shape[:-2], rank, weights[name][-1]), jnp.float32),
        }
        for (name, shape), draw in zip(shapes.items(), draws)
    }
