"""Memory: a network reads a sequence piece by piece, and computes what it computes of the whole.

Layers that look at other places, or count them, ask `memory_length` whether to remember:
`attention` and `positions` do. All others must treat every place alike.
"""

import jax

from jaxnn.calls import apply_inner, passes_inputs
from jaxnn.network import Network
from jaxnn.typing import Size

_LENGTH = jax.make_user_context(None)


def remembering(network: Network, length: Size) -> Network:
    """Returns the network with a memory of `length` places in each layer that has one.

    It reads on in inference: its state, which `init` makes for the batch of its inputs, holds what
    was read. With a key, in training, it is as it was. Parameters are those of the network.

    Raises:
      InvalidValue: from `init` and `apply`, if an attention is not causal, or there are fewer
        learned positions; from `apply`, if the memory is too short.
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
    """Returns how many places a layer has to remember; `None` where a sequence is read whole."""
    return _LENGTH.value
