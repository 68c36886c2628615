"""Recurrent layers: gates control what a state, carried from step to step, retains.

The state does not change at padding of a `Masked` sequence.

The product of the inputs and the weights is computed before the loop over time, for all time steps
at once; the loop computes one product of the state for all gates. Both products are parts, `input`
and `hidden`, of kind `linear`, so that transforms of linear layers apply to them as well.

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

# sigmoid(_SATURATED) is 1 and sigmoid(-_SATURATED) is 0, in every dtype.
_SATURATED = 1e4


def gru(features: int, *, reverse: bool = False) -> Network:
    """Returns a layer of gated recurrent units: `[batch, time, n] -> [batch, time, features]`.

    With `x` the raw outputs of the part `input` and `h` those of the part `hidden`, each split into
    the reset gate, the update gate and the candidate:

        reset, update = sigmoid(x_r + h_r), sigmoid(x_u + h_u)
        state = update * state + (1 - update) * tanh(x_c + reset * h_c)

    The initial state is zeros; the output of each time step is the new state.

    Args:
      features: the number of units.
      reverse: whether to run from the last time step to the first. Outputs stay in input order.

    Raises:
      InvalidValue: if `features` is not positive; at trace time, if the inputs are not
        `[batch, time, n]` or do not fit the weights.

    Source: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014, eq.
    (5) to (8), https://arxiv.org/abs/1406.1078. Unlike in the paper, the reset gate multiplies the
    product with the weights, not the state, as in cuDNN.
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
    """Returns a layer of long short-term memory: `[batch, time, n] -> [batch, time, features]`.

    With `z` the sum of the raw outputs of the parts `input` (of the inputs) and `hidden` (of the
    previous outputs), split in the order input, forget, cell, output:

        cell = sigmoid(z_forget) * cell + sigmoid(z_input) * tanh(z_cell)
        outputs = sigmoid(z_output) * tanh(cell)

    The initial cell and outputs are zeros.

    Args:
      features: the number of units.
      reverse: whether to run from the last time step to the first. Outputs stay in input order.
      forget_bias: the initial bias of the forget gates; 1 makes cells remember at first, 0 is
        Flax's default. May be traced.

    Raises:
      InvalidValue: as in `gru`, and if `forget_bias` is not finite.

    Source: Gers et al., Learning to Forget, Neural Computation 2000; Jozefowicz et al., An
    Empirical Exploration of Recurrent Network Architectures, ICML 2015, for the bias.
    """
    positive_integer("lstm", "features", features)
    number("lstm", "forget_bias", forget_bias)

    def step(carry, before, hidden):
        _, cell = carry
        z_input, z_forget, z_cell, z_output = jnp.split(before + hidden, 4, -1)
        cell = jax.nn.sigmoid(z_forget) * cell + jax.nn.sigmoid(z_input) * jnp.tanh(z_cell)
        return jax.nn.sigmoid(z_output) * jnp.tanh(cell), cell

    entrance = linear(4 * features)

    def init(key, inputs):
        params, state = entrance.init(key, inputs)
        is_forget = jnp.repeat(jnp.arange(4) == 1, features)
        return params | {"bias": jnp.where(is_forget, forget_bias, params["bias"])}, state

    def hold(before, exists):
        # Saturated gates leave the cell exactly unchanged at padding. Selecting between the old and
        # the new cell instead would take a tenth of the time of the loop.
        gate = jnp.repeat(jnp.array([-_SATURATED, _SATURATED, 0.0, 0.0], before.dtype), features)
        return before + jnp.where(exists, jnp.zeros((), before.dtype), gate[None, None])

    return _over_time("lstm", features, reverse, step, 4, 2, entrance._replace(init=init), hold)


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
    """Runs `step(carry, before, hidden) -> carry` over time; the first array of a carry is output.

    `before` are the raw outputs of the part `input` at a time step, `hidden` those of the part
    `hidden` for the previous outputs. Steps compute in float32 or wider; outputs have the dtype of
    `before`. `hold(before, exists) -> before` changes `before` at padding so that the step leaves
    the rest of the carry unchanged; without it, the old carry is selected there.
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
        # Transposing before the product is cheaper: the inputs are smaller than its outputs.
        x = sequences.swapaxes(0, 1)
        before, after = apply_part("input", entrance, params, state, x, key)
        dtype, wide = before.dtype, at_least_float32(before.dtype)

        def advance(carry, now):
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
        _, outputs = lax.scan(advance, zeros, (before, exists, begins), reverse=reverse)
        # The part `hidden` is applied at every time step; its state, if any, is left unchanged.
        after = {"input": after, "hidden": state.get("hidden", {})}
        return put_back(inputs, outputs.swapaxes(0, 1)), without_empty(after)

    settings = (("features", features), *((("reverse", True),) if reverse else ()))
    return Network(init, apply, Parts(kind, settings, children, flow="layer"))


def _steps(inputs: Any, reverse: bool) -> tuple[Any, Any]:
    """Returns which steps are not padding, and which begin another sequence: `[time, batch, 1]`.

    Both are `None` if the inputs are not `Masked`, the second if each row holds one sequence.
    """
    if not isinstance(inputs, Masked):
        return None, None
    places = inputs.mask, inputs.begins(reverse=reverse)
    return jax.tree.map(lambda x: x.swapaxes(0, 1)[..., None], places)


def _recurrent(features: int, gates: int) -> Network:
    """Returns `linear` from the state to all gates, with orthogonal initial weights for each gate.

    Repeated products with orthogonal weights neither grow nor vanish.

    Source: Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks, ICLR 2014.
    """

    def init(key, inputs):
        draws = flat_draw(jax.random.normal, key, (gates, features, features))
        q, r = jnp.linalg.qr(draws)
        # The signs make the draw uniform over all orthogonal matrices, and independent of LAPACK.
        q = q * jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))[:, None, :]
        return {"weight": jnp.moveaxis(q, 0, 1).reshape(features, gates * features)}, {}

    return linear(gates * features, bias=False)._replace(init=init)
