"""What happens inside: the outputs of named parts of a network, without touching the network.

Each part is called by its path, as in `jaxnn.network.rewrite` and in a `table`.

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models._mlp import mlp
>>> network = capture(mlp([8, 4], 2), ["activation_*"])
>>> params, state = network.init(jax.random.key(0), jnp.ones((1, 3)))
>>> (outputs, inside), _ = network.apply(params, state, jnp.ones((1, 3)))
>>> jax.tree.map(jnp.shape, inside)
{'activation_1': (1, 8), 'activation_2': (1, 4)}

How: a part that is watched puts what is seen of it into the state that it returns, as a node
`_Seen` around its own state. Combinators and transforms pass it on like any state, a `scan` over
depth stacks it, and at the top it is taken out again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidValue, kind
from jaxnn.names import listing, picked
from jaxnn.network import Network, around, lasting, rewrite
from jaxnn.typing import Any, Callable


def capture(network: Network, patterns: Sequence[str]) -> Network:
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
    kind("capture", "network", network, Network, fix="Pass a network, such as mlp([64], 10)")
    paths: list[str] = []
    rewrite(network, lambda path, part: (paths.append(path), part)[1])
    chosen = picked("capture", patterns, dict.fromkeys(paths))
    owner = object()
    inner = _watched(network, chosen, owner)

    def apply(params, state, inputs, *, key=None):
        outputs, after = inner.apply(params, state, inputs, key=key)
        after, seen = _taken_out(after, owner)
        hidden = [path for path in chosen if path not in seen]
        if hidden:
            raise InvalidValue(
                "capture",
                "the part around a part does not hand on its state, and so nothing of it is seen",
                got=f"{hidden[0]!r} in {patterns!r}",
                expected=f"parts like {listing(seen)}",
                fix="Leave that part out, or capture the one around it",
            )
        return (outputs, {path: seen[path] for path in chosen}), after

    return around(
        network, network.init, apply, "capture", lambda inner: capture(inner, patterns),
        patterns=tuple(patterns),
    )  # fmt: skip


def _watched(network: Network, paths: list[str], owner: Any) -> Network:
    """Returns the network with what parts compute in its state after.

    Where a transform and what is inside have one path, the inside is meant.
    """
    waiting = set(paths)

    def change(path: str, part: Network) -> Network:
        if path not in waiting:
            return part
        waiting.remove(path)
        return lasting(part, lambda part: part._replace(apply=_seen(part, path, owner)))

    return rewrite(network, change)


def _seen(part: Network, path: str, owner: Any) -> Callable[..., Any]:
    def apply(params, state, inputs, *, key=None):
        outputs, after = part.apply(params, state, inputs, key=key)
        ranks = tuple(leaf.ndim for leaf in jax.tree.leaves(outputs))
        return outputs, _Seen(outputs, after, owner, path, ranks)

    return apply


def _taken_out(state: Any, owner: Any) -> tuple[Any, dict[str, Any]]:
    """Returns the state as the network alone would return it, and what was seen, by path."""
    seen = {}

    def clean(node):
        if isinstance(node, _Seen):
            inner = clean(node.state)
            if node.owner is not owner:
                return replace(node, state=inner)
            seen[node.path] = node.batch_first()
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
    """What a part computed, around its state; the ranks tell which axes were stacked since."""

    outputs: Any
    state: Any
    owner: Any = field(metadata={"static": True})
    path: str = field(metadata={"static": True})
    ranks: tuple[int, ...] = field(metadata={"static": True})

    def batch_first(self) -> Any:
        """Returns the outputs with the axes of layers, which a loop puts in front, after one."""
        leaves, structure = jax.tree.flatten(self.outputs)
        moved = [jnp.moveaxis(x, x.ndim - rank, 0) for x, rank in zip(leaves, self.ranks)]
        return jax.tree.unflatten(structure, moved)
