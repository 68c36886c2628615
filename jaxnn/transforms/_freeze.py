"""Parameters that training leaves as they are: they become state.

What is no parameter has no gradient, no place in the optimizer's memory and no weight decay, and
costs none of these. Rules over names say what is frozen; usually it comes from somewhere:

    started = warm_start(mlp([64, 64], 3), params, inputs, {"output": None})
    freeze(started.network, {"output": False, "*": True})

Only parameters stay. A part that is frozen still runs as in training: `batch_norm` takes the
statistics of the batch and moves the running ones, and `dropout` drops. What shall run as in
inference is given no key, in the network before:

    def still(part):
        return part._replace(apply=lambda *given, key=None: part.apply(*given))

    rewrite(network, lambda path, part: lasting(part, still) if path == "body" else part)

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models._mlp import mlp
>>> network = freeze(mlp([8], 2), {"hidden_*": True})
>>> params, state = network.init(jax.random.key(0), jnp.ones((1, 4)))
>>> jax.tree.map(jnp.shape, params)
{'output': {'bias': (2,), 'weight': (8, 2)}}
>>> jax.tree.map(jnp.shape, state)
{'frozen': {'hidden_1': {'bias': (8,), 'weight': (4, 8)}}}
"""

from collections.abc import Mapping, Sequence

import jax

from jaxnn.checks import kind
from jaxnn.names import chosen, named, pairs_of
from jaxnn.network import Network, around
from jaxnn.typing import Any, Callable


def freeze(network: Network, rules: Mapping[str, bool] | Sequence[tuple[str, bool]]) -> Network:
    """Moves the parameters that the rules choose into the state, where training leaves them alone.

    `params` are the others; `state` is `{"frozen": the chosen ones, "network": its own state}`,
    each only if there is any. Nodes that are left without parameters are left out.

    Args:
      network: any network.
      rules: `{pattern: whether it is frozen}` over the names of the parameters, as in
        `jaxnn.names`: the first that matches counts, and what none matches is trained.

    Raises:
      InvalidType: if the network or a rule is of another kind.
      InvalidValue: when initialised, if a rule matches nothing; the names are listed.
    """
    kind("freeze", "network", network, Network, fix="Pass a network, such as mlp([64], 10)")
    rules = pairs_of("freeze", rules)

    def init(key, inputs):
        params, state = network.init(key, inputs)
        names = chosen("freeze", rules, named(params))
        trained = kept(params, lambda name: name not in names)
        return trained, stored(frozen=kept(params, names.__contains__), network=state)

    def apply(params, state, inputs, *, key=None):
        still = state.get("frozen", {})
        outputs, after = network.apply(
            united(still, params), state.get("network", {}), inputs, key=key
        )
        return outputs, stored(frozen=still, network=after)

    return around(
        network, init, apply, "freeze", lambda inner: freeze(inner, rules), rules=tuple(rules)
    )


def kept(tree: Any, keep: Callable[[str], bool], name: str = "") -> dict[str, Any]:
    """Returns nested dicts with the leaves whose names are to be kept, without nodes left empty.

    >>> kept({"a": {"b": 1, "c": 2}, "d": {"e": 3}}, lambda name: name == "a/b")
    {'a': {'b': 1}}
    """
    found = {}
    for key, value in tree.items():
        path = f"{name}/{key}".lstrip("/")
        if isinstance(value, dict):
            if inner := kept(value, keep, path):
                found[key] = inner
        elif keep(path):
            found[key] = value
    return found


def united(left: Any, right: Any) -> dict[str, Any]:
    """Returns nested dicts with the leaves of both.

    >>> united({"a": {"b": 1}}, {"a": {"c": 2}, "d": 3})
    {'a': {'b': 1, 'c': 2}, 'd': 3}
    """
    shared = {key: united(left[key], right[key]) for key in left if key in right}
    return {**left, **right, **shared}


def stored(**trees: Any) -> dict[str, Any]:
    """Returns what a transform keeps in the state, by name; what has no arrays leaves no trace."""
    return {name: tree for name, tree in trees.items() if jax.tree.leaves(tree)}
