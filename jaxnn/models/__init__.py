"""Models: common architectures, models of Flax and Equinox, and text generation."""

from jaxnn.models._encoder import bert, exact_gelu, vit
from jaxnn.models._generate import generate, generate_tokens
from jaxnn.models._gpt import gpt
from jaxnn.models._resnet import resnet
from jaxnn.models._rnn import rnn
from jaxnn.models._tabular import tabular
from jaxnn.models._vae import vae
from jaxnn.models.equinox import from_equinox, to_equinox
from jaxnn.models.feedforward import convnet, mlp
from jaxnn.models.flax import flax_parameters, from_flax, to_flax

__all__ = [
    "bert",
    "convnet",
    "exact_gelu",
    "flax_parameters",
    "from_equinox",
    "from_flax",
    "generate",
    "generate_tokens",
    "gpt",
    "mlp",
    "resnet",
    "rnn",
    "tabular",
    "to_equinox",
    "to_flax",
    "vae",
    "vit",
]
