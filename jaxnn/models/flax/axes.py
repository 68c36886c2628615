"""Names of axes that a model averages over: it was written for several devices, or for `vmap`.

`BatchNorm(axis_name="batch")` takes the mean of what each device has. Here a batch is one array,
also where it is spread over a mesh, so an axis of length 1 stands for all devices together.
"""

import re
from typing import TypeVar

import jax

from jaxnn.typing import Callable

T = TypeVar("T")
_UNBOUND = re.compile(r"unbound axis name:? *'?([A-Za-z_]\w*)")


class AxisNames:
    """The names of axes that a model needs; they are learned when it is first traced."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, function: Callable[[], T]) -> T:
        """Returns what the function returns, arrays, where each name is that of an axis."""
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
