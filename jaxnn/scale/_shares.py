"""A table of how the arrays of a state are split over a mesh, with the bytes on each device.

>>> import jax, jax.numpy as jnp, optax
>>> from jaxnn.layers import linear
>>> from jaxnn.learning import learner
>>> from jaxnn.objectives import regression
>>> from jaxnn.scale import fsdp, mesh, shard
>>> line = shard(learner(linear(2), regression(), optax.adam(0.1)), mesh(1), fsdp)
>>> batch = {"inputs": jnp.ones((4, 8)), "labels": jnp.ones((4, 2))}
>>> print(shares(line, jax.eval_shape(line.init, jax.random.key(0), {}, batch)))
parameter  shape            split  arrays  memory  per device
bias       (2,)             whole       3    24 B        24 B
weight     (8, 2)           whole       3   192 B       192 B
all else                                3    16 B        16 B
total      data=1, model=1  fsdp        9   232 B       232 B
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax

from jaxnn import display
from jaxnn.checks import InvalidType
from jaxnn.formatting import aligned, amount
from jaxnn.learning._learner import Learner
from jaxnn.names import named_leaves
from jaxnn.scale.placement import owner_of
from jaxnn.typing import Any

_HEADS = ("parameter", "shape", "split", "arrays", "memory", "per device")


class Row(NamedTuple):
    """A parameter with the arrays that belong to it, such as its moments and its average.

    Attributes:
      parameter: the name of the parameter.
      shape: the shape of the parameter.
      split: how the parameter is split, such as `"axis 1 over model"` or `"whole"`.
      arrays: the number of arrays, including the parameter itself.
      bytes: the size of these arrays.
      device_bytes: the size of the part on one device.
    """

    parameter: str
    shape: str
    split: str
    arrays: int
    bytes: int
    device_bytes: int


@dataclass(frozen=True)
class Shares:
    """A table with a row for each parameter, one for all other arrays, and the total."""

    rows: tuple[Row, ...]
    total: Row

    def __str__(self) -> str:
        return aligned([_HEADS, *self._cells()], "<<<>>>")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return display.block(display.columns(_HEADS, self._cells(), left=3))

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.parameter,
                row.shape,
                row.split,
                f"{row.arrays:,}",
                amount(row.bytes, "B"),
                amount(row.device_bytes, "B"),
            )
            for row in (*self.rows, self.total)
        ]


def shares(learner: Learner, state: Any) -> Shares:
    """Returns a table of how the state of a learner is split over its mesh.

    Args:
      learner: a learner with a mesh, from `shard`.
      state: the state of the learner, or its shapes. Nothing is computed.

    Raises:
      InvalidType: if the learner has no mesh.
    """
    placement = learner.placement
    if placement is None:
        raise InvalidType(
            "shares",
            "the learner has no mesh",
            got="a learner on a single device",
            expected="one that is spread over a mesh",
            fix="Pass jaxnn.scale.shard(learner, mesh, rules)",
        )
    leaves = named_leaves(state)
    shardings = dict(zip(leaves, jax.tree.leaves(placement.shardings(state))))
    params = named_leaves(getattr(state, "params", state))
    groups: dict[str, list[str]] = {name: [] for name in params}
    others = []
    for name in leaves:
        groups.get(owner_of(name, params), others).append(name)

    def row(names: list[str], parameter: str, shape: str, split: str) -> Row:
        whole = sum(_bytes(leaves[name], leaves[name].shape) for name in names)
        own = sum(
            _bytes(leaves[name], shardings[name].shard_shape(leaves[name].shape)) for name in names
        )
        return Row(parameter, shape, split, len(names), whole, own)

    rows = [
        row(names, name, str(tuple(params[name].shape)), _split(shardings[names[0]].spec))
        for name, names in groups.items()
    ]
    if others:
        rows.append(row(others, "all else", "", ""))
    axes = ", ".join(f"{name}={count}" for name, count in placement.mesh.shape.items())
    return Shares(tuple(rows), row([*leaves], "total", axes, placement.rules.name))


def _split(spec: Any) -> str:
    places = [f"axis {axis} over {over}" for axis, over in enumerate(spec) if over is not None]
    return ", ".join(places) or "whole"


def _bytes(leaf: Any, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * leaf.dtype.itemsize
