"""The network for tables: what it computes by hand, and what it says of other inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn.checks import InvalidType, InvalidValue
from tests.registry import real, whole
from tests.trees import assert_close

INPUTS = {"numbers": real(6, 2), "categories": whole(4, 6, 2)}


def test_it_looks_rows_up_and_puts_them_beside_the_numbers(key):
    network = jaxnn.models.tabular([4, 5], [], 3, width=2)
    params, state = network.init(key, INPUTS)
    rows = np.asarray(params["columns"]["categories"]["embedding"]["weight"])
    assert rows.shape == (9, 2)
    numbers, codes = INPUTS["numbers"], INPUTS["categories"]
    side = np.concatenate([numbers, rows[codes[:, 0]], rows[4 + codes[:, 1]]], axis=1)
    output = params["layers"]["output"]
    expected = side @ np.asarray(output["weight"]) + np.asarray(output["bias"])
    assert_close(network.apply(params, state, INPUTS)[0], expected)


def test_what_was_never_seen_adds_nothing(key):
    network = jaxnn.models.tabular([4, 5], [8], 3)
    params, _ = network.init(key, INPUTS)
    rows = np.asarray(params["columns"]["categories"]["embedding"]["weight"])
    assert (rows[[3, 8]] == 0).all() and (np.delete(rows, [3, 8], axis=0) != 0).all()


def test_numbers_outside_a_column_stay_in_it(key):
    network = jaxnn.models.tabular([4, 5], [8], 3)
    params, state = network.init(key, INPUTS)
    outside = {**INPUTS, "categories": jnp.array([[9, -1]] * 6)}
    last = {**INPUTS, "categories": jnp.array([[3, 0]] * 6)}
    assert_close(network.apply(params, state, outside)[0], network.apply(params, state, last)[0])


def test_without_categories_it_is_an_mlp():
    assert repr(jaxnn.models.tabular([], [8], 3)) == repr(jaxnn.mlp([8], 3))


def test_it_says_what_it_reads(key):
    with pytest.raises(InvalidType, match="columns.encode"):
        jaxnn.models.tabular([4], [8], 3).init(key, real(4, 3))
    with pytest.raises(InvalidValue, match="a size is out of range"):
        jaxnn.models.tabular([0], [8], 3)


def test_the_table_of_it_counts_every_parameter(key):
    network = jaxnn.models.tabular([4, 5], [8], 3, dropout=0.1)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), INPUTS)
    total = jaxnn.table(network, shapes).total.parameters
    assert total == 9 * 8 + (2 + 16) * 8 + 8 + 8 * 3 + 3
