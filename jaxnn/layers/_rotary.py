"""Rotary positions: at which speed each plane of the features turns from place to place.

>>> import jax.numpy as jnp
>>> speeds(Rotary(base=16.0), 2, jnp.float32).tolist()
[1.0, 0.25]
>>> speeds(Rotary(base=16.0, factor=2.0), 2, jnp.float32).tolist()
[0.5, 0.125]
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from jaxnn.checks import InvalidValue, positive
from jaxnn.typing import Any, Array, Float


class Rotary(NamedTuple):
    """Rotary positions, and how they are stretched for sequences longer than those of training.

    Plane `i` of `planes` turns by `base ** (-i / planes)` at each place. Stretched positions turn
    slower by `factor`: all planes (Chen et al., 2023), or, with `low`, `high` and `length`, those
    that turn less than `low` times over the `length` of training, none that turn more than `high`
    times, and those between in proportion (Llama 3).

    Attributes:
      base: 10000 in the original paper; larger for longer sequences.
      factor: how many times longer the sequences are.
      low: turns over `length` below which a plane is slower by the whole factor.
      high: turns from which a plane keeps its speed.
      length: the places of a sequence in training.

    Source: Su et al., RoFormer, 2021, https://arxiv.org/abs/2104.09864; Chen et al., Extending
    Context Window of Large Language Models via Positional Interpolation, 2023, eq. (4),
    https://arxiv.org/abs/2306.15595; The Llama 3 Herd of Models, 2024, section 3.4.
    """

    base: float = 10000.0
    factor: float = 1.0
    low: float | None = None
    high: float | None = None
    length: int | None = None


def rotary_of(where: str, rotary: float | Rotary) -> Rotary:
    """Returns rotary positions of a base or a `Rotary`; raises `InvalidValue` if they are wrong."""
    rotary = rotary if isinstance(rotary, Rotary) else Rotary(rotary)
    positive(where, "the base of rotary", rotary.base)
    positive(where, "the factor of rotary", rotary.factor)
    parts = rotary.low, rotary.high, rotary.length
    given = [x for x in parts if x is not None]
    low, high, length = parts if len(given) == 3 else (1.0, 2.0, 1)
    if len(given) not in (0, 3) or not (0 < low < high and length >= 1):  # pyright: ignore
        raise InvalidValue(
            where,
            "it is not clear which planes of rotary are stretched",
            got=f"low={rotary.low}, high={rotary.high}, length={rotary.length}",
            expected="all three, with 0 < low < high, or none of them",
            fix="Pass Rotary(base, factor, low=1.0, high=4.0, length=8192), as Llama 3 has it",
        )
    return rotary


def speeds(rotary: float | Rotary, planes: int, dtype: Any) -> Float[Array, "planes"]:
    """Returns the angle by which each of the planes turns from a place to the next."""
    rotary = rotary if isinstance(rotary, Rotary) else Rotary(rotary)
    plain = rotary.base ** (-jnp.arange(planes, dtype=dtype) / planes)
    if rotary.factor == 1.0:
        return plain
    if rotary.low is None or rotary.high is None or rotary.length is None:
        return plain / rotary.factor
    turns = plain * (rotary.length / (2 * math.pi))
    share = jnp.clip((turns - rotary.low) / (rotary.high - rotary.low), 0.0, 1.0)
    return plain * (share + (1 - share) / rotary.factor)
