"""The interface of a family: from a configuration to a network and the rules for its weights."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.models import exact_gelu
from jaxnn.network import Network
from jaxnn.pretrained.rules import Row
from jaxnn.pretrained.settings import Settings
from jaxnn.typing import Any, Callable

TOKENS = jax.ShapeDtypeStruct((1, 1), jnp.int32)


class Plan(NamedTuple):
    """The network of a configuration, and the rules that map its weights.

    Attributes:
      network: a network that computes the same function as the source.
      rows: the rules. The names of arrays in the network's state begin with `state:`.
      inputs: the shape and dtype of the inputs of the network.
      prefix: an optional prefix of the names of the tensors.
      outputs: the size of the vocabulary or number of classes; `None` if the outputs are features.
    """

    network: Network
    rows: Sequence[Row]
    inputs: Any = TOKENS
    prefix: str = ""
    outputs: int | None = None


class Family(NamedTuple):
    """A family of models: the `model_type`s that it supports, and the reader of a configuration."""

    model_types: tuple[str, ...]
    plan: Callable[[Settings, bool], Plan]  # (settings, whether the blocks are stacked)


def blocks(stacked: bool, path: str = "body") -> str:
    """Returns the name of the blocks in a network, which has an index unless they are stacked."""
    return f"{path}/blocks" if stacked else f"{path}/block_{{n+1}}"


ACTIVATIONS = {
    "gelu": exact_gelu,
    "gelu_new": jax.nn.gelu,
    "gelu_pytorch_tanh": jax.nn.gelu,
    "gelu_fast": jax.nn.gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


def labels_of(settings: Settings) -> int:
    """Returns the number of classes of a classifier."""
    labels = settings.take("id2label", None)
    if isinstance(labels, dict) and labels:
        return len(labels)
    return settings.integer("num_labels", 2)


def images(size: int, channels: int) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of a batch of one image."""
    return jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
