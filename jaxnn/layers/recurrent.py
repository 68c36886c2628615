"""Recurrent layers: a state is carried along time, and gates decide what it keeps.

A step at an empty place of a `Masked` sequence leaves the state as it is.

Everything that needs only the inputs is computed before the loop over time, as one matrix product
over all time steps; the loop holds one product for all gates. Both products are parts of their own,
`input` and `hidden`, each a `linear`, so that what changes `linear` layers changes these too.

>>> import jax, jax.numpy as jnp
>>> layer = gru(4)
>>> params, state = layer.init(jax.random.key(0), jnp.ones((2, 5, 3)))
>>> jax.tree.map(jnp.shape, params)
{'hidden': {'weight': (4, 12)}, 'input': {'bias': (12,), 'weight': (3, 12)}}
>>> layer.apply(params, state, jnp.ones((2, 5, 3)))[0].shape
(2, 5, 4)
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.calls import apply_part, init_part, passes_inputs
from jaxnn.checks import number, positive_integer
from jaxnn.layers._linear import at_least_float32, check_sequences, flat_draw, linear
from jaxnn.masked import Masked, put_back, values_of
from jaxnn.network import Network, Parts, collect, without_empty
from jaxnn.typing import Any, Callable, Number

# Its sigmoid is 1, and that of its negative 0, in every dtype.
_SHUT = 1e4


def gru(features: int, *, reverse: bool = False) -> Network:
    """Makes a layer of gated recurrent units: `[batch, time, n] -> [batch, time, features]`.

    With `x` the product of the inputs and `h` that of the state, for all gates side by side:

        reset, update = sigmoid(x_r + h_r), sigmoid(x_u + h_u)
        state = update * state + (1 - update) * tanh(x_c + reset * h_c)

    The state begins as zeros, and is the output of each time step.

    Args:
      features: the number of units.
      reverse: whether it runs from the last time step to the first; outputs keep their places.

    Raises:
      InvalidValue: if `features` is not positive, or, when traced, if the inputs are not
        `[batch, time, n]` or do not fit the weights.

    Source: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014, eq.
    (5) to (8), https://arxiv.org/abs/1406.1078; the reset gate acts after the product, as in cuDNN.
    """
    positive_integer("gru", "features", features)

    def step(carry, before, hidden):
        (state,) = carry
        h_gates, h_candidate = jnp.split(hidden, [2 * features], -1)
        x_gates, x_candidate = jnp.split(before, [2 * features], -1)
        reset, update = jnp.split(jax.nn.sigmoid(x_gates + h_gates), 2, -1)
        candidate = jnp.tanh(x_candidate + reset * h_candidate)
        return (candidate + update * (state - candidate),)

    return _over_time("gru", features, reverse, step, 3, 1, linear(3 * features))


def lstm(features: int, *, reverse: bool = False, forget_bias: Number = 1.0) -> Network:
    """Makes a layer of long short-term memory: `[batch, time, n] -> [batch, time, features]`.

    With `z` the sum of the products of the inputs and of the last outputs, for all gates:

        cell = sigmoid(z_forget) * cell + sigmoid(z_input) * tanh(z_cell)
        outputs = sigmoid(z_output) * tanh(cell)

    in `weight` in the order input, forget, cell, output. Cell and outputs begin as zeros.

    Args:
      features: the number of units.
      reverse: as in `gru`.
      forget_bias: the initial bias of the forget gates; 1 makes cells remember at first, 0 is the
        default of Flax. May be traced.

    Raises:
      InvalidValue: as `gru`.

    Source: Gers et al., Learning to Forget, Neural Computation 2000; Jozefowicz et al., An
    Empirical Exploration of Recurrent Network Architectures, ICML 2015, for the bias.
    """
    positive_integer("lstm", "features", features)
    number("lstm", "forget_bias", forget_bias)

    def step(carry, before, hidden):
        _, cell = carry
        entering, forget, fresh, leaving = jnp.split(before + hidden, 4, -1)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(entering) * jnp.tanh(fresh)
        return jax.nn.sigmoid(leaving) * jnp.tanh(cell), cell

    entrance = linear(4 * features)

    def init(key, inputs):
        params, state = entrance.init(key, inputs)
        is_forget = jnp.repeat(jnp.arange(4) == 1, features)
        return params | {"bias": jnp.where(is_forget, forget_bias, params["bias"])}, state

    def hold(before, exists):
        # Gates that are shut and open to the last bit: the cell does not change, and no select of
        # it is in the loop, where it takes a tenth of the time.
        gate = jnp.repeat(jnp.array([-_SHUT, _SHUT, 0.0, 0.0], before.dtype), features)
        return before + jnp.where(exists, jnp.zeros((), before.dtype), gate[None, None])

    entrance_init = entrance._replace(init=init)
    return _over_time("lstm", features, reverse, step, 4, 2, entrance_init, hold)


def _over_time(
    kind: str,
    features: int,
    reverse: bool,
    step: Callable[..., Any],
    gates: int,
    carried: int,
    entrance: Network,
    hold: Callable[[Any, Any], Any] | None = None,
) -> Network:
    """Runs `step(carry, before, hidden) -> carry` over time; the first of a carry is the output.

    `before` is what the entrance makes of the inputs, `hidden` what the hidden part makes of the
    last outputs. Steps compute in float32 at least; outputs have the dtype of `before`. With
    `hold(before, exists) -> before` the rest of a carry does not change at an empty place.
    """
    hidden = _recurrent(features, gates)
    children = (("input", entrance), ("hidden", hidden))

    def init(key, inputs):
        inputs = values_of(inputs)
        check_sequences(kind, inputs)
        last = jax.ShapeDtypeStruct((inputs.shape[0], features), jnp.float32)
        before = init_part("input", entrance, key, inputs)
        return collect({"input": before, "hidden": init_part("hidden", hidden, key, last)})

    @passes_inputs
    def apply(params, state, inputs, *, key=None):
        sequences = values_of(inputs)
        check_sequences(kind, sequences)
        # Time leads before the product, not after it: the inputs are fewer than the gates.
        x = sequences.swapaxes(0, 1)
        before, after = apply_part("input", entrance, params, state, x, key)
        dtype, wide = before.dtype, at_least_float32(before.dtype)

        def at(carry, now):
            before, exists, begins = now
            if begins is not None:
                carry = jax.tree.map(lambda x: jnp.where(begins, 0.0, x), carry)
            last = carry[0].astype(dtype)
            product, _ = apply_part("hidden", hidden, params, state, last, key)
            after = step(carry, before.astype(wide), product.astype(wide))
            if exists is not None:
                changes = len(carry) if hold is None else 1
                pairs = zip(after[:changes], carry[:changes])
                selected = (jnp.where(exists, new, old) for new, old in pairs)
                after = (*selected, *after[changes:])
            return after, after[0].astype(dtype)

        zeros = (jnp.zeros((sequences.shape[0], features), wide),) * carried
        exists, begins = _steps(inputs, reverse)
        if hold is not None and exists is not None:
            before = hold(before, exists)
        _, outputs = lax.scan(at, zeros, (before, exists, begins), reverse=reverse)
        # The hidden part runs many times in a step, and its state, if it has any, does not change.
        after = {"input": after, "hidden": state.get("hidden", {})}
        return put_back(inputs, outputs.swapaxes(0, 1)), without_empty(after)

    settings = (("features", features), *((("reverse", True),) if reverse else ()))
    return Network(init, apply, Parts(kind, settings, children, flow="layer"))


def _steps(inputs: Any, reverse: bool) -> tuple[Any, Any]:
    """Returns `[time, batch, 1]`: where there is a step, and where a sequence begins by another.

    `None` where each place is a step of the sequence of its row.
    """
    if not isinstance(inputs, Masked):
        return None, None
    places = inputs.mask, inputs.begins(reverse=reverse)
    return jax.tree.map(lambda x: x.swapaxes(0, 1)[..., None], places)


def _recurrent(features: int, gates: int) -> Network:
    """Returns `linear` from the state to all gates, which begins orthogonal for each of them.

    Source: Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks, ICLR 2014: repeated products then neither grow nor vanish.
    """

    def init(key, inputs):
        draws = flat_draw(jax.random.normal, key, (gates, features, features))
        q, r = jnp.linalg.qr(draws)
        # The signs make the draw uniform over all orthogonal matrices, and independent of LAPACK.
        q = q * jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))[:, None, :]
        return {"weight": jnp.moveaxis(q, 0, 1).reshape(features, gates * features)}, {}

    return linear(gates * features, bias=False)._replace(init=init)
