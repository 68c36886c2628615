"""Inspection of jaxprs: iterates over all operations, counts products, removes what is not needed.

>>> import jax, jax.numpy as jnp
>>> def product(x):
...     return jax.jit(lambda y: y @ y)(x)
>>> traced = jax.make_jaxpr(product)(jnp.ones((2, 2)))
>>> [(op.primitive.name, times) for op, times in operations(traced.jaxpr)][-1]
('dot_general', 1)
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr


def operations(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Yields `(equation, times)` for every operation, including those in inner functions and loops.

    The operations of a `scan` count once per iteration. Those of a `while` loop, whose length is
    unknown, and of each branch of a `cond` count once. If there are alternatives for several
    platforms, only the first counts.
    """
    for equation in jaxpr.eqns:
        yield equation, times
        for inner, turns in inner_programs(equation):
            yield from operations(inner, times * turns)


def inner_programs(equation: Any) -> Iterator[tuple[Any, int]]:
    """Yields the jaxprs inside an operation, and how often each is executed; see `operations`."""
    params = equation.params
    turns = params["length"] if equation.primitive.name == "scan" else 1
    for name, value in params.items():
        if name == "branches" and params.get("branches_platforms"):
            value = value[:1]
        for inner in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield inner, turns


def products(jaxpr: Any) -> int:
    """Returns the number of scalar products in all matrix products and convolutions."""
    return sum(times * products_of(equation) for equation, times in operations(jaxpr))


def products_of(equation: Any) -> int:
    """Returns the number of scalar products in one matrix product or convolution, else 0."""
    params = equation.params
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        each = math.prod(left[axis] for axis in contracted)
    elif equation.primitive.name == "conv_general_dilated":
        # For one output: the size of the window times the input channels of its group.
        weight, spec = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
        each = math.prod(weight) // weight[spec[0]]
    else:
        return 0
    return each * math.prod(equation.outvars[0].aval.shape)


def needed(
    function: Callable[..., Any], *given: Any
) -> tuple[Callable[..., Any], list[list[bool]], set[Any]]:
    """Returns a function of arrays without the operations that its results do not need.

    Returned with it is whether it reads each leaf of each argument, and its side effects. The last
    arguments may be left out if it reads nothing of them.

    >>> import jax.numpy as jnp
    >>> one, reads, _ = needed(lambda x, y: (x + y, 2 * x)[1], jnp.ones(()), jnp.ones(()))
    >>> one(jnp.float32(3)).item(), reads
    (6.0, [[True], [False]])
    """
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*given)
    jaxpr, used = dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
    run = jaxpr_as_fun(ClosedJaxpr(jaxpr, program.consts))

    def reduced(*given):
        read = [x for x, is_read in zip(jax.tree.leaves(given), used) if is_read]
        return jax.tree.unflatten(jax.tree.structure(shapes), run(*read))

    marks = iter(used)
    return reduced, [[next(marks) for _ in jax.tree.leaves(x)] for x in given], program.effects
