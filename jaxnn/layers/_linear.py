"""A linear layer of nodes, each of which computes a weighted sum of its inputs plus a bias.

One node computes `sum(weight * inputs) + bias`. A layer of nodes is one matrix product: column `j`
of `weight` holds the weights of node `j`. A textbook layer is `linear` followed by `activation`.

    >>> import jax, jax.numpy as jnp
    >>> layer = linear(2)
    >>> params, _ = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> jax.tree.map(jnp.shape, params)
    {'bias': (2,), 'weight': (3, 2)}
    >>> params = {"weight": jnp.array([[1.0, 0], [2, 0], [3, 1]]), "bias": jnp.array([10.0, 20])}
    >>> layer.apply(params, {}, jnp.ones((1, 3)))[0].tolist()
    [[16.0, 21.0]]
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

from jaxnn.calls import multiplies_by_weight
from jaxnn.checks import InvalidValue, floating, positive, positive_integer
from jaxnn.masked import per_place
from jaxnn.network import Network, describe, stateless
from jaxnn.typing import Any, Array, Callable, Float, Number

# The standard deviation of a standard normal distribution truncated at -2 and 2.
_TRUNCATED_NORMAL_STD = 0.87962566103423978


def linear(features: int, *, bias: bool = True, scale: Number = 1.0) -> Network:
    """Returns a linear layer: `outputs = inputs @ weight + bias`, `[..., n] -> [..., features]`.

    Args:
      features: the number of nodes.
      bias: whether each node adds a bias, initially 0.
      scale: multiplies the initial weights. 1 preserves the variance of the inputs (Flax's
        default); `sqrt(2)` compensates for a ReLU (He et al. 2015). May be traced.

    Raises:
      InvalidValue: if `features` or `scale` is not positive; at trace time, if the inputs have no
        axis of features, or a number of features that differs from the weights'.
    """
    positive_integer("linear", "features", features)
    positive("linear", "scale", scale)

    def init(key, inputs):
        _check_rank(inputs)
        params = {"weight": initial_weight(key, (inputs.shape[-1], features), scale)}
        return params | ({"bias": jnp.zeros(features, jnp.float32)} if bias else {})

    def apply(params, inputs):
        floating("linear", inputs)
        weight = params["weight"]
        _check_rank(inputs)
        check_features("linear", inputs, weight.shape[0])
        # On CPU, XLA computes a 3-D product up to twice as slowly as the same product in 2-D.
        raw = inputs.reshape(-1, weight.shape[0]) @ weight
        if bias:
            raw = raw + params["bias"][None]
        return raw.reshape(*inputs.shape[:-1], features)

    layer = describe(stateless(apply, init), "linear", features=features)
    return multiplies_by_weight(per_place(layer, features=True))


def initial_weight(key, shape: tuple[int, ...], scale: Number = 1.0) -> Float[Array, "..."]:
    """Draws weights `[..., n, features]` of variance `scale**2 / fan_in`, truncated at 2 sigma.

    The fan-in is the number of inputs of one node: the product of all axes but the last.

    Source: LeCun et al., Efficient BackProp, 1998, eq. (16).
    """
    std = 1.0 / (math.sqrt(math.prod(shape[:-1])) * _TRUNCATED_NORMAL_STD)
    draws = flat_draw(partial(jax.random.truncated_normal, lower=-2.0, upper=2.0), key, shape)
    return draws * (std * scale)


def flat_draw(draw: Callable[..., Any], key, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Draws float32 numbers of any shape, as a slice of a vector whose length is a power of two.

    Random bits dominate the compilation of the first step of a small network. Drawn as a vector,
    they compile three to four times faster (a convnet takes 0.5 s instead of 1.9 s; jax 0.10.2 on
    CPU), and the numbers are the same.
    """
    count = math.prod(shape)
    length = 1 << max(10, (count - 1).bit_length())
    return draw(key, shape=(length,), dtype=jnp.float32)[:count].reshape(shape)


def _check_rank(inputs) -> None:
    if inputs.ndim < 2:
        raise InvalidValue(
            "linear",
            "the inputs have no axis of features",
            got=f"inputs of shape {inputs.shape}",
            expected="[batch, ..., features]",
            fix="Pass inputs[:, None] where an example is a single number",
        )


def check_features(where: str, inputs, expected: int) -> None:
    """Raises `InvalidValue`, naming both shapes, unless the last axis has `expected` features."""
    if inputs.shape[-1] != expected:
        raise InvalidValue(
            where,
            "the inputs and the parameters have different numbers of features",
            got=f"inputs of shape {inputs.shape}",
            expected=f"shape (..., {expected}), as when the parameters were initialised",
            fix="Pass inputs with those features, or initialise the parameters again with init",
        )


def check_sequences(where: str, *inputs: Any) -> None:
    """Raises unless all inputs are floats `[batch, time, features]` with the same batch size.

    Raises:
      InvalidValue: if an input has another rank, or the batch sizes differ.
      InvalidType: if an input is not floating-point.
    """
    shapes: list[tuple[int, ...]] = [getattr(x, "shape", ()) for x in inputs]
    if any(len(shape) != 3 for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
        raise InvalidValue(
            where,
            "the inputs are not sequences",
            got="inputs of shape " + " and ".join(map(str, dict.fromkeys(shapes))),
            expected="[batch, time, features]" + ", with one batch" * (len(inputs) > 1),
            fix="Pass inputs[..., None] for sequences of single numbers, and put embedding(...)"
            " first for symbols",
        )
    for x in inputs:
        floating(where, x)


def at_least_float32(dtype: Any) -> Any:
    """Returns the dtype to accumulate in: float32 for narrower dtypes, otherwise `dtype`."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
