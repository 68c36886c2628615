"""Embedding: a row of parameters for every symbol, looked up by its number.

>>> import jax, jax.numpy as jnp
>>> table = {"weight": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
>>> embedding(2, 2).apply(table, {}, jnp.array([[1, 0]]))[0].tolist()
[[[3.0, 4.0], [1.0, 2.0]]]
"""

import math

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidType, positive_integer
from jaxnn.layers.linear import flat_draw
from jaxnn.network import Network, described, stateless


def embedding(symbols: int, features: int) -> Network:
    """Looks up `[...]` whole numbers below `symbols` as rows: `[...] -> [..., features]`.

    The rows start as normal draws of deviation `1 / sqrt(features)`, as in Flax. A number outside
    the table reads its nearest row: inside a compiled program it cannot raise.

    Raises:
      InvalidValue: if `symbols` or `features` is not positive.
      InvalidType: when traced, if the inputs are not integers.
    """
    positive_integer("embedding", "symbols", symbols)
    positive_integer("embedding", "features", features)

    def init(key, inputs):
        return {
            "weight": flat_draw(jax.random.normal, key, (symbols, features)) / math.sqrt(features)
        }

    def apply(params, inputs):
        if not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise InvalidType(
                "embedding",
                "inputs are not whole numbers",
                got=f"inputs of dtype {inputs.dtype} and shape {inputs.shape}",
                expected="an integer dtype: each number chooses a row",
                fix="Use linear(features) for real-valued inputs, or convert with"
                " .astype(np.int32)",
            )
        return jnp.take(params["weight"], inputs, axis=0, mode="clip")

    return described(stateless(apply, init), "embedding", symbols=symbols, features=features)
