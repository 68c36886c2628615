"""Each mistake in a start from another network is named before anything compiles."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.transforms._warm_start import resize, warm_start
from tests.mistakes import INPUTS, NARROW, judge
from tests.registry import real
from tests.sources import KEY, NETWORK, PARAMS, WIDER, normalized, source

pytestmark = pytest.mark.slow


def start(params=PARAMS, rules=(), network=NETWORK, inputs=INPUTS, **settings):
    return warm_start(network, params, inputs, rules, **settings)


def without(params, path):
    layer, leaf = path.split("/")
    return {**params, layer: {n: x for n, x in params[layer].items() if n != leaf}}


def other_inputs():
    learner = jaxnn.learner(start().network, jaxnn.classification(), optax.sgd(0.1))
    jaxnn.train(learner, NARROW, steps=1, key=KEY)


ONES = np.ones((4, 8), np.float32)
POPULATION = jax.tree.map(lambda x: np.stack([x, x]), PARAMS)
DOUBLE = jax.tree.map(lambda x: x.astype(np.float64), PARAMS)
V, T = InvalidValue, InvalidType
CASES = {
    "another shape": (
        lambda: start(WIDER), V,
        "warm_start: the source of output/bias has the wrong shape. Got 'output/bias' of shape"
        " (5,); expected shape (3,). Begin the rules with 'output/bias': None to initialise it, or"
        " convert it with a function (array, shape) -> array, such as resize(0) for positions.",
    ),
    "another shape, renamed": (
        lambda: start({"head": PARAMS["hidden_1"]}, {"output": "head"}), V,
        "warm_start: the source of output/bias has the wrong shape. Got 'head/bias' of shape (8,);"
        " expected shape (3,). Begin the rules with 'output/bias': None to initialise it, or"
        " convert it with a function (array, shape) -> array, such as resize(0) for positions.",
    ),
    "a population": (
        lambda: start(POPULATION), V,
        "warm_start: the source of hidden_1/bias has the wrong shape. Got 'hidden_1/bias' of shape"
        " (2, 8); expected shape (8,). Pass one member of the population: jax.tree.map(lambda x:"
        " x[0], params).",
    ),
    "another dtype": (
        lambda: start(DOUBLE), T,
        "warm_start: the source of hidden_1/bias has the wrong dtype. Got 'hidden_1/bias' of dtype"
        " float64; expected dtype float32. Begin the rules with 'hidden_1/bias': lambda array,"
        " shape: array.astype('float32') to convert it.",
    ),
    "another dtype, renamed": (
        lambda: start({"old": DOUBLE["output"]}, {"output": "old"}), T,
        "warm_start: the source of output/bias has the wrong dtype. Got 'old/bias' of dtype"
        " float64; expected dtype float32. Begin the rules with 'output/bias': ('old/bias', lambda"
        " array, shape: array.astype('float32')) to convert it.",
    ),
    "no array": (
        lambda: start({"output": {"bias": "zeros"}}), V,
        "warm_start: the source of output/bias has the wrong shape. Got 'output/bias' of shape ();"
        " expected shape (3,). Begin the rules with 'output/bias': None to initialise it, or"
        " convert it with a function (array, shape) -> array, such as resize(0) for positions.",
    ),
    "a function that makes another shape": (
        lambda: start(PARAMS, {"*weight": lambda array, shape: array.T}), V,
        "warm_start: the result of the rule '*weight' for hidden_1/weight has the wrong shape. Got"
        " 'hidden_1/weight' of shape (8, 4); expected shape (4, 8). Return an array of that shape"
        " from the function.",
    ),
    "a function that makes another dtype": (
        lambda: start(PARAMS, {"output/bias": lambda array, shape: array.astype(jnp.int32)}), T,
        "warm_start: the result of the rule 'output/bias' for output/bias has the wrong dtype. Got"
        " 'output/bias' of dtype int32; expected dtype float32. Return an array of that dtype from"
        " the function.",
    ),
    "a function that makes no array": (
        lambda: start(PARAMS, {"output/bias": lambda array, shape: (array, shape)}), T,
        "warm_start: the result of the rule 'output/bias' for output/bias is not one array. Got a"
        " tuple; expected an array of shape (3,). Return the array alone from the function.",
    ),
    "resized along features": (
        lambda: start({"hidden_1": {"weight": ONES[:2, :6]}}, {"hidden_1/weight": resize(0)}), V,
        "resize: the shapes differ along other axes than the resized ones. Got an array of shape"
        " (2, 6) for shape (4, 8); expected lengths that differ only along the axes (0,). Pass"
        " all axes that differ, as in resize(0, 1), or initialise the leaf: None.",
    ),
    "a source that is not there": (
        lambda: start(without(PARAMS, "output/bias"), {"output": "output"}), V,
        "warm_start: the source has no leaf for output/bias by the rule 'output'. Got"
        " 'output/bias'; expected one of hidden_1/bias, hidden_1/weight, output/weight. Did you"
        " mean 'output'? Or put 'output/bias': None before that rule, to initialise it.",
    ),
    "a source that is nowhere near": (
        lambda: start(PARAMS, {"output/bias": "zzz"}), V,
        "warm_start: the source has no leaf for output/bias by the rule 'output/bias'. Got 'zzz';"
        " expected one of hidden_1/bias, hidden_1/weight, output/bias, output/weight. Put"
        " 'output/bias': None before that rule, to initialise it.",
    ),
    "a rule that says nothing": (
        lambda: start(PARAMS, {"output": 3}), T,
        "warm_start: a rule has the wrong type. Got 'output': 3; expected the name of a leaf of"
        " the source, None, a function (array, shape) -> array, or a pair (name, function). Write"
        " 'output': None to initialise.",
    ),
    "a pair of the wrong kinds": (
        lambda: start(PARAMS, {"output": ("output", "head")}), T,
        "warm_start: a rule has the wrong type. Got 'output': ('output', 'head'); expected the"
        " name of a leaf of the source, None, a function (array, shape) -> array, or a pair (name,"
        " function). Write 'output': None to initialise.",
    ),
    "a rule that matches nothing": (
        lambda: start(PARAMS, {"ouput": None}), V,
        "warm_start: a rule matches no name. Got 'ouput'; expected a pattern for some of"
        " hidden_1/bias, hidden_1/weight, output/bias, output/weight. Did you mean 'output'?",
    ),
    "a rule that is never used": (
        lambda: start(PARAMS, {"*": "*", "output": None}), V,
        "warm_start: a rule is never used, since earlier rules match all of its names. Got"
        " 'output' after '*'; expected rules from the special to the general: the first match"
        " wins. Leave 'output' out, or put it before '*'.",
    ),
    "different numbers of stars": (
        lambda: start(PARAMS, {"output": "layers/*"}), V,
        "warm_start: the two sides of a rule have different numbers of *. Got 'output':"
        " 'layers/*'; expected 0 * on the right, or none. Write as many * on the right as on the"
        " left: 'body/*': 'layers/*'.",
    ),
    "nothing taken": (
        lambda: start({"layers": [PARAMS["output"]]}), V,
        "warm_start: no array of the source is used. Got a source with layers/0/bias,"
        " layers/0/weight; expected some of hidden_1/bias, hidden_1/weight, output/bias,"
        " output/weight. Map the names in rules: {'hidden_1': 'layers/first'}.",
    ),
    "statistics forgotten": (
        lambda: start(source(normalized())[0], network=normalized()), V,
        "warm_start: the network has a state, but no state of the source is given. Got no state"
        " for first/norm/mean, first/norm/var; expected the state that belongs to the parameters."
        " Pass state=run.state.state, or state={} to initialise it.",
    ),
    "a function of hyper-parameters": (
        lambda: start(network=lambda h: NETWORK), T,
        "warm_start: network has the wrong type. Got a function; expected a Network. Pass"
        " mlp([64], 10), from_flax(model), or what a function of hyper-parameters returns.",
    ),
    "other inputs": (
        other_inputs, V,
        "warm_start: the network is initialised with inputs that differ from the example. Got"
        " hidden_1/weight of shape (3, 8) and dtype float32; expected shape (4, 8) and dtype"
        " float32. Pass an example of the data as inputs of warm_start.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    bad, kind, text = CASES[name]
    judge((bad, kind, f"^{re.escape(text)}$", ""), compilations)


def test_a_good_call_compiles_nothing(compilations):
    network, inputs = jaxnn.mlp([17], 3), real(2, 19)  # of sizes that no other test compiles for
    params, _ = source(network, inputs)
    shorter = jax.tree.map(lambda x: x[:2], params)
    compilations.clear()
    warm_start(network, params, inputs, {"*weight": lambda array, shape: array + 1})
    warm_start(network, shorter, inputs, {"hidden_1/bias": resize(0), "*": None})
    assert not compilations
