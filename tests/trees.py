"""Comparing trees of arrays: by their form, bit for bit, or but for rounding."""

from typing import Any

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


def forms(tree: Any) -> Any:
    """Returns the structure of a tree, with the shape and dtype of each leaf."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): (x.shape, str(x.dtype)) for path, x in leaves}


def assert_same_bits(left: Any, right: Any) -> None:
    """Asserts that two trees agree in structure, shapes, dtypes and every bit."""
    left, right = numbers(left), numbers(right)
    assert forms(left) == forms(right)
    for (path, a), b in zip(jax.tree.leaves_with_path(left), jax.tree.leaves(right)):
        assert a.tobytes() == b.tobytes(), f"{jax.tree_util.keystr(path)}: {a} and {b}"


def assert_close(left: Any, right: Any, tolerance: float = 1e-5) -> None:
    """Asserts that two trees agree in structure and shapes, and but for rounding in numbers."""
    left, right = numbers(left), numbers(right)
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for (path, a), b in zip(jax.tree.leaves_with_path(left), jax.tree.leaves(right)):
        assert a.shape == b.shape, jax.tree_util.keystr(path)
        a, b = a.astype(np.float64), b.astype(np.float64)
        np.testing.assert_allclose(a, b, tolerance, tolerance, err_msg=jax.tree_util.keystr(path))
