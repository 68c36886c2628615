"""The variational autoencoder: an encoder says where an example may lie, a decoder draws it again.

It consists of two networks, of any kind. The encoder gives the mean and the logarithm of the
variance of a normal distribution over a few latent variables; the decoder takes such variables and
gives the reconstruction. Trained by `elbo`, the decoder alone makes new examples, of draws from the
standard normal distribution: `decoder.apply(run.state.params["decoder"], {}, draws)`.

>>> import jax, jax.numpy as jnp
>>> from jaxnn.models import mlp
>>> network = vae(mlp([8], 2 * 3), mlp([8], 4 * 4))
>>> params, state = network.init(jax.random.key(0), jnp.ones((2, 4, 4)))
>>> jax.tree.map(jnp.shape, network.apply(params, state, jnp.ones((2, 4, 4)))[0])
{'log_variance': (2, 3), 'mean': (2, 3), 'reconstruction': (2, 4, 4)}
"""

import math

import jax
import jax.numpy as jnp

from jaxnn.calls import apply_part, init_part, part_key, passes_inputs
from jaxnn.checks import InvalidValue, kind
from jaxnn.network import Network, Parts, collect, output_shape, without_empty


def vae(encoder: Network, decoder: Network) -> Network:
    """Makes an autoencoder with a normal distribution in its middle.

    Outputs are a dict: `mean` and `log_variance` of the latent variables, `[batch, latent]`, and
    the `reconstruction`, in the shape of the inputs: what the decoder makes of latent variables,
    such as logits of pixels. In training (a key is given) they are drawn, `mean + deviation *
    noise`, so that gradients reach the encoder; in inference they are the mean.

    Args:
      encoder: its outputs are `[batch, 2 * latent]`: the means, then the logarithms of variances.
      decoder: takes `[batch, latent]`; its outputs have as many numbers as the inputs, and are
        brought into their shape.

    Raises:
      InvalidType: if one of the two is not a network.
      InvalidValue: when traced, if the sizes do not fit.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014, section 2.4 and
    appendix C, https://arxiv.org/abs/1312.6114.
    """
    children = (("encoder", encoder), ("decoder", decoder))
    for name, part in children:
        kind("vae", name, part, Network, fix="Pass vae(mlp([500], 2 * 20), mlp([500], 28 * 28))")

    def init(key, inputs):
        encoded = init_part("encoder", encoder, key, inputs)
        code = output_shape(encoder, *encoded, inputs)
        _check_code(code)
        latents = jax.ShapeDtypeStruct((code.shape[0], code.shape[1] // 2), code.dtype)
        decoded = init_part("decoder", decoder, key, latents)
        _check_size(output_shape(decoder, *decoded, latents), inputs)
        return collect({"encoder": encoded, "decoder": decoded})

    @passes_inputs
    def apply(params, state, inputs, *, key=None):
        code, encoded = apply_part("encoder", encoder, params, state, inputs, key)
        _check_code(code)
        mean, log_variance = jnp.split(code, 2, -1)
        latents = mean
        if key is not None:
            noise = jax.random.normal(part_key(key, "latents"), mean.shape, mean.dtype)
            latents = mean + jnp.exp(0.5 * log_variance) * noise
        drawn, decoded = apply_part("decoder", decoder, params, state, latents, key)
        _check_size(drawn, inputs)
        outputs = {
            "reconstruction": drawn.reshape(inputs.shape),
            "mean": mean,
            "log_variance": log_variance,
        }
        return outputs, without_empty({"encoder": encoded, "decoder": decoded})

    return Network(init, apply, Parts("vae", (), children))


def _check_code(code) -> None:
    if len(code.shape) != 2 or code.shape[1] % 2:
        raise InvalidValue(
            "vae",
            "the encoder's outputs are not a mean and a log-variance for each latent variable",
            got=f"outputs of shape {code.shape}",
            expected="[batch, 2 * latent]",
            fix="End the encoder with linear(2 * latent)",
        )


def _check_size(drawn, inputs) -> None:
    if math.prod(drawn.shape) != math.prod(inputs.shape):
        raise InvalidValue(
            "vae",
            "the decoder's outputs do not fill the shape of the inputs",
            got=f"outputs of shape {drawn.shape} for inputs of shape {inputs.shape}",
            expected=f"{math.prod(inputs.shape[1:])} numbers for each example",
            fix=f"End the decoder with linear({math.prod(inputs.shape[1:])})",
        )
