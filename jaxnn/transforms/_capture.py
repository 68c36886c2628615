"""Captured outputs: the outputs of named parts of a network, without changes to the network.

Parts are named by their paths, as in a `table`.

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models import mlp
>>> network = capture(mlp([8, 4], 2), ["activation_*"])
>>> params, state = network.init(jax.random.key(0), jnp.ones((1, 3)))
>>> (outputs, inside), _ = network.apply(params, state, jnp.ones((1, 3)))
>>> jax.tree.map(jnp.shape, inside)
{'activation_1': (1, 8), 'activation_2': (1, 4)}

What is captured of a part is returned in its state, as a node `_Captured` that also holds the
part's own state. Combinators and transforms pass it on like any state, and a `scan` over depth
stacks it; `capture` extracts it from the state of the whole network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp

from jaxnn.calls import apply_inner, does_pass_inputs, inside, join
from jaxnn.checks import InvalidValue, kind
from jaxnn.names import check_patterns, listing, match_name, picked
from jaxnn.network import Network, walk, wrap
from jaxnn.typing import Any


def capture(network: Network, patterns: Sequence[str], *, inputs: bool = False) -> Network:
    """Returns a network with outputs `(outputs, {path: outputs of that part})`.

    Args:
      network: any network.
      patterns: the paths of parts, in which `*` matches any characters. The outputs of a part
        inside `repeat` are those of all layers, `[batch, layers, ...]`. The path of the whole
        network is `""`. The submodules of a Flax model are parts too; `jaxnn.table` lists them.
      inputs: whether to return the inputs of these parts instead of their outputs.

    Raises:
      InvalidType: if the network or the patterns have the wrong type.
      InvalidValue: if a pattern matches no part (the parts are listed); by `apply`, if a part is
        not called, or its state is dropped.
    """
    kind("capture", "network", network, Network, fix="Pass a network, such as mlp([64], 10)")
    parts = list(walk(network))
    if any(part.parts.flow == "called" for _, part in parts):
        # Some parts are known by their calls only, so patterns are matched with each call.
        check_patterns("capture", patterns)
        paths, names = [], tuple(patterns)
    else:
        paths, names = picked("capture", patterns, dict.fromkeys(path for path, _ in parts)), ()
    owner, of_inputs = object(), inputs

    def apply(params, state, inputs, *, key=None):
        with inside(_Capture(owner, frozenset(paths), names, of_inputs)):
            outputs, after = apply_inner(network, params, state, inputs, key)
        after, captured = _extract(after, owner, of_inputs)
        missing = [path for path in paths if path not in captured]
        missing += [name for name in names if not any(_matches(name, path) for path in captured)]
        if missing:
            raise InvalidValue(
                "capture",
                "a part is not called, or the state that it returns is dropped",
                got=f"{missing[0]!r} in {patterns!r}",
                expected=f"parts like {listing(captured)}"
                if captured
                else "the path of a part, as in table(network, inputs)",
                fix="Leave that part out, or capture the one that contains it",
            )
        ordered = paths or sorted(captured, key=lambda path: _place(names, path))
        return (outputs, {path: captured[path] for path in ordered}), after

    settings: dict[str, Any] = {"inputs": True} if inputs else {}
    return wrap(network, "capture", apply, None, patterns=tuple(patterns), **settings)


def _matches(pattern: str, path: str) -> bool:
    return match_name(pattern, path, nodes=False) is not None


def _place(patterns: Sequence[str], path: str) -> int:
    """Returns the index of the first pattern that matches the path."""
    return next(place for place, each in enumerate(patterns) if _matches(each, path))


@dataclass(frozen=True)
class _Capture:
    """The frame in which captured parts return their outputs, or inputs, in their state as well.

    Parts that contain no captured path are computed outside of it, and so are not traced again;
    unless there are `patterns`, which any path may match.
    """

    owner: Any
    paths: frozenset[str]
    patterns: tuple[str, ...] = ()
    of_inputs: bool = False
    path: str = ""
    observes = True

    def enter(self, name):
        path = join(self.path, name)
        below = f"{path}/".lstrip("/")
        paths = frozenset(each for each in self.paths if each == path or each.startswith(below))
        return replace(self, paths=paths, path=path) if paths or self.patterns else None

    def __call__(self, part, proceed, params, state, inputs, key):
        # A transform and the network inside it share a path; the network inside is captured.
        rest = self.paths if does_pass_inputs(part) else self.paths - {self.path}
        within = replace(self, paths=rest) if rest or self.patterns else None
        outputs, after = proceed(params, state, inputs, key, within=within)
        matches = any(_matches(pattern, self.path) for pattern in self.patterns)
        if self.path not in self.paths and not matches:
            return outputs, after
        captured = inputs if self.of_inputs else outputs
        ranks = tuple(leaf.ndim for leaf in jax.tree.leaves(captured))
        return outputs, _Captured(captured, after, self.owner, self.path, ranks)


def _extract(state: Any, owner: Any, of_inputs: bool) -> tuple[Any, dict[str, Any]]:
    """Returns the state as the network alone returns it, and the captured values by path."""
    captured = {}

    def clean(node):
        if isinstance(node, _Captured):
            inner = clean(node.state)
            if node.owner is not owner:
                return replace(node, state=inner)
            leaves, structure = jax.tree.flatten(node.values)
            # The axes of layers, which a loop puts in front, are moved after the batch axis.
            moved = (
                x if x.ndim == rank else jnp.moveaxis(x, x.ndim - rank, 0)
                for x, rank in zip(leaves, node.ranks)
            )
            values = jax.tree.unflatten(structure, moved)
            # Of a transform and the network inside it, the innermost node is visited first. The
            # outputs are those of the network, and the inputs those of the transform.
            captured[node.path] = values if of_inputs else captured.get(node.path, values)
            return inner
        if not isinstance(node, dict):
            return node
        parts = {name: (part, clean(part)) for name, part in node.items()}
        # Parts without a state have entries in the state of a combinator for captured outputs only.
        return {
            name: after
            for name, (before, after) in parts.items()
            if jax.tree.leaves(after) or not jax.tree.leaves(before)
        }

    return clean(state), captured


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Captured:
    """The captured values of a part and its state; `ranks` are those before any stacking."""

    values: Any
    state: Any
    owner: Any = field(metadata={"static": True})
    path: str = field(metadata={"static": True})
    ranks: tuple[int, ...] = field(metadata={"static": True})
