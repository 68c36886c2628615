"""Lowers a prediction function with as many dynamic sizes as possible.

The number of examples is dynamic, and for tokens also the length, up to the bound that learned
positions set. If this fails, the function is lowered for a fixed number of examples, and
`Model.predict` pads its inputs.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import export as jax_export

from jaxnn.exporting.program import PLATFORMS, Program, program_of
from jaxnn.runs.prediction import used_arrays
from jaxnn.typing import Any, Callable

FIXED = 64  # number of examples if it cannot be dynamic
LONGEST = 1 << 20  # maximum length to try, in tokens
Predict = Callable[[Any, Any], Any]  # `(arrays, inputs) -> outputs`


def lower(
    predict: Predict, arrays: dict[str, Any], inputs: Any, *, sequences: bool = False
) -> Program:
    """Lowers a function `(arrays, inputs) -> outputs` to a `Program`.

    Args:
      predict: the function to lower.
      arrays: the shapes of its arrays by name; arrays that it does not read are dropped.
      inputs: the shapes of a batch.
      sequences: whether the inputs are tokens `[examples, length]`, whose length may be dynamic.

    Raises:
      Exception: an error of any type, if JAX cannot lower the function.
    """
    used = used_arrays(predict, arrays, inputs)
    if sequences:
        # Tries an unbounded length first.
        for constraints in (lambda: (), lambda: (f"length <= {_longest(predict, used, inputs)}",)):
            try:
                return _lowered(predict, used, inputs, "examples, length", constraints())
            except Exception:
                continue
    for sizes in ("examples, ...", f"{FIXED}, ..."):
        try:
            return _lowered(predict, used, inputs, sizes)
        except Exception as error:
            failure = error
    raise failure


def _lowered(
    predict: Predict, arrays: Any, inputs: Any, sizes: str, constraints: Sequence[str] = ()
) -> Program:
    scope = jax_export.SymbolicScope(constraints)

    def free(x: Any) -> Any:
        # jax refuses a fixed number of examples that is not the one of `like`.
        shape = jax_export.symbolic_shape(sizes, scope=scope, like=(FIXED, *x.shape[1:]))
        return jax.ShapeDtypeStruct(shape, x.dtype)

    exported = jax_export.export(jax.jit(predict), platforms=PLATFORMS)(
        arrays, jax.tree.map(free, inputs)
    )
    return program_of(exported, constraints)


def _longest(predict: Predict, arrays: Any, inputs: Any) -> int:
    """Returns the greatest length of inputs that a function accepts."""

    def takes(length: int) -> bool:
        def sized(x):
            return jax.ShapeDtypeStruct((x.shape[0], length, *x.shape[2:]), x.dtype)

        try:
            jax.eval_shape(predict, arrays, jax.tree.map(sized, inputs))
        except Exception:
            return False
        return True

    low = jax.tree.leaves(inputs)[0].shape[1]
    high = 2 * low
    while high <= LONGEST and takes(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(middle) else (low, middle)
    return low


_spec = partial(jax.tree.map, lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype))


def shapes(tree: Any) -> Any:
    """Returns the shapes and dtypes of a tree of arrays."""
    return _spec(tree)
