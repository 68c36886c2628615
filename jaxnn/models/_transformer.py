"""Transformer blocks: attention followed by a feedforward network, each in a residual branch.

Normalization is at the beginning of each branch (Xiong et al. 2020; GPT-2, ViT, Llama) or after
each sum (Vaswani et al. 2017; BERT).

>>> from jaxnn.layers import activation, attention, layer_norm, linear
>>> feedforward = [("hidden", linear(16)), ("output", linear(8))]
>>> blocks(lambda: block(attention(8, heads=2), feedforward, layer_norm, []), 2)[0][0]
'block_1'
"""

from collections.abc import Sequence

from jaxnn.network import Network, residual, serial
from jaxnn.transforms import depth
from jaxnn.typing import Callable

Named = tuple[str, Network]


def block(
    attention: Network,
    feedforward: Sequence[Named],
    norm: Callable[[], Network],
    drops: Sequence[Named],
    *,
    norm_first: bool = True,
) -> Network:
    """Returns a transformer block, with the parts `attention` and `mlp`.

    Args:
      attention: the attention layer.
      feedforward: the layers of the feedforward network; the last has the features of the inputs.
      norm: returns a new normalization layer.
      drops: the dropout at the end of each branch, or an empty list.
      norm_first: whether each branch begins with a normalization. Otherwise one follows each sum.
    """

    def branch(*parts: Named) -> Network:
        if norm_first:
            return residual(serial(("norm", norm()), *parts, *drops))
        return serial(("sum", residual(serial(*parts, *drops))), ("norm", norm()))

    return serial(("attention", branch(("attention", attention))), ("mlp", branch(*feedforward)))


def blocks(
    make: Callable[[], Network], layers: int, stacked: bool = False, remat: str | None = None
) -> list[Named]:
    """Returns `layers` blocks, `block_1`, `block_2`, ...; if `stacked`, one repeated `blocks`.

    If `remat` is a policy, the backward pass recomputes each block as the policy says.
    """

    def layer() -> Network:
        return make() if remat is None else depth.remat(make(), remat)

    if stacked:
        return [("blocks", depth.repeat(layer(), layers))]
    return [(f"block_{number}", layer()) for number in range(1, layers + 1)]
