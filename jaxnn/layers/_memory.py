"""Memory, with which a network reads a sequence in chunks, with the outputs of the whole sequence.

Layers that depend on other positions (`attention`) or count them (`positions`) call
`memory_length` to learn whether to keep a cache. All other layers must treat every position alike.
"""

import jax

from jaxnn.calls import apply_inner, passes_inputs
from jaxnn.network import Network
from jaxnn.typing import Size

_LENGTH = jax.make_user_context(None)


def remembering(network: Network, length: Size) -> Network:
    """Returns the network with caches of `length` positions in the layers that need them.

    In inference, each call of `apply` reads the next chunk; the state, which `init` creates for the
    batch size of its inputs, holds the caches. In training (a key is given) nothing changes. The
    parameters are those of `network`.

    Raises:
      InvalidValue: by `init` and `apply`, if an attention is not causal, or there are fewer learned
        positions than `length`; by `apply`, if a cache is too short.
    """

    def init(key, inputs):
        with _LENGTH(length):
            return network.init(key, inputs)

    @passes_inputs
    def apply(params, state, inputs, *, key=None):
        with _LENGTH(length):
            return apply_inner(network, params, state, inputs, key)

    return network._replace(init=init, apply=apply)


def memory_length() -> Size | None:
    """Returns the number of positions to cache, or `None` when sequences are read as a whole."""
    return _LENGTH.value
