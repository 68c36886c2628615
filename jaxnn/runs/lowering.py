"""Lowers functions of arrays and inputs to programs with as many dynamic sizes as possible.

The number of examples is dynamic, and for tokens also the length, up to the bound that learned
positions set. If this fails, the function is lowered for `FIXED` examples, and callers pad their
inputs.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxnn.names import named_leaves
from jaxnn.storage.program import Program, program_of
from jaxnn.typing import Any, Callable

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
FIXED = 64  # number of examples if it cannot be dynamic
LONGEST = 1 << 20  # maximum length to try, in tokens
# Primitives that call a function with the same inputs, in different versions of jax.
CALLS = ("pjit", "jit")
Predict = Callable[[Any, Any], Any]
"""A function `(arrays, inputs) -> outputs`, whose arrays are a dict by name."""


def lower(
    predict: Predict,
    arrays: dict[str, Any],
    inputs: Any,
    *,
    sequences: bool = False,
) -> Program:
    """Returns the program of a function for all `PLATFORMS`, or else for the one of this process.

    Args:
      predict: the function to lower.
      arrays: the shapes of its arrays by name; arrays that it does not read are dropped.
      inputs: the shapes of a batch.
      sequences: whether the inputs are tokens `[examples, length]`, whose length may be dynamic.

    Raises:
      Exception: an error of any type, if JAX cannot lower the function, or it cannot be stored.
    """
    used = used_arrays(predict, arrays, inputs)
    failure: Exception | None = None
    for platforms in (PLATFORMS, (jax.default_backend(),)):
        for sizes, constraints in _forms(predict, used, inputs, sequences):
            scope = jax_export.SymbolicScope(constraints)
            try:
                like = jax.tree.map(lambda x, s=sizes, c=scope: _dynamic(x, s, c), inputs)
                exported = jax_export.export(jax.jit(predict), platforms=platforms)(used, like)
                return program_of(exported, constraints)
            except Exception as error:  # a function may need static sizes, or one platform
                failure = error
    assert failure is not None
    raise failure


def _forms(
    predict: Predict, arrays: Any, inputs: Any, sequences: bool
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields the sizes to try and their constraints, the most dynamic ones first."""
    if sequences:
        yield "examples, length", ()
        yield "examples, length", (f"length <= {_longest(predict, arrays, inputs)}",)
    yield "examples, ...", ()
    yield f"{FIXED}, ...", ()


def _dynamic(x: Any, sizes: str, scope: Any) -> jax.ShapeDtypeStruct:
    # jax refuses a fixed number of examples that is not the one of `like`.
    shape = jax_export.symbolic_shape(sizes, scope=scope, like=(FIXED, *x.shape[1:]))
    return jax.ShapeDtypeStruct(shape, x.dtype)


def _longest(predict: Predict, arrays: Any, inputs: Any) -> int:
    """Returns the greatest length of inputs that a function accepts."""

    def traced(length: int) -> None:
        sized = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((x.shape[0], length, *x.shape[2:]), x.dtype), inputs
        )
        jax.eval_shape(predict, arrays, sized)

    return greatest(traced, jax.tree.leaves(inputs)[0].shape[1])


def greatest(function: Callable[[int], Any], low: int) -> int:
    """Returns the greatest number up to `LONGEST` for which a function does not raise.

    >>> greatest(lambda number: 1 / (number < 1000), 2)
    999

    Args:
      function: a function that raises for all numbers above a bound.
      low: a number for which it does not raise.
    """
    high, number = LONGEST + 1, LONGEST  # first the largest, since many functions have no bound
    while high - low > 1:
        try:
            function(number)
        except Exception:
            high = number
        else:
            low = number
        number = min(2 * low, (low + high) // 2)
    return low


def shapes(tree: Any) -> Any:
    """Returns the shapes and dtypes of a tree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def named_state(state: Any) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    """Returns a function that builds a state from arrays by name, and the shapes of the arrays."""
    structure, leaves = jax.tree.structure(state), named_leaves(shapes(state))

    def build(arrays):
        # Arrays that a program does not read may have any value.
        whole = [arrays[n] if n in arrays else _unread(leaf) for n, leaf in leaves.items()]
        return jax.tree.unflatten(structure, whole)

    return build, leaves


def _unread(leaf: Any) -> Any:
    """Returns an array without memory in place of one that a program does not read.

    Its shape would do, but jax from 0.12 on keeps all arguments of functions within a program.
    """
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        if jax.eval_shape(jax.random.key, 0).dtype != leaf.dtype:
            return leaf
        data = jax.eval_shape(jax.random.key_data, leaf)
        with jax.ensure_compile_time_eval():
            zeros = jax.device_put(np.zeros(data.shape, data.dtype))  # compiles nothing
            return jax.random.wrap_key_data(zeros)
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def used_arrays(
    function: Callable[..., Any], arrays: dict[str, Any], inputs: Any
) -> dict[str, Any]:
    """Returns the arrays that the function reads, by name."""
    jaxpr = jax.make_jaxpr(function)(arrays, inputs).jaxpr
    read = _read(jaxpr)
    return {n: arrays[n] for n, var in zip(sorted(arrays), jaxpr.invars) if id(var) in read}


def _read(jaxpr: Any) -> set[int]:
    """Returns the ids of the variables that the equations of a jaxpr or its calls read."""
    read = {id(var) for var in jaxpr.outvars}
    for equation in jaxpr.eqns:
        called = equation.params.get("jaxpr") if equation.primitive.name in CALLS else None
        inner = None if called is None else called.jaxpr
        within = None if inner is None else _read(inner)
        for place, var in enumerate(equation.invars):
            if inner is None or within is None or id(inner.invars[place]) in within:
                read.add(id(var))
    return read
