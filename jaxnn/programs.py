"""Looking into a traced program: every operation in it, however deep.

>>> import jax, jax.numpy as jnp
>>> def product(x):
...     return jax.jit(lambda y: y @ y)(x)
>>> traced = jax.make_jaxpr(product)(jnp.ones((2, 2)))
>>> [(op.primitive.name, times) for op, times in operations(traced.jaxpr)][-1]
('dot_general', 1)
"""

from collections.abc import Iterator
from typing import Any


def operations(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Yields `(equation, times)` for every operation, those of inner functions and loops included.

    A `scan` does its operations as often as it is long; a `while` loop, whose length is not known,
    and each branch of a `cond` count once.
    """
    for equation in jaxpr.eqns:
        yield equation, times
        params = equation.params
        turns = params["length"] if equation.primitive.name == "scan" else 1
        for value in params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from operations(inner, times * turns)
