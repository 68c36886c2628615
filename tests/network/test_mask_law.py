"""The law of masks over the registry: a padded sequence gives what it gives alone, or an error.

In `test_masked.py` are the networks that take masks, with gradients and sequences in a row. Here
each network of the registry meets a mask: none computes with empty places without a word.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn import Invalid, InvalidValue, Masked, layers
from jaxnn.masked import values_of
from tests.cases import held, real
from tests.network.test_masked import rubbish
from tests.registry import NETWORKS
from tests.trees import assert_close

SIDES = ("right", "left", "holes")

# Of the registry these take a mask; every other one refuses, in its own name.
TAKING = {
    "linear_of_time", "conv_1d", "conv_2d", "conv_3d", "conv_groups",
    "depthwise_conv", "depthwise_conv_1d",
    "max_pool", "avg_pool", "stochastic_depth", "gru", "gru_reverse", "lstm",
    "embedding", "rms_norm", "batch_norm_2d", "standardize_features", "attention",
    "attention_causal", "attention_cross", "positions", "gpt", "gpt_modern", "rnn",
    "rnn_every_step", "activation", "dropout", "standardize",
}  # fmt: skip


def places(count, time, side):
    """Returns which places there are, `[count, time]`: all of one row, two fewer of the others."""
    mask = np.zeros((count, time), bool)
    draws = np.random.default_rng(7)
    for number, row in enumerate(mask):
        length = time if number == 0 else max(1, time - 2)
        row[
            {
                "right": np.arange(length),
                "left": np.arange(time - length, time),
                "holes": np.sort(draws.choice(time, length, replace=False)),
            }[side]
        ] = True
    return mask


@cache
def made(case):
    params, state = jax.jit(case.thing.init)(jax.random.key(1), case.data)
    draws = np.random.default_rng(2)
    return jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x) + np.float32(0.1 * draws.normal(size=x.shape))), params
    ), state


def masked(x, mask):
    values = np.full(x.shape, 255 if x.dtype == np.uint8 else rubbish(x, 0), x.dtype)
    for row, here, sequence in zip(values, mask, x):
        row[here] = sequence[: here.sum()]
    return Masked(jnp.asarray(values), jnp.asarray(mask))


@cache
def alone(case, count):
    """Returns the outputs of so many first places of each row, `None` if too few for a window."""
    try:
        return np.asarray(jax.jit(case.thing.apply)(*made(case), case.data[:, :count])[0])
    except InvalidValue:
        return None


@held(NETWORKS, "masked")
@pytest.mark.parametrize("side", ["right", pytest.param("left", marks=pytest.mark.slow), "holes"])
def test_a_padded_sequence_gives_what_it_gives_alone_or_an_error(case, side):
    inputs = jax.tree.map(lambda x: masked(x, places(*x.shape[:2], side)), case.data)
    try:
        outputs, _ = jax.jit(case.thing.apply)(*made(case), inputs)
    except Invalid as error:
        where, _, words = str(error).partition(": ")
        assert where and "Masked" in words, error
        assert case.name not in TAKING, error
        return
    assert case.name in TAKING
    mask = places(*case.data.shape[:2], side)
    values, left = jax.tree.map(np.asarray, (values_of(outputs), getattr(outputs, "mask", None)))
    for number, here in enumerate(mask):
        wanted = alone(case, int(here.sum()))
        if left is not None:
            given = values[number][left[number]]
            wanted = given[:0] if wanted is None else wanted[number]
        else:
            assert wanted is not None
            given, wanted = values[number], wanted[number]
        np.testing.assert_allclose(given, wanted, rtol=1e-6, atol=1e-6)


# --- Batch norm ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6, 2, 3)], ids=["places", "images"])
@pytest.mark.parametrize("side", SIDES)
def test_batch_norm_trains_on_the_places_that_exist(side, shape):
    """Outputs, statistics and gradients are those of the places alone, one after the other."""
    network, x, mask = jaxnn.batch_norm(momentum=0.5), real(*shape), places(4, 6, side)
    params, state = network.init(jax.random.key(0), x)
    params = {"scale": jnp.arange(1.0, 4.0), "bias": jnp.arange(3.0)}
    inputs, key = masked(x, mask), jax.random.key(0)
    flat = np.concatenate([row[: here.sum()] for row, here in zip(x, mask)])
    turn = real(*flat.shape, seed=5)

    def loss(params, x, chosen):
        outputs, after = network.apply(params, state, x, key=key)
        chosen = outputs.values[mask] if isinstance(outputs, Masked) else outputs
        return jnp.sum(chosen * turn), (chosen, after)

    padded = jax.grad(loss, has_aux=True)(params, inputs, mask)
    wanted = jax.grad(loss, has_aux=True)(params, jnp.asarray(flat), None)
    assert_close(padded, wanted, 2e-6)


def test_batch_norm_of_no_places_changes_nothing_that_is_not_finite():
    network, x = jaxnn.batch_norm(), real(2, 3, 4)
    params, state = network.init(jax.random.key(0), x)
    none = Masked(jnp.asarray(x), jnp.zeros((2, 3), bool))
    outputs, after = network.apply(params, state, none, key=jax.random.key(0))
    assert not np.any(outputs.values)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


# --- What would mix places -----------------------------------------------------------------------

NUMBERS = Masked(jnp.asarray(real(4, 6)), jnp.asarray(places(4, 6, "right")))


@pytest.mark.parametrize(
    ("network", "width"),
    [
        (jaxnn.linear(6), 6),  # as many outputs as there are places: the mask would fit them
        (jaxnn.layer_norm(), 6),
        (layers.rms_norm(), 6),
        (jaxnn.batch_norm(), 6),
        (jaxnn.lora(jaxnn.linear(6), {"*weight": True}, rank=2), 6),
        (jaxnn.mixed_precision(jaxnn.linear(6)), 6),
    ],
    ids=["linear", "layer_norm", "rms_norm", "batch_norm", "lora", "mixed_precision"],
)
def test_numbers_without_features_are_not_taken_for_features(network, width):
    params, state = network.init(jax.random.key(0), jnp.ones((4, width)))
    with pytest.raises(InvalidValue, match=r"no features. Got Masked values of shape \(4, 6\);"):
        network.apply(params, state, NUMBERS)
    with pytest.raises(InvalidValue, match="no features"):
        network.init(jax.random.key(0), NUMBERS)


@pytest.mark.parametrize(
    ("mean", "shape"),
    [(np.arange(6.0), (4, 6)), (np.ones((6, 1)), (4, 6, 2)), (np.ones((6, 1, 2)), (4, 6, 5, 2))],
    ids=["numbers", "features", "images"],
)
def test_statistics_along_time_are_refused(mean, shape):
    network = jaxnn.standardize(mean, 1.0)
    inputs = Masked(jnp.asarray(real(*shape)), NUMBERS.mask)
    with pytest.raises(InvalidValue, match="standardize: mean and std differ along time"):
        network.apply(*network.init(None, inputs), inputs)
