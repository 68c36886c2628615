"""The variational autoencoder, of two networks.

The encoder computes the mean and the logarithm of the variance of a normal distribution over latent
variables; the decoder computes a reconstruction from samples of them. Trained with the loss `elbo`,
the decoder generates new examples from samples of the standard normal distribution:
`decoder.apply(run.state.params["decoder"], {}, samples)`.

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
    """Returns a variational autoencoder.

    Outputs are a dict: `mean` and `log_variance` of the latent variables, `[batch, latent]`, and
    `reconstruction`, the decoder's outputs (such as logits of pixels) in the shape of the inputs.
    In training (a key is given) the decoder's inputs are samples, `mean + std * noise`, so that
    gradients reach the encoder; in inference they are the mean.

    Args:
      encoder: a network with outputs `[batch, 2 * latent]`: the means, then the log-variances.
      decoder: a network with inputs `[batch, latent]`; its outputs have as many numbers for each
        example as the inputs of the autoencoder, and are reshaped to their shape.

    Raises:
      InvalidType: if an argument is not a network.
      InvalidValue: at trace time, if the sizes do not fit.

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
        reconstruction, decoded = apply_part("decoder", decoder, params, state, latents, key)
        _check_size(reconstruction, inputs)
        outputs = {
            "reconstruction": reconstruction.reshape(inputs.shape),
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


def _check_size(outputs, inputs) -> None:
    if math.prod(outputs.shape) != math.prod(inputs.shape):
        raise InvalidValue(
            "vae",
            "the decoder's outputs cannot be reshaped to the shape of the inputs",
            got=f"outputs of shape {outputs.shape} for inputs of shape {inputs.shape}",
            expected=f"{math.prod(inputs.shape[1:])} numbers for each example",
            fix=f"End the decoder with linear({math.prod(inputs.shape[1:])})",
        )
