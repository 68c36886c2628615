"""Blocks of transformers: every place looks at others, then thinks about what it saw.

A block is two branches beside the identity. Its normalizations stand at the beginning of each
branch (Xiong et al. 2020; GPT-2, ViT, Llama) or after each sum (Vaswani et al. 2017; BERT).

>>> from jaxnn.layers import activation, attention, layer_norm, linear
>>> thinking = [("hidden", linear(16)), ("output", linear(8))]
>>> blocks(lambda: block(attention(8, heads=2), thinking, layer_norm, []), 2)[0][0]
'block_1'
"""

from collections.abc import Sequence

from jaxnn.network import Network, residual, serial
from jaxnn.transforms import depth
from jaxnn.typing import Callable

Named = tuple[str, Network]


def block(
    looking: Network,
    thinking: Sequence[Named],
    norm: Callable[[], Network],
    drops: Sequence[Named],
    *,
    norm_first: bool = True,
) -> Network:
    """Makes a block of an attention and of the parts that think about what it saw.

    Args:
      looking: the attention.
      thinking: parts in a row, the last of which has as many features as the inputs.
      norm: makes a normalization.
      drops: the dropout at the end of each branch, if there is any.
      norm_first: whether branches begin with a normalization; else there is one after each sum.
    """

    def branch(*parts: Named) -> Network:
        if norm_first:
            return residual(serial(("norm", norm()), *parts, *drops))
        return serial(("sum", residual(serial(*parts, *drops))), ("norm", norm()))

    return serial(("look", branch(("attention", looking))), ("think", branch(*thinking)))


def blocks(
    make: Callable[[], Network], layers: int, stacked: bool = False, remat: str | None = None
) -> list[Named]:
    """Makes `layers` blocks: `block_1`, `block_2`, ..., or `blocks`, one that is repeated.

    With a policy of `remat`, the gradient computes each block a second time.
    """

    def layer() -> Network:
        return make() if remat is None else depth.remat(make(), remat)

    if stacked:
        return [("blocks", depth.repeat(layer(), layers))]
    return [(f"block_{number}", layer()) for number in range(1, layers + 1)]
