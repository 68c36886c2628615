"""Recurrent layers and models against Flax, against their formulas, and as they begin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnn
from jaxnn import InvalidType, InvalidValue
from jaxnn.calls import intercept
from tests.mistakes import judge
from tests.registry import real, whole
from tests.trees import assert_close

SEQUENCES = real(3, 5, 2)
UNITS = 4
LAYERS = {"gru": (jaxnn.layers.gru, 3), "lstm": (jaxnn.layers.lstm, 4)}


def parameters(gates):
    return {
        "input": {
            "weight": jnp.array(real(2, gates * UNITS, seed=1)),
            "bias": jnp.array(real(gates * UNITS, seed=2)),
        },
        "hidden": {"weight": jnp.array(real(UNITS, gates * UNITS, seed=3))},
    }


def outputs_of(layer, params, inputs=SEQUENCES):
    return jax.jit(layer.apply)(params, {}, inputs)[0]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_formula(kind, params, inputs):
    """Runs unit by unit and step by step, in float64."""
    w, b, u = (np.float64(params[k][n]) for k, n in (
        ("input", "weight"), ("input", "bias"), ("hidden", "weight")
    ))  # fmt: skip
    result = np.zeros((*inputs.shape[:2], UNITS))
    for example, sequence in enumerate(inputs):
        state, cell = np.zeros(UNITS), np.zeros(UNITS)
        for time, x in enumerate(sequence):
            before, product = x @ w + b, state @ u
            new = np.zeros(UNITS)
            for unit in range(UNITS):
                gates = range(unit, len(b), UNITS)
                if kind == "gru":
                    reset, update = (sigmoid(before[k] + product[k]) for k in gates[:2])
                    fresh = np.tanh(before[gates[2]] + reset * product[gates[2]])
                    new[unit] = update * state[unit] + (1 - update) * fresh
                else:
                    entering, forget, fresh, leaving = (before[k] + product[k] for k in gates)
                    kept = sigmoid(forget) * cell[unit]
                    cell[unit] = kept + sigmoid(entering) * np.tanh(fresh)
                    new[unit] = sigmoid(leaving) * np.tanh(cell[unit])
            state = new
            result[example, time] = state
    return result


@pytest.mark.parametrize("kind", LAYERS)
def test_it_is_its_formula(kind):
    layer, gates = LAYERS[kind]
    params = parameters(gates)
    assert_close(outputs_of(layer(UNITS), params), by_formula(kind, params, SEQUENCES))
    backwards = by_formula(kind, params, SEQUENCES[:, ::-1])[:, ::-1]
    assert_close(outputs_of(layer(UNITS, reverse=True), params), backwards)


@pytest.mark.parametrize("reverse", [False, True])
def test_gru_is_that_of_flax(reverse):
    params = parameters(3)
    cell = nnx.GRUCell(2, UNITS, rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...] = params["input"]["weight"]
    cell.dense_i.bias[...] = params["input"]["bias"]
    cell.dense_h.kernel[...] = params["hidden"]["weight"]
    theirs = nnx.RNN(cell, reverse=reverse, keep_order=True, rngs=nnx.Rngs(0))
    wanted = theirs(jnp.array(SEQUENCES))
    assert_close(outputs_of(jaxnn.layers.gru(UNITS, reverse=reverse), params), wanted)


@pytest.mark.parametrize("reverse", [False, True])
def test_lstm_is_that_of_flax(reverse):
    params = parameters(4)
    cell = nnx.LSTMCell(2, UNITS, rngs=nnx.Rngs(0))
    for gate, name in enumerate(("i", "f", "g", "o")):
        part = slice(gate * UNITS, (gate + 1) * UNITS)
        getattr(cell, "if_" if name == "f" else f"i{name}").kernel[...] = params["input"]["weight"][
            :, part
        ]
        hidden = getattr(cell, f"h{name}")
        hidden.kernel[...] = params["hidden"]["weight"][:, part]
        hidden.bias[...] = params["input"]["bias"][part]
    theirs = nnx.RNN(cell, reverse=reverse, keep_order=True, rngs=nnx.Rngs(0))
    wanted = theirs(jnp.array(SEQUENCES))
    assert_close(outputs_of(jaxnn.layers.lstm(UNITS, reverse=reverse), params), wanted)


@pytest.mark.parametrize("kind", LAYERS)
def test_recurrent_weights_begin_orthogonal_for_each_gate(kind, key):
    layer, gates = LAYERS[kind]
    params, _ = jax.jit(lambda key: layer(6).init(key, SEQUENCES))(key)
    weight = params["hidden"]["weight"].reshape(6, gates, 6)
    products = np.einsum("igj,igk->gjk", weight, weight)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(6), products.shape), atol=1e-5)
    assert abs(np.einsum("ij,ij->", weight[:, 0], weight[:, 1])) < 5  # not the same one twice
    assert np.sign(weight).mean() < 0.5


def test_forget_gates_begin_open(key):
    @jax.jit
    def bias(forget_bias):
        layer = jaxnn.layers.lstm(2, forget_bias=forget_bias)
        return layer.init(key, SEQUENCES)[0]["input"]["bias"]

    assert bias(1.5).tolist() == [0, 0, 1.5, 1.5, 0, 0, 0, 0]
    plain = jaxnn.layers.lstm(2).init(key, SEQUENCES)[0]["input"]["bias"]
    assert plain.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_its_products_are_linear_parts_that_can_be_changed():
    seen = []

    def halved(path, part):
        if part.parts.kind != "linear":
            return part
        seen.append(path) if path not in seen else None
        half = jaxnn.stateless(lambda params, inputs: inputs * 0.5)
        return jaxnn.Network(part.init, jaxnn.serial(half, ("1", part)).apply, part.parts)

    def nested(params):
        return {name: {"1": tree} for name, tree in params.items()}

    params = parameters(3)
    changed = intercept(jaxnn.layers.gru(UNITS), halved)
    scaled = jax.tree.map(lambda x: x, params)
    for part in scaled.values():
        part["weight"] = part["weight"] * 0.5
    assert_close(outputs_of(changed, nested(params)), outputs_of(jaxnn.layers.gru(UNITS), scaled))
    assert seen == ["input", "hidden"]


def test_a_table_counts_every_time_step():
    made = jaxnn.table(jaxnn.rnn([4], 1), jax.ShapeDtypeStruct((2, 5, 3), np.float32))
    rows = {row.part: row.flops // 2 for row in made.rows}
    each = {"gru_1/input": 2 * 5 * 3 * 12, "gru_1/hidden": 2 * 5 * 4 * 12, "last": 0, "output": 8}
    assert rows == each and made.total.flops == 2 * sum(each.values())


def test_rnn_reads_the_last_time_step_or_every_one(key):
    """Two layers of a model are the layers one after the other."""
    inputs = real(3, 5, 2)
    every, last = (jaxnn.rnn([4, 3], 2, every_step=each) for each in (True, False))
    params, _ = jax.jit(every.init)(key, inputs)
    inside = outputs_of(jaxnn.layers.gru(4), params["gru_1"], inputs)
    inside = outputs_of(jaxnn.layers.gru(3), params["gru_2"], inside)
    wanted = inside @ params["output"]["weight"] + params["output"]["bias"][None, None]
    assert_close(outputs_of(every, params, inputs), wanted)
    assert_close(outputs_of(last, params, inputs), wanted[:, -1])
    assert sorted(jax.eval_shape(jaxnn.rnn([2], 1, cell="lstm").init, key, inputs)[0]) == [
        "lstm_1",
        "output",
    ]


V, T = InvalidValue, InvalidType
CASES = {
    "a cell of another name": (
        lambda: jaxnn.rnn([3], 1, cell="ltsm"),
        V, r"rnn: cell is unknown. Got cell='ltsm'",
        r"Did you mean 'lstm'\?",
    ),
    "no layers": (
        lambda: jaxnn.rnn([], 1), V, r"rnn: .* no recurrent layers. Got hidden=\[\]", r"\[64\]",
    ),
    "one number for the layers": (
        lambda: jaxnn.rnn(64, 1), T, r"rnn: hidden has the wrong type. Got a int", r"\[64\]",
    ),
    "no units": (lambda: jaxnn.layers.gru(0), V, r"gru: features .* features=0", r"features=1"),
    "no forgetting": (
        lambda: jaxnn.layers.lstm(2, forget_bias=np.nan),
        V, r"lstm: forget_bias is out of range",
        r"Pass, say, forget_bias=",
    ),
    "sequences of numbers": (
        lambda: jax.eval_shape(jaxnn.layers.lstm(2).init, jax.random.key(0), real(3, 5)),
        V, r"lstm: .* inputs of shape \(3, 5\)",
        r"Pass inputs\[\.\.\., None\]",
    ),
    "sequences of symbols": (
        lambda: jaxnn.layers.gru(UNITS).apply(parameters(3), {}, whole(3, 3, 5, 2)),
        T, r"gru: inputs are not floating-point numbers",
        r"standardize",
    ),
    "different numbers of features": (
        lambda: jax.eval_shape(jaxnn.layers.gru(UNITS).apply, parameters(3), {}, real(3, 5, 7)),
        V, r"inputs of shape \(5, 3, 7\)",
        r"Pass inputs with those features",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
