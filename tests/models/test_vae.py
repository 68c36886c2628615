"""The variational autoencoder: what is drawn, what is not, and how sizes must fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn import InvalidType, InvalidValue
from tests.mistakes import judge
from tests.registry import real
from tests.trees import assert_close

IMAGES = np.abs(np.tanh(real(3, 2, 5)))
PARAMS = {
    "encoder": {"weight": jnp.array(real(10, 4, seed=1)), "bias": jnp.array(real(4, seed=2))},
    "decoder": {"weight": jnp.array(real(2, 10, seed=3)), "bias": jnp.array(real(10, seed=4))},
}


def network():
    """Two linear maps, of which everything is known."""
    encoder = jaxnn.serial(jaxnn.flatten(), jaxnn.linear(4))
    flat = jaxnn.Network(
        lambda key, x: encoder.init(key, x),
        lambda p, s, x, *, key=None: (x.reshape(len(x), -1) @ p["weight"] + p["bias"][None], s),
    )
    return jaxnn.vae(flat, jaxnn.linear(10))


def outputs(images=IMAGES, key=None):
    return jax.jit(network().apply)(PARAMS, {}, images, key=key)[0]


def test_without_a_key_the_latent_variables_are_the_mean():
    code = IMAGES.reshape(3, 10) @ PARAMS["encoder"]["weight"] + PARAMS["encoder"]["bias"][None]
    drawn = code[:, :2] @ PARAMS["decoder"]["weight"] + PARAMS["decoder"]["bias"][None]
    wanted = {
        "mean": code[:, :2],
        "log_variance": code[:, 2:],
        "reconstruction": drawn.reshape(3, 2, 5),
    }
    assert_close(outputs(), wanted)


def test_with_a_key_they_are_drawn_from_the_distribution(key):
    """Many copies of one image: the mean and covariance of what the decoder makes of the draws."""
    many = np.repeat(IMAGES[:1], 20_000, 0)
    computed = outputs(many, key)
    drawn = np.asarray(computed["reconstruction"], np.float64).reshape(-1, 10)
    weight = np.float64(PARAMS["decoder"]["weight"])
    mean, log_variance = (np.float64(computed[name][0]) for name in ("mean", "log_variance"))
    assert_close(computed["mean"], np.repeat(computed["mean"][:1], len(many), 0))
    wanted = mean @ weight + np.float64(PARAMS["decoder"]["bias"])
    covariance = weight.T @ np.diag(np.exp(log_variance)) @ weight
    deviation = np.sqrt(np.diag(covariance))
    assert (np.abs(drawn.mean(0) - wanted) < 5 * deviation / np.sqrt(len(many))).all()
    error = np.abs(np.cov(drawn.T) - covariance) / np.outer(deviation, deviation)
    assert error.max() < 5 * np.sqrt(2 / len(many))


def test_gradients_reach_the_encoder_through_the_draws(key):
    """Also those of the log-variance, which only the noise carries."""

    @jax.jit
    def grads(params):
        def loss(params):
            return jnp.sum(network().apply(params, {}, IMAGES, key=key)[0]["reconstruction"] ** 2)

        return jax.grad(loss)(params)["encoder"]["bias"]

    assert (np.abs(grads(PARAMS)) > 1e-3).all()


def test_the_decoder_alone_is_the_network_under_its_name(key):
    encoder, decoder = jaxnn.mlp([6], 2 * 2), jaxnn.mlp([5], 10)
    whole = jaxnn.vae(encoder, decoder)
    params, state = whole.init(key, IMAGES)
    computed, _ = whole.apply(params, state, IMAGES)
    alone, _ = decoder.apply(params["decoder"], {}, computed["mean"])
    assert_close(alone.reshape(3, 2, 5), computed["reconstruction"])


def traced(encoder, decoder, inputs=IMAGES):
    return jax.eval_shape(jaxnn.vae(encoder, decoder).init, jax.random.key(0), inputs)


CASES = {
    "an odd number of outputs": (
        lambda: traced(jaxnn.mlp([4], 5), jaxnn.linear(10)),
        InvalidValue, r"vae: the encoder's outputs .* outputs of shape \(3, 5\)",
        r"End the encoder with linear\(2 \* latent\)",
    ),
    "outputs that are images": (
        lambda: traced(jaxnn.linear(4), jaxnn.linear(10)),
        InvalidValue, r"outputs of shape \(3, 2, 4\)", r"End the encoder with",
    ),
    "a decoder of another size": (
        lambda: traced(jaxnn.mlp([4], 4), jaxnn.linear(9)),
        InvalidValue, r"outputs of shape \(3, 9\) for inputs of shape \(3, 2, 5\)",
        r"End the decoder with linear\(10\)",
    ),
    "a size instead of a decoder": (
        lambda: jaxnn.vae(jaxnn.mlp([4], 4), 10),
        InvalidType, r"vae: decoder has the wrong type. Got a int", r"Pass vae\(mlp",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)
