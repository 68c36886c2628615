"""Comparing trees of arrays: bit for bit, or but for rounding."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np


def numbers(tree: Any) -> Any:
    """Returns the tree as NumPy arrays, keys as the numbers they are made of."""
    return jax.tree.map(
        lambda x: np.asarray(
            jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        ),
        tree,
    )


def assert_same_bits(left: Any, right: Any) -> None:
    """Asserts that two trees agree in structure, shapes, dtypes and every bit."""
    left, right = numbers(left), numbers(right)
    chex.assert_trees_all_equal_shapes_and_dtypes(left, right)
    chex.assert_trees_all_equal(*jax.tree.map(_bits, (left, right)))  # -0.0 is not 0.0


def assert_close(left: Any, right: Any, tolerance: float = 1e-5) -> None:
    """Asserts that two trees agree in structure and shapes, and but for rounding in numbers."""
    left, right = numbers(left), numbers(right)
    chex.assert_trees_all_equal_shapes(left, right)
    chex.assert_trees_all_close(left, right, rtol=tolerance, atol=tolerance)


def _bits(x: np.ndarray) -> np.ndarray:
    return np.frombuffer(x.tobytes(), np.uint8)
