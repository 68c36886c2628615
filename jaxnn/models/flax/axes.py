"""Axis names that a model reduces over, if it was written for several devices or for `vmap`.

`BatchNorm(axis_name="batch")` averages statistics over devices. Here a batch is one array, even if
it is sharded over a mesh, so an axis of length 1 represents all devices together.
"""

import re
from typing import TypeVar

import jax

from jaxnn.typing import Callable

T = TypeVar("T")
_UNBOUND = re.compile(r"unbound axis name:? *'?([A-Za-z_]\w*)")


class AxisNames:
    """The axis names that a model requires, collected from the errors of its first trace."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, function: Callable[[], T]) -> T:
        """Calls `function`, which returns arrays, with each axis name bound."""
        while True:
            try:
                return _named(function, tuple(self.names))
            except NameError as error:
                unbound = _UNBOUND.search(str(error))
                if not unbound or unbound[1] in self.names:
                    raise
                self.names.append(unbound[1])


def _named(function: Callable[[], T], names: tuple[str, ...]) -> T:
    if not names:
        return function()
    first, *others = names

    def inner(_):
        return _named(function, tuple(others))

    outputs = jax.vmap(inner, in_axes=None, axis_size=1, axis_name=first)(0)
    return jax.tree.map(lambda x: x[0], outputs)
