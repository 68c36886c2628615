"""The picture of a node: its numbers are those of the node, and they add up."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue
from jaxnn.pictures._neuron import neuron, terms
from jaxnn.pictures.scheme import MARK, SIGNED, WIDTH
from tests.figures import by_gid, legible, same, texts
from tests.mistakes import judge

WEIGHTS, INPUTS, BIAS = [0.5, -0.25, 0.75], [1.5, 2.0, -1.0], 0.5


def many(count=64, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=count), random.normal(size=count)


def test_what_is_written_is_what_the_node_computes():
    figure = neuron(WEIGHTS, BIAS, INPUTS, jnp.tanh)
    assert figure.get_figwidth() == WIDTH
    legible(figure)
    seen = texts(figure)
    # 0.75 - 0.5 - 0.75 = -0.5, and with the bias 0.
    assert {"1.5", "2", "−1", "0.5", "−0.25", "0.75", "bias 0.5", "x1", "x2", "x3", "tanh"} <= {
        *seen
    }
    assert "0.5 × 1.5 − 0.25 × 2 + 0.75 × (−1) = −0.5".replace(" ", "") in [
        re.sub(r"\s", "", text) for text in seen
    ]
    assert "−0.5 + 0.5 = 0" in seen and "tanh(0) = 0" in seen
    same(figure, "neuron")


def test_it_agrees_with_a_layer():
    layer = jaxnn.serial(("a", jaxnn.linear(4)), jaxnn.activation(jax.nn.sigmoid))
    inputs = np.array([[0.3, -1.2, 2.0]], np.float32)
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(3, 4)), random.normal(size=4)
    params = {"a": {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}}
    expected = float(jax.jit(layer.apply)(params, {}, inputs)[0][0, 2])
    weights, bias = weight[:, 2], bias[2]
    seen = texts(neuron(weights, bias, inputs[0], jax.nn.sigmoid, names=["a", "b", "c"]))
    assert "sigmoid" in seen and {"a", "b", "c"} <= set(seen)
    (line,) = [text for text in seen if text.startswith("sigmoid(")]
    assert float(line.split()[-1]) == pytest.approx(expected, abs=0.005)


def test_wires_and_the_point_are_where_they_belong():
    figure = neuron(WEIGHTS, BIAS, INPUTS, jnp.tanh)
    wires = by_gid(figure, "wire:")
    assert [wire.get_linewidth() for wire in wires.values()] == pytest.approx(
        [0.2 + 2.2 * abs(weight) / 0.75 for weight in WEIGHTS], abs=1e-3
    )
    assert [wire.get_color() for wire in wires.values()] == [SIGNED[2], SIGNED[0], SIGNED[2]]
    assert by_gid(figure, "bias")["bias"].get_color() == SIGNED[2]
    # The raw output is 0, which tanh leaves: the point is in the middle of the curve.
    curve, point = by_gid(figure, "curve")["curve"], by_gid(figure, "point")["point"]
    np.testing.assert_allclose(point.get_xydata()[0], curve.get_xydata()[100], atol=1e-4)


def test_of_many_inputs_the_strongest_are_drawn_and_all_add_up():
    weights, inputs = many()
    wires = terms(weights, inputs)
    products = weights * inputs
    strongest = set(np.argsort(-np.abs(products))[:6].tolist())
    assert {int(term.name[1:]) - 1 for term in wires[:-1]} == strongest
    assert wires[-1].name == "58 more"
    assert sum(term.product for term in wires) == pytest.approx(products.sum())
    figure = neuron(weights, -0.125, inputs, jax.nn.relu)
    legible(figure)
    seen = texts(figure)
    assert len(by_gid(figure, "input:")) == 6 and len(by_gid(figure, "wire:")) == 7
    rest = products.sum() - sum(term.product for term in wires[:-1])
    (said,) = [text for text in seen if text.startswith("58 more")]
    assert float(said.split()[-1].replace("−", "-")) == pytest.approx(rest, rel=0.01)
    # The numbers of the sum, read from the picture, give its result.
    start, end = seen.index("sum"), len(seen) - 1 - seen[::-1].index("sum + bias")
    line = re.sub(r"\s", "", "".join(seen[start + 1 : end]))
    left, result = re.split("[≈=]", line.replace("(58more)", "").replace("−", "-"))
    assert eval(left.replace("×", "*")) == pytest.approx(float(result), abs=0.05)
    assert float(result) == pytest.approx(products.sum(), abs=0.005)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 784])
def test_any_number_of_inputs_is_legible(count):
    legible(neuron(*[many(count)[0], 0.1, many(count)[1]], jnp.tanh))


def test_what_is_rounded_is_not_said_to_be_equal():
    seen = texts(neuron([1.0], 0.0, [6.0], jnp.tanh))
    assert "tanh(6) ≈ 1" in seen
    assert "relu(6) = 6" in texts(neuron([1.0], 0.0, [6.0], jax.nn.relu))
    assert "activation" in texts(neuron([1.0], 0.0, [6.0], lambda x: x))


def test_what_is_not_finite_is_drawn_as_such():
    weights, inputs = many()
    weights[40] = np.nan
    figure = neuron(weights, 0.0, inputs, jnp.tanh)
    legible(figure)
    assert "x41" in texts(figure) and "tanh(nan) = nan" in texts(figure)
    wire = [wire for wire in by_gid(figure, "wire:").values() if wire.get_color() == MARK]
    assert len(wire) == 1 and not by_gid(figure, "point")


V, T = InvalidValue, InvalidType
CASES = {
    "a layer": (
        lambda: neuron(np.ones((3, 2)), 0.0, INPUTS, jnp.tanh),
        V, r"neuron: the shape of weights .* Got weights of shape \(3, 2\)",
        r"weight\[:, j\] and bias\[j\] of node j, and one example",
    ),
    "other inputs": (
        lambda: neuron(WEIGHTS, 0.0, [1.0], jnp.tanh),
        V, r"Got weights of shape \(3,\) and inputs of shape \(1,\)", r"as its layer sees it",
    ),
    "other names": (
        lambda: neuron(WEIGHTS, 0.0, INPUTS, jnp.tanh, names=["a"]),
        V, r"Got 1 names for 3 inputs", r"or leave names out",
    ),
    "biases": (
        lambda: neuron(WEIGHTS, [1.0, 2.0], INPUTS, jnp.tanh),
        V, r"and bias of shape \(2,\)", r"bias\[j\] of node j",
    ),
    "no activation": (
        lambda: neuron(WEIGHTS, 0.0, INPUTS, None),
        T, r"activation has the wrong type. Got a NoneType", r"or lambda x: x for none",
    ),
    "no activation of numbers": (
        lambda: neuron(WEIGHTS, 0.0, INPUTS, lambda x: np.ones(3)),
        V, r"Got outputs of shape \(3,\)", r"Pass a function such as jax\.nn\.relu",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
