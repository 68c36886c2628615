"""Rotary position embeddings: the angular frequency of each pair of features.

>>> import jax.numpy as jnp
>>> frequencies(Rotary(base=16.0), 2, jnp.float32).tolist()
[1.0, 0.25]
>>> frequencies(Rotary(base=16.0, factor=2.0), 2, jnp.float32).tolist()
[0.5, 0.125]
>>> frequencies(Rotary(16.0, 2.0, 1.0, 32.0, 100, yarn=True), 2, jnp.float32).tolist()
[1.0, 0.1875]
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from jaxnn.checks import InvalidValue, positive
from jaxnn.typing import Any, Array, Float


class Rotary(NamedTuple):
    """The settings of rotary position embeddings, which may be scaled to longer sequences.

    Pair `i` of `n` pairs of features is rotated by `base ** (-i / n)` radians per position. Scaling
    divides these frequencies by `factor`: all of them (Chen et al. 2023), or, with `low`, `high`
    and `length`, fully for pairs that complete fewer than `low` rotations over `length` positions,
    not at all for more than `high` rotations, and in proportion between the two: to the rotations
    (Llama 3), or to the number of the pair (YaRN).

    Attributes:
      base: 10000 in the original paper; larger for longer sequences.
      factor: how many times longer the sequences are than those of training.
      low: the number of rotations over `length` below which the whole factor applies.
      high: the number of rotations over `length` from which a frequency is unchanged.
      length: the length of the sequences of the original training, in positions.
      yarn: whether the frequencies are scaled as in YaRN; it requires `low`, `high` and `length`,
        which are 1, 32 and the original length in the paper.
      scale: multiplies the rotated queries and keys. In YaRN it is `0.1 * log(factor) + 1`.

    Source: Su et al., RoFormer, 2021, https://arxiv.org/abs/2104.09864; Chen et al., Extending
    Context Window of Large Language Models via Positional Interpolation, 2023, eq. (4),
    https://arxiv.org/abs/2306.15595; The Llama 3 Herd of Models, 2024, section 3.4; Peng et al.,
    YaRN, ICLR 2024, section 3.4, https://arxiv.org/abs/2309.00071.
    """

    base: float = 10000.0
    factor: float = 1.0
    low: float | None = None
    high: float | None = None
    length: int | None = None
    yarn: bool = False
    scale: float = 1.0


def rotary_of(where: str, rotary: float | Rotary) -> Rotary:
    """Returns the `Rotary` of a base, or the given one; raises `InvalidValue` if it is invalid."""
    rotary = rotary if isinstance(rotary, Rotary) else Rotary(rotary)
    positive(where, "the base of rotary", rotary.base)
    positive(where, "the factor of rotary", rotary.factor)
    positive(where, "the scale of rotary", rotary.scale)
    parts = rotary.low, rotary.high, rotary.length
    given = [x for x in parts if x is not None]
    low, high, length = parts if len(given) == 3 else (1.0, 2.0, 1)
    if len(given) not in ((3,) if rotary.yarn else (0, 3)) or not (0 < low < high and length >= 1):  # pyright: ignore
        raise InvalidValue(
            where,
            "low, high and length of rotary do not fit together",
            got=f"low={rotary.low}, high={rotary.high}, length={rotary.length}",
            expected="all three, with 0 < low < high, or, without yarn, none of them",
            fix="Pass Rotary(base, factor, low=1.0, high=4.0, length=8192), as Llama 3 does",
        )
    return rotary


def frequencies(rotary: float | Rotary, pairs: int, dtype: Any) -> Float[Array, "pairs"]:
    """Returns the angle in radians by which each pair of features is rotated per position."""
    rotary = rotary if isinstance(rotary, Rotary) else Rotary(rotary)
    plain = rotary.base ** (-jnp.arange(pairs, dtype=dtype) / pairs)
    if rotary.factor == 1.0:
        return plain
    if rotary.low is None or rotary.high is None or rotary.length is None:
        return plain / rotary.factor
    if rotary.yarn:
        first, last = (
            pairs * math.log(rotary.length / (2 * math.pi * rotations)) / math.log(rotary.base)
            for rotations in (rotary.high, rotary.low)
        )
        first, last = max(math.floor(first), 0), min(math.ceil(last), 2 * pairs - 1)
        numbers = jnp.arange(pairs, dtype=dtype)
        share = 1 - jnp.clip((numbers - first) / max(last - first, 0.001), 0.0, 1.0)
    else:
        rotations = plain * (rotary.length / (2 * math.pi))
        share = jnp.clip((rotations - rotary.low) / (rotary.high - rotary.low), 0.0, 1.0)
    return plain * (share + (1 - share) / rotary.factor)
