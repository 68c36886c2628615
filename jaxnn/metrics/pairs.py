"""Numbers as unevaluated sums of a high and a low part, with twice the digits of their dtype.

>>> import jax.numpy as jnp
>>> large, small = jnp.float32(2.0**24), jnp.float32(1.0)
>>> high, low = add((large, 0.0), (small, 0.0))
>>> float(large + small), float(high), float(low)
(16777216.0, 16777216.0, 1.0)

Source: Dekker, A Floating-Point Technique for Extending the Available Precision, 1971; the error of
one sum is Knuth's, The Art of Computer Programming, volume 2, section 4.2.2.
"""

from functools import reduce

import jax.numpy as jnp
from jax import lax

from jaxnn.typing import Any

Pair = tuple[Any, Any]


def add(left: Pair, right: Pair) -> Pair:
    """Returns the sum of two pairs; its gradient is that of a plain sum."""
    a, b = left[0], right[0]
    total = a + b
    part = total - a
    low = (a - (total - part)) + (b - part) + left[1] + right[1]
    # The low part of an infinite sum would be NaN.
    low = lax.stop_gradient(jnp.where(jnp.isfinite(total), low, 0))
    high = total + low
    return high, lax.stop_gradient(low - (high - total))


def multiply(pair: Pair, factor: Any) -> Pair:
    """Returns the product of a pair and a float32 number."""
    high, low = pair
    # The product of two numbers of at most 12 bits is exact, whether or not it is fused with a sum.
    parts = [(x * y, jnp.zeros_like(x * y)) for x in _halves(high) for y in _halves(factor)]
    return add(reduce(add, parts), (low * factor, jnp.zeros_like(low * factor)))


def _halves(x: Any) -> Pair:
    high = lax.reduce_precision(x, exponent_bits=8, mantissa_bits=11)
    return high, x - high
