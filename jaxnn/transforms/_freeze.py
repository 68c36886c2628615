"""Frozen parameters, which training does not change: they are moved to the state.

Arrays in the state have no gradient, no optimizer state and no weight decay. Frozen parameters are
usually those of another network:

    started = warm_start(mlp([64, 64], 3), params, inputs, {"output": None})
    freeze(started.network, {"output": False, "*": True})

Only parameters are frozen. The parts still compute as in training: `batch_norm` uses the statistics
of the batch and updates the running ones, and `dropout` drops. To run a part as in inference,
apply it without a key before freezing:

    def still(path, part):
        if path != "body":
            return part
        return part._replace(apply=lambda *arrays, key=None: part.apply(*arrays))

    freeze(intercept(network, still), {"body": True})

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models import mlp
>>> network = freeze(mlp([8], 2), {"hidden_*": True})
>>> jax.tree.map(jnp.shape, network.init(jax.random.key(0), jnp.ones((1, 4))))
({'output': {'bias': (2,), 'weight': (8, 2)}}, \
{'frozen': {'hidden_1': {'bias': (8,), 'weight': (4, 8)}}})
"""

from collections.abc import Mapping, Sequence

import jax

from jaxnn.calls import apply_inner
from jaxnn.names import chosen, named_leaves, pairs_of
from jaxnn.network import Network, without_empty, wrap
from jaxnn.typing import Any, Callable


def freeze(network: Network, rules: Mapping[str, bool] | Sequence[tuple[str, bool]]) -> Network:
    """Moves the parameters that the rules select into the state, where training leaves them alone.

    `params` are the remaining parameters, without nodes that have none left; `state` is
    `{"frozen": the selected parameters, "network": its own state}`, without empty entries.

    Args:
      network: any network.
      rules: `{pattern: whether to freeze}` over the names of the parameters, as in `jaxnn.names`:
        the first match counts, and parameters that no rule matches are trained.

    Raises:
      InvalidType: if the network or a rule has the wrong type.
      InvalidValue: by `init`, if a rule matches nothing; the names are listed.
    """
    rules = pairs_of("freeze", rules)

    def init(key, inputs):
        params, state = network.init(key, inputs)
        names = set(chosen("freeze", rules, named_leaves(params)))
        trained = filter_leaves(params, lambda name: name not in names)
        frozen = filter_leaves(params, names.__contains__)
        return trained, without_empty({"frozen": frozen, "network": state})

    def apply(params, state, inputs, *, key=None):
        frozen = state.get("frozen", {})
        whole = merge(frozen, params)
        outputs, after = apply_inner(network, whole, state.get("network", {}), inputs, key)
        return outputs, without_empty({"frozen": frozen, "network": after})

    return wrap(network, "freeze", apply, init, rules=tuple(rules))


def filter_leaves(tree: Any, keep: Callable[[str], bool]) -> Any:
    """Returns the tree with only the leaves for whose names `keep` is true.

    Entries of dicts without leaves are removed; in other containers `None` replaces a leaf.

    >>> filter_leaves({"a": {"b": 1, "c": [2, 3]}, "d": {"e": 4}}, lambda name: name == "a/c/1")
    {'a': {'c': [None, 3]}}
    """
    leaves, structure = jax.tree.flatten(tree)
    filtered = [leaf if keep(name) else None for name, leaf in zip(named_leaves(tree), leaves)]
    return _prune(jax.tree.unflatten(structure, filtered))


def _prune(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return without_empty({key: _prune(value) for key, value in tree.items()})


def merge(left: Any, right: Any) -> Any:
    """Merges two trees with disjoint leaves, which `filter_leaves` has selected from one tree.

    >>> merge({"a": {"b": 1}}, {"a": {"c": 2}, "d": 3})
    {'a': {'b': 1, 'c': 2}, 'd': 3}
    """
    if not jax.tree.leaves(left):
        return right
    if not jax.tree.leaves(right):
        return left
    if isinstance(left, dict):
        shared = {key: merge(left[key], right[key]) for key in left if key in right}
        return {**left, **right, **shared}
    nodes, structure = jax.tree.flatten(left, is_leaf=lambda node: node is not left)
    others = jax.tree.leaves(right, is_leaf=lambda node: node is not right)
    return jax.tree.unflatten(structure, map(merge, nodes, others))
