"""What happens inside: the outputs of named parts of a network, without touching the network.

Each part is called by its path, as in `jaxnn.network.rewrite` and in a `table`.

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models.mlp import mlp
>>> network = captured(mlp([8, 4], 2), ["activation_*"])
>>> params, state = network.init(jax.random.key(0), jnp.ones((1, 3)))
>>> (outputs, inside), _ = network.apply(params, state, jnp.ones((1, 3)))
>>> jax.tree.map(jnp.shape, inside)
{'activation_1': (1, 8), 'activation_2': (1, 4)}

How: a part that is watched puts what is seen of it into the state that it returns, as a node
`_Seen` around its own state. Combinators and transforms pass it on like any state, a `scan` over
depth stacks it, and at the top it is taken out again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidValue, kind
from jaxnn.names import listing, picked
from jaxnn.network import Network, around, rewrite
from jaxnn.typing import Any, Callable


def captured(network: Network, patterns: Sequence[str]) -> Network:
    """Gives the outputs of parts beside those of the network: `(outputs, {path: its outputs})`.

    Args:
      network: any network.
      patterns: the paths of parts, in which `*` stands for any characters. Of a part inside
        `repeat` the outputs of all layers are given, `[batch, layers, ...]`; of one inside other
        transforms its own, as it computes them. The path of the whole is `""`.

    Raises:
      InvalidType: if the network or the patterns are of another kind.
      InvalidValue: if a pattern matches no part; the parts are listed.
    """
    kind("captured", "network", network, Network, fix="Pass a network, such as mlp([64], 10)")
    paths: list[str] = []
    rewrite(network, lambda path, part: (paths.append(path), part)[1])
    chosen = picked("captured", patterns, dict.fromkeys(paths))
    owner = object()
    inner = watched(network, chosen, lambda params, state, inputs, outputs: outputs, owner)

    def apply(params, state, inputs, *, key=None):
        outputs, after = inner.apply(params, state, inputs, key=key)
        after, seen = taken_out(after, owner)
        hidden = [path for path in chosen if path not in seen]
        if hidden:
            raise InvalidValue(
                "captured",
                "the part around a part does not hand on its state, and so nothing of it is seen",
                got=f"{hidden[0]!r} in {patterns!r}",
                expected=f"parts like {listing(seen)}",
                fix="Leave that part out, or capture the one around it",
            )
        return (outputs, {path: seen[path].batch_first() for path in chosen}), after

    return around(
        network, network.init, apply, "captured", lambda inner: captured(inner, patterns),
        patterns=tuple(patterns),
    )  # fmt: skip


class Sight(NamedTuple):
    """What was seen of a part.

    Attributes:
      value: the pytree that was to be looked at; inside `repeat` with an axis of layers in front.
      depth: how many axes of layers each of its leaves has.
    """

    value: Any
    depth: tuple[int, ...]

    def batch_first(self) -> Any:
        """Returns the value with the axes of layers behind the first of its own."""
        leaves, structure = jax.tree.flatten(self.value)
        moved = [jnp.moveaxis(x, depth, 0) for x, depth in zip(leaves, self.depth)]
        return jax.tree.unflatten(structure, moved)


def watched(
    network: Network, paths: Collection[str], look: Callable[..., Any], owner: Any
) -> Network:
    """Returns the network with `look(params, state, inputs, outputs)` of parts in its state after.

    Args:
      network: any network.
      paths: of the parts. Where a transform and what is inside have one path, it is the inside.
      look: what is to be seen of a part that is applied.
      owner: whoever takes it out again with `taken_out`.
    """
    waiting = set(paths)

    def change(path: str, part: Network) -> Network:
        if path not in waiting:
            return part
        waiting.remove(path)

        def apply(params, state, inputs, *, key=None):
            outputs, after = part.apply(params, state, inputs, key=key)
            value = look(params, state, inputs, outputs)
            ranks = tuple(leaf.ndim for leaf in jax.tree.leaves(value))
            return outputs, _Seen(value, after, owner, path, ranks)

        return part._replace(apply=apply)

    return rewrite(network, change)


def taken_out(state: Any, owner: Any) -> tuple[Any, dict[str, Sight]]:
    """Returns the state as the network alone would return it, and what was seen, by path."""
    seen: dict[str, Sight] = {}

    def clean(node):
        if isinstance(node, _Seen):
            inner = clean(node.state)
            if node.owner is not owner:
                return replace(node, state=inner)
            depth = [
                leaf.ndim - rank for leaf, rank in zip(jax.tree.leaves(node.value), node.ranks)
            ]
            seen[node.path] = Sight(node.value, tuple(depth))
            return inner
        if not isinstance(node, dict):
            return node
        parts = {name: (part, clean(part)) for name, part in node.items()}
        # A part without a state has no trace in that of a combinator, but for what was seen.
        return {
            name: after
            for name, (before, after) in parts.items()
            if jax.tree.leaves(after) or not jax.tree.leaves(before)
        }

    return clean(state), seen


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Seen:
    """What was seen of a part, around its state; the ranks tell which axes were stacked since."""

    value: Any
    state: Any
    owner: Any = field(metadata={"static": True})
    path: str = field(metadata={"static": True})
    ranks: tuple[int, ...] = field(metadata={"static": True})
