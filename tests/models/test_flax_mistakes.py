"""Each mistake with a model of Flax is named with its fix."""

import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.models.flax import flax_parameters, from_flax, to_flax
from tests.flax_networks import CNN, IMAGES, KEY, ROWS


class Wide(nnx.Module):
    def __init__(self, width, depth=1, *, rngs):
        rates = [float(rate) for rate in jnp.linspace(0.0, 0.1, depth)]
        self.dropout = nnx.Dropout(rates[0], rngs=rngs)

    def __call__(self, x):
        return self.dropout(x)


class Pair(nnx.Module):
    def __init__(self, rngs):
        self.pair = nnx.Param({"a": 1.0, "b": 2.0})


PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
LINEAR = {"in_features": 2, "out_features": 3}


@pytest.mark.parametrize(
    "call, error, fix",
    [
        (lambda: from_flax(3), InvalidType, r"Got a int; .* Subclass flax\.nnx\.Module, or"),
        (lambda: from_flax(dict), InvalidType, r"Got dict; .*Subclass flax\.nnx\.Module"),
        (lambda: from_flax(lambda rngs: 3), InvalidType, r"Got a int; .*Subclass flax\.nnx"),
        (lambda: from_flax(nn.Dense), InvalidType, r"Write from_flax\(Dense\(\.\.\.\)\)"),
        (
            lambda: from_flax(nn.Dense(3), features=2),
            InvalidValue,
            r"features are given.*Build the Dense",
        ),
        (
            lambda: from_flax(Wide),
            InvalidType,
            r"argument: 'width'.* from_flax\(Wide, width=\.\.\.",
        ),
        (
            lambda: from_flax(Wide, width=1, wide=2),
            InvalidType,
            r"argument 'wide'.*\{width, wide\}",
        ),
        (
            lambda: from_flax(Wide, width=1, rngs=2),
            InvalidType,
            r"rngs come from the key of init",
        ),
        (lambda: from_flax(lambda: 3), InvalidType, r"unexpected keyword argument 'rngs'"),
        (
            lambda: from_flax(Wide, width=1),
            InvalidType,
            r"Pass an instance: from_flax\(Mod",
        ),
        (
            lambda: flax_parameters([1]),
            InvalidType,
            r"Got a list; .*the variables that Linen's init returns",
        ),
        (lambda: flax_parameters({"w": 1}), InvalidType, r"Got \{w\}; .*Pass the module"),
        (
            lambda: to_flax(nnx.Linear, {}, **LINEAR),
            InvalidType,
            r"params/bias is missing.* Pass the",
        ),
        (
            lambda: to_flax(nnx.Linear, [], **LINEAR),
            InvalidType,
            r"params is not in.*Pass the params",
        ),
        (
            lambda: to_flax(nnx.Linear, {**PARAMS, "z": {"y": KEY}}, **LINEAR),
            InvalidType,
            r"params/z/y is not in the model.* Pass the params of",
        ),
        (
            lambda: to_flax(nnx.Linear, {**PARAMS, "bias": jnp.ones(2)}, **LINEAR),
            InvalidValue,
            r"params/bias has a wrong shape.*shape \(2,\).*shape \(3,\)\. Pass the params",
        ),
        (
            lambda: from_flax(CNN, features=2).apply({}, {}, IMAGES),
            InvalidType,
            r"from_flax: params/blocks/0/conv/bias is missing",
        ),
        (
            lambda: from_flax(Pair),
            InvalidType,
            r"the variable pair holds 2 arrays.*Store each array in a variable",
        ),
    ],
)
def test_errors_say_the_fix(call, error, fix):
    with pytest.raises(error, match=fix):
        call()


def test_what_cannot_be_made_in_a_trace_can_be_given_made():
    network = from_flax(Wide(1, rngs=nnx.Rngs(0)))
    assert network.apply({}, {}, ROWS, key=KEY)[0].shape == ROWS.shape
