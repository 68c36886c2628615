"""A matrix with a change of low rank, which is computed beside it and not added to it.

    inputs @ LowRank(weight, down, up) = inputs @ weight + (inputs @ down) @ up

The sum of the two matrices is never computed, and neither is its gradient, which would cost a third
of a training step: only the thin matrices have gradients.

A layer that multiplies by its weight with `@`, and does nothing else to it, has the mark of
`multiplies_by_weight`, and is given a `LowRank` instead of an array. Every other part is given the
sum, so that it computes what it would with a changed weight.
"""

from dataclasses import dataclass

import jax

from jaxnn.calls import does_multiply_by_weight, does_pass_inputs
from jaxnn.typing import Any, Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowRank:
    """A matrix `[..., n, m]`, and the product of two thin ones that is added to it.

    Attributes:
      weight: `[..., n, m]`.
      down: `[..., n, rank]`.
      up: `[..., rank, m]`.
    """

    weight: Any
    down: Any
    up: Any

    __array_ufunc__ = None  # an array of NumPy, too, leaves the product to it

    def merged(self) -> Array:
        """Returns the sum, as one array."""
        return self.weight + (self.down @ self.up).astype(self.weight.dtype)

    def astype(self, dtype: Any) -> "LowRank":
        """Returns the three matrices in another dtype."""
        return jax.tree.map(lambda x: x.astype(dtype), self)

    def __rmatmul__(self, inputs: Any) -> Array:
        change = (inputs @ self.down) @ self.up
        outputs = inputs @ self.weight
        return outputs + change.astype(outputs.dtype)

    @property
    def T(self) -> "LowRank":
        """The transpose of the sum."""
        return LowRank(self.weight.T, self.up.T, self.down.T)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the sum."""
        return self.weight.shape

    @property
    def dtype(self) -> Any:
        """The dtype of the sum."""
        return self.weight.dtype


@dataclass(frozen=True)
class Beside:
    """The frame in which layers that multiply by their weight are given a `LowRank`."""

    def enter(self, name: str) -> "Beside":
        return self

    def __call__(self, part, proceed, params, state, inputs, key):
        if does_pass_inputs(part) or does_multiply_by_weight(part):
            return proceed(params, state, inputs, key)
        return proceed(merge_low_rank(params), state, inputs, key, within=None)


def merge_low_rank(tree: Any) -> Any:
    """Returns a tree with an array in place of each `LowRank`."""
    return jax.tree.map(
        lambda x: x.merged() if isinstance(x, LowRank) else x,
        tree,
        is_leaf=lambda x: isinstance(x, LowRank),
    )
