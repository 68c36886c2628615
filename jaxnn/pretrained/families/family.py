"""What a family of models says: the network of a configuration, and the rules for its weights."""

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
    """The network of a configuration, and the rows that fill it.

    Attributes:
      network: that computes what the source does.
      rows: the rules; names of the network's state begin with `state:`.
      inputs: an example of what it gets.
      prefix: what may stand before all names of tensors.
      outputs: how many symbols or classes it tells apart; `None` where it gives features.
    """

    network: Network
    rows: Sequence[Row]
    inputs: Any = TOKENS
    prefix: str = ""
    outputs: int | None = None


class Family(NamedTuple):
    """A kind of model: the `model_type`s of its configurations, and how they are read."""

    model_types: tuple[str, ...]
    plan: Callable[[Settings, bool], Plan]  # (settings, whether blocks are stacked)


def blocks(stacked: bool, path: str = "body") -> str:
    """Returns the name of a block in a network: of its number, or of all where they are one."""
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
    """Returns how many classes a head tells apart."""
    labels = settings.take("id2label", None)
    if isinstance(labels, dict) and labels:
        return len(labels)
    return settings.integer("num_labels", 2)


def images(size: int, channels: int) -> jax.ShapeDtypeStruct:
    """Returns an example of images."""
    return jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
