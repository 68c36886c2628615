"""A matrix plus a low-rank product, multiplied without computing the sum.

    inputs @ LowRank(weight, down, up) = inputs @ weight + (inputs @ down) @ up

Neither the sum of the two matrices nor its gradient, which would cost a third of a training step,
is computed: only the thin matrices have gradients.

A layer that is marked by `multiplies_by_weight`, since it uses its weight for `@` only, receives a
`LowRank` instead of an array. All other parts receive the sum.
"""

from dataclasses import dataclass

import jax

from jaxnn.calls import does_multiply_by_weight, does_pass_inputs
from jaxnn.typing import Any, Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowRank:
    """The sum of a matrix `[..., n, m]` and the product of two thin matrices.

    Attributes:
      weight: `[..., n, m]`.
      down: `[..., n, rank]`.
      up: `[..., rank, m]`.
    """

    weight: Any
    down: Any
    up: Any

    __array_ufunc__ = None  # NumPy arrays defer to `__rmatmul__`

    def merged(self) -> Array:
        """Returns the sum, as one array."""
        change = (self.down @ self.up).astype(self.weight.dtype)
        # A weight with several input or output axes is adapted as one matrix.
        return self.weight + change.reshape(self.weight.shape)

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
    """The frame in which layers marked by `multiplies_by_weight` receive a `LowRank`."""

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
