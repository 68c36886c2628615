"""Models of Flax that are called as real ones are: inputs, flags, collections, axes and caches."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

KEY = jax.random.key(0)
ROWS = jax.random.normal(jax.random.key(8), (4, 5))
TOKENS = jax.random.randint(jax.random.key(9), (4, 6), 1, 11)
LENGTHS = jnp.array([6, 3, 1, 4])


class Lengths(nn.Module):
    """Two inputs and a flag, as a classifier of texts."""

    @nn.compact
    def __call__(self, token_ids, lengths, deterministic: bool | None = None):
        x = nn.Embed(11, 4)(token_ids)
        x = nn.Dropout(0.3)(x, deterministic=deterministic)
        mask = jnp.arange(token_ids.shape[1])[None] < lengths[:, None]
        return nn.Dense(2)((x * mask[..., None]).sum(1))


class Keyed(nn.Module):
    """An autoencoder that is called with a key, and has another method."""

    def setup(self):
        self.encoder, self.decoder = nn.Dense(6), nn.Dense(5)

    def __call__(self, x, z_rng):
        mean, logvar = jnp.split(self.encoder(x), 2, -1)
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(z_rng, mean.shape)
        return self.decoder(z), mean, logvar

    def generate(self, z):
        return nn.sigmoid(self.decoder(z))


class Named(nn.Module):
    """Keyword arguments alone."""

    @nn.compact
    def __call__(self, *, inputs, train):
        return nn.Dense(2)(nn.Dropout(0.3)(inputs, deterministic=not train))


class Field(nn.Module):
    """The mode is a field of the class, as of a network of graphs."""

    rate: float = 0.3
    deterministic: bool = True

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.Dropout(self.rate, deterministic=self.deterministic)(x))


class Unknown(nn.Module):
    """The flag has a name that is not known."""

    @nn.compact
    def __call__(self, x, is_train: bool = False):
        x = nn.BatchNorm(use_running_average=not is_train)(x)
        return nn.Dense(2)(nn.Dropout(0.3)(x, deterministic=not is_train))


class Configured(nn.Module):
    """Another module trains than predicts, with the same parameters, as of language models."""

    still: bool
    decode: bool = False

    @nn.compact
    def __call__(self, inputs, inputs_positions=None):
        x = nn.Embed(11, 4)(inputs)
        if inputs_positions is not None:
            x = x + 0.1 * inputs_positions[..., None]
        x = nn.Dropout(0.3)(x, deterministic=self.still)
        mask = None if self.decode else nn.make_causal_mask(inputs)
        x = nn.MultiHeadDotProductAttention(
            2, decode=self.decode, dropout_rate=0.1, deterministic=self.still
        )(x, mask=mask)
        return nn.Dense(11)(x)


class Listed(nn.Module):
    """Settings that have no hash, and tokens that are read one by one."""

    widths: list
    scales: dict
    mixes: bool = False

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 4)(tokens)
        for width in self.widths:
            x = self.scales["hidden"] * nn.tanh(nn.Dense(width)(x))
        if self.mixes:
            x = jnp.cumsum(x, 1)
        return nn.Dense(11)(x)


class Drawing(nn.Module):
    """It samples in inference too."""

    @nn.compact
    def __call__(self, encoder_inputs, decoder_inputs):
        x = nn.Dense(3)(encoder_inputs + decoder_inputs)
        return x, jax.random.categorical(self.make_rng("lstm"), x)


class Axis(nn.Module):
    """Batch normalization that was written for several devices."""

    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.BatchNorm(use_running_average=not train, axis_name="batch")(nn.Dense(4)(x))
        return nn.Dense(2)(nn.relu(x))


class Sowing(nn.Module):
    """It leaves a loss, and something to look at."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4, name="hidden")(x)
        self.sow("losses", "size", (x**2).mean())
        self.sow("intermediates", "seen", x)
        return nn.Dense(2)(x)


class NnxSowing(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(5, 4, rngs=rngs)
        self.output = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        x = self.hidden(x)
        self.kl = nnx.Variable((x**2).mean())
        self.sow(nnx.Intermediate, "seen", x)
        return self.output(x)


class NnxCalled(nnx.Module):
    """It is called with random streams, or without, as of digits."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.dropout = nnx.Dropout(0.3)
        self.output = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x, rngs):
        return self.output(self.dropout(self.norm(x), rngs=rngs))


class NnxMasked(nnx.Module):
    """Positions, a cache and a mask, as of a language model."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, deterministic=False)
        self.output = nnx.Linear(4, 11, rngs=rngs)

    def __call__(self, last_tokens, positions, cache, attention_mask, rngs=None):
        x = self.embed(last_tokens) + 0.1 * positions[..., None]
        x = jnp.einsum("bij,bjf->bif", attention_mask, x)
        return self.output(self.dropout(x, rngs=rngs)), cache


class NnxBare(nnx.Module):
    def __init__(self, rngs):
        self.weight = jax.random.normal(rngs.params(), (5, 2))

    def __call__(self, x):
        return x @ self.weight


class NnxFlag(nnx.Module):
    def __init__(self, rngs):
        self.training = False
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.output = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x):
        return self.output(self.dropout(x, deterministic=not self.training))


def nnx_decoder(rngs):
    attention = nnx.MultiHeadAttention(2, 8, decode=True, rngs=rngs)
    attention.init_cache((4, 3, 8))
    return attention
