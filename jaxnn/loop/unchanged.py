"""Arrays in a state that no training step changes, such as frozen weights.

They are inputs that the traced program of a step returns unchanged. Training removes them from the
state, which leaves holes, and passes them separately without donation. So they are stored once on
the device (also if the caller passed them as initial parameters), and saved once.

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

# The minimum size in bytes: for smaller arrays, copying is cheaper than the separation.
LEAST = 1 << 16


@jax.tree_util.register_static
class _Hole:
    """Marks the place of an array that was removed from a tree."""

    def __hash__(self):
        return hash(_Hole)

    def __eq__(self, other):
        return isinstance(other, _Hole)


def unchanged(program: Any, state: Any) -> tuple[int, ...]:
    """Returns the indices of the large leaves of a state that a step returns unchanged.

    Args:
      program: the traced program of a step, `(state, data) -> (state, metrics)`.
      state: the state, as arrays or shapes.
    """
    leaves = jax.tree.leaves(state)
    pairs = zip(leaves, program.jaxpr.invars, program.jaxpr.outvars)
    return tuple(
        place
        for place, (leaf, given, returned) in enumerate(pairs)
        if given is returned and leaf.size * leaf.dtype.itemsize >= LEAST
    )


def split(tree: Any, places: Sequence[int]) -> tuple[Any, list[Any]]:
    """Replaces the leaves at these indices by holes; returns the tree and the removed leaves."""
    if not places:
        return tree, []
    leaves, structure = jax.tree.flatten(tree)
    constants = [leaves[place] for place in places]
    for place in places:
        leaves[place] = _Hole()
    return jax.tree.unflatten(structure, leaves), constants


def holes(tree: Any) -> tuple[int, ...]:
    """Returns the leaf indices of the holes in a tree."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, _Hole))
    return tuple(place for place, leaf in enumerate(leaves) if isinstance(leaf, _Hole))


def filled(tree: Any, constants: Sequence[Any]) -> Any:
    """Returns the tree with its holes filled by these arrays, in order."""
    if not constants:
        return tree
    given = iter(constants)
    leaves, structure = jax.tree.flatten(tree, is_leaf=lambda node: isinstance(node, _Hole))
    leaves = [next(given) if isinstance(leaf, _Hole) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, leaves)
