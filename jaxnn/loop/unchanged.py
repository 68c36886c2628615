"""Arrays of a state that no step changes, such as frozen weights.

The program of a step says which they are: it returns them as it was given them. Training holds one
copy of them, the caller's own where it begins with given ones, and saves them once. A tree without
them has holes in their places.

>>> import jax.numpy as jnp
>>> rest, constants = split({"adapter": jnp.ones(2), "base": jnp.zeros(3)}, (1,))
>>> len(jax.tree.leaves(rest)), len(constants)
(1, 1)
>>> sorted(filled(rest, constants))
['adapter', 'base']
"""

from collections.abc import Sequence

import jax

from jaxnn.typing import Any

# Smaller arrays cost more to tell apart than to copy.
LEAST = 1 << 16


@jax.tree_util.register_static
class _Hole:
    """The place of an array that was taken out of a tree."""

    def __hash__(self):
        return hash(_Hole)

    def __eq__(self, other):
        return isinstance(other, _Hole)


def unchanged(program: Any, state: Any) -> tuple[int, ...]:
    """Returns the places of the leaves of a state that the program of a step returns unchanged.

    Args:
      program: of a step, `(state, data) -> (state, metrics)`, traced.
      state: its arrays, or their shapes; only large ones count.
    """
    leaves = jax.tree.leaves(state)
    pairs = zip(leaves, program.jaxpr.invars, program.jaxpr.outvars)
    return tuple(
        place
        for place, (leaf, given, returned) in enumerate(pairs)
        if given is returned and leaf.size * leaf.dtype.itemsize >= LEAST
    )


def split(tree: Any, places: Sequence[int]) -> tuple[Any, list[Any]]:
    """Returns a tree with holes in these places, counted over its leaves, and what was there."""
    if not places:
        return tree, []
    leaves, structure = jax.tree.flatten(tree)
    constants = [leaves[place] for place in places]
    for place in places:
        leaves[place] = _Hole()
    return jax.tree.unflatten(structure, leaves), constants


def holes(tree: Any) -> tuple[int, ...]:
    """Returns the places of the holes of a tree."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, _Hole))
    return tuple(place for place, leaf in enumerate(leaves) if isinstance(leaf, _Hole))


def filled(tree: Any, constants: Sequence[Any]) -> Any:
    """Returns a tree with these arrays in its holes."""
    if not constants:
        return tree
    given = iter(constants)
    leaves, structure = jax.tree.flatten(tree, is_leaf=lambda node: isinstance(node, _Hole))
    leaves = [next(given) if isinstance(leaf, _Hole) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, leaves)
