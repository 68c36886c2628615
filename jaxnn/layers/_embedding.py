"""Embeddings: a learned vector for each symbol, looked up by its index, or for each position.

>>> import jax, jax.numpy as jnp
>>> table = {"weight": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
>>> embedding(2, 2).apply(table, {}, jnp.array([[1, 0]]))[0].tolist()
[[[3.0, 4.0], [1.0, 2.0]]]
"""

import math

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidType, InvalidValue, positive, positive_integer
from jaxnn.layers._linear import check_sequences, flat_draw
from jaxnn.layers._memory import memory_length
from jaxnn.masked import Masked, per_place, put_back, values_of
from jaxnn.network import Network, Parts, describe, stateless
from jaxnn.typing import Number


def embedding(symbols: int, features: int, *, scale: Number = 1.0) -> Network:
    """Returns an embedding layer, which maps integers below `symbols` to rows of a learned table.

    Shapes are `[...] -> [..., features]`. Rows are initialised from a normal distribution with
    standard deviation `scale / sqrt(features)`, as in Flax. Out-of-range integers are clipped to
    the nearest row, since a compiled program cannot raise.

    Args:
      symbols: the number of rows.
      features: the length of a row.
      scale: multiplies the initial rows; may be traced.

    Raises:
      InvalidValue: if an argument is not positive.
      InvalidType: at trace time, if the inputs are not integers.
    """
    positive_integer("embedding", "symbols", symbols)
    positive_integer("embedding", "features", features)
    positive("embedding", "scale", scale)

    def init(key, inputs):
        rows = flat_draw(jax.random.normal, key, (symbols, features))
        return {"weight": rows * (scale / math.sqrt(features))}

    def apply(params, inputs):
        if not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise InvalidType(
                "embedding",
                "the inputs are not integers",
                got=f"inputs of dtype {inputs.dtype} and shape {inputs.shape}",
                expected="an integer dtype: each integer selects a row",
                fix="Use linear(features) for real-valued inputs, or convert with"
                " .astype(np.int32)",
            )
        # The TPU compiler aborts on narrower integers when the table is sharded over devices.
        rows = inputs if inputs.dtype.itemsize >= 4 else inputs.astype(jnp.int32)
        return jnp.take(params["weight"], rows, axis=0, mode="clip")

    layer = per_place(stateless(apply, init))
    return describe(layer, "embedding", symbols=symbols, features=features)


def positions(length: int, *, scale: Number = 1.0) -> Network:
    """Returns a layer that adds a learned embedding to each position: `[batch, time, features]`.

    Padding of `Masked` sequences is not counted: the first token of each uses the first row. Rows
    are initialised as in `embedding`.

    Args:
      length: the maximum length of a sequence.
      scale: multiplies the initial rows; may be traced.

    Raises:
      InvalidValue: if an argument is not positive; at trace time, if a sequence is longer than
        `length`.

    Source: Vaswani et al., Attention Is All You Need, NIPS 2017, section 3.5 (learned).
    """
    positive_integer("positions", "length", length)
    positive("positions", "scale", scale)

    def init(key, inputs):
        batch, features = values_of(inputs).shape[0], values_of(inputs).shape[-1]
        rows = flat_draw(jax.random.normal, key, (length, features))
        # When sequences are read in chunks: the position of the next chunk of each sequence.
        state = {"position": jnp.zeros(batch, jnp.int32)} if _reads_chunks(length) else {}
        return {"weight": rows * (scale / math.sqrt(features))}, state

    def apply(params, state, inputs, *, key=None):
        x = values_of(inputs)
        check_sequences("positions", x)
        time = x.shape[1]
        if time > length:
            raise InvalidValue(
                "positions",
                "the sequence is too long",
                got=f"inputs of shape {x.shape} for {length} positions",
                expected=f"[batch, time, features] with time of at most {length}",
                fix=f"Shorten the sequences, or use positions({time})",
            )
        if key is None and _reads_chunks(length):
            before, count, within = state["position"], time, jnp.arange(time, dtype=jnp.int32)[None]
            if isinstance(inputs, Masked):
                within, count = inputs.places(), inputs.mask.sum(1, dtype=jnp.int32)
            rows = jnp.take(params["weight"], before[:, None] + within, axis=0, mode="clip")
            after = {"position": before + count}
            return put_back(inputs, x + rows.astype(x.dtype)), after
        if isinstance(inputs, Masked):
            rows = jnp.take(params["weight"], inputs.places(), axis=0, mode="clip")
        else:
            rows = params["weight"][None, :time]
        return put_back(inputs, x + rows.astype(x.dtype)), state

    return Network(init, apply, Parts("positions", (("length", length),)))


def _reads_chunks(length: int) -> bool:
    """Returns whether sequences are read in chunks; raises if there are too few positions."""
    tokens = memory_length()
    if tokens is not None and tokens > length:
        raise InvalidValue(
            "positions",
            "there are fewer positions than tokens to read",
            got=f"{tokens} tokens to read and {length} positions",
            expected=f"at most {length} tokens",
            fix=f"Pass context={length} to continue from the last tokens, or ask for fewer tokens",
        )
    return tokens is not None
