"""Half of the memory: parameters are kept in float32, and computing is done in bfloat16.

Every part of the network casts its parameters and its inputs. What a part computes in float32 for
itself, as norms do their statistics, stays so, and what follows casts it again; state keeps its own
dtypes; outputs, and with them losses and gradients, are float32.

XLA for CPU has no bfloat16 of its own, and widens what it has kept before it uses it: there neither
memory nor time is saved, but by float16 the memory (twelve blocks of layer norm, 128 to 512 nodes,
GELU and back on 2048 rows: 220 MiB in place of 370, and 210 in bfloat16 without that widening).

>>> import jax, jax.numpy as jnp
>>> from jaxnn.layers import linear
>>> layer = mixed_precision(linear(1))
>>> params = {"weight": jnp.full((2, 1), 1 + 2**-12), "bias": jnp.zeros(1)}
>>> layer.apply(params, {}, jnp.ones((1, 2)))[0]      # bfloat16 has 8 bits after the point
Array([[2.]], dtype=float32)

A part that is already in a precision keeps it, so that one of them may be an exception. It gets
what the part before it gives, unrounded: of raw inputs every digit, of others what bfloat16 left:

    mixed_precision(serial(body, ("head", mixed_precision(linear(10), jnp.float32))))

Those inside `attention`, `gru` and `lstm`, which compute between their parts, get rounded inputs.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxnn.checks import InvalidType, kind
from jaxnn.network import Network, around, lasting, rewrite
from jaxnn.typing import Any

# What has parts and computes for itself, between them.
_COMPUTING = ("attention", "gru", "lstm")


def mixed_precision(network: Network, compute: Any = jnp.bfloat16) -> Network:
    """Computes a network in another float dtype; parameters, state and outputs keep theirs.

    Integers and keys are left alone. With `jnp.float16`, whose smallest number is 6e-8, gradients
    vanish unless the loss is scaled.

    Args:
      network: any network; raw data are best standardized before it.
      compute: the dtype of parameters and activations while computing.

    Raises:
      InvalidType: if the network is of another kind, or `compute` is not a float dtype.

    Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.1,
    https://arxiv.org/abs/1710.03740.
    """
    kind(
        "mixed_precision", "network", network, Network, fix="Pass a network, such as mlp([64], 10)"
    )
    dtype = _float_dtype(compute)

    def narrow(path: str, part: Network) -> Network:
        if isinstance(part.apply, _Narrow) or part.parts.kind == "mixed_precision":
            return part
        if part.parts.kind == "repeat" and _has_exception(part):
            part = _in_one_dtype(part)
        return lasting(part, lambda part: part._replace(apply=_Narrow(part, dtype)))

    return _framed(rewrite(network, narrow), dtype)


def _framed(network: Network, dtype: Any) -> Network:
    """Makes float32 of what goes in and out of a network whose parts cast for themselves."""

    def init(key, inputs):
        return network.init(key, jax.eval_shape(lambda x: _cast(x, jnp.float32), inputs))

    def apply(params, state, inputs, *, key=None):
        outputs, after = network.apply(params, state, inputs, key=key)
        return _cast(outputs, jnp.float32), after

    return around(
        network, init, apply, "mixed_precision", lambda inner: _framed(inner, dtype), compute=dtype
    )


@dataclass(frozen=True)
class _Narrow:
    """The `apply` of a part in another precision."""

    part: Network
    dtype: Any

    def __call__(self, params, state, inputs, *, key=None):
        # A part with parts inside leaves the parameters to them: a transform may still sum some.
        params = params if self.part.parts.children else _cast(params, self.dtype)
        # An exception inside may be the first to see the inputs, and wants all of their digits.
        raw = _has_exception(self.part) and self.part.parts.kind not in _COMPUTING
        inputs = inputs if raw else _cast(inputs, self.dtype)
        return self.part.apply(params, state, inputs, key=key)


def _has_exception(part: Network) -> bool:
    """Returns whether a part inside is in a precision of its own."""
    inside = [child for _, child in part.parts.children]
    return any(each.parts.kind == "mixed_precision" or _has_exception(each) for each in inside)


def _in_one_dtype(loop: Network) -> Network:
    """Returns `repeat` of a layer whose outputs, whoever computes them, are as its inputs are."""
    (name, layer), *_ = loop.parts.children

    def fit(layer):
        def apply(params, state, inputs, *, key=None):
            outputs, after = layer.apply(params, state, inputs, key=key)
            if jax.tree.structure(outputs) == jax.tree.structure(inputs):
                outputs = jax.tree.map(_as_precise_as, inputs, outputs)
            return outputs, after

        return layer._replace(apply=apply)

    return loop.parts.rebuild((name, lasting(layer, fit))) if loop.parts.rebuild else loop


def _as_precise_as(like: Any, x: Any) -> Any:
    return _cast(x, like.dtype) if jnp.issubdtype(like.dtype, jnp.floating) else x


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def _float_dtype(compute: Any) -> Any:
    try:
        dtype = jnp.dtype(compute)
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise InvalidType(
            "mixed_precision",
            "compute is not a dtype of floats",
            got=f"compute={compute!r}",
            expected="jnp.bfloat16, jnp.float16 or jnp.float32",
            fix="Pass compute=jnp.bfloat16",
        )
    return dtype
