"""The writing program of a language model: reads a chunk of tokens and updates its memory.

The model file of a language model contains it in addition to the prediction program, so that it
generates text as fast as `generate`; `fit` writes it at the end of a run, from which files are
exported. The lengths of the chunk and of the memory are symbolic.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import export as jax_export

from jaxnn.checks import InvalidType
from jaxnn.driver.chunks import Training
from jaxnn.layers._memory import remembering
from jaxnn.models._writing import empty_memory
from jaxnn.runs.lowering import LONGEST, PLATFORMS, greatest, used_arrays
from jaxnn.runs.prediction import Bind, bound, input_shapes
from jaxnn.storage.program import Program, program_of
from jaxnn.typing import Any


class Piece(NamedTuple):
    """The inputs of the program; they are passed as a dict.

    Attributes:
      fresh: whether to start with an empty memory; the values of `memory` are then ignored.
      memory: the memory of the tokens that were read before, with room for the next ones.
      tokens: the tokens to read, int32 `[1, length]`.
    """

    fresh: Any
    memory: Any
    tokens: Any


def export(training: Training) -> Program | None:
    """Returns the writing program of a run; `None` if its network is not a language model."""
    learner = training.learner
    if learner.parts is None:
        return None
    bind, leaves, state = bound(training)
    inputs = input_shapes(training, state)
    text = is_text(inputs, jax.eval_shape(learner.predict, state, inputs))
    return exported(bind, leaves) if text else None


def is_text(inputs: Any, outputs: Any) -> bool:
    """Returns whether a function maps tokens `[batch, time]` to logits `[batch, time, n]`."""
    if not (hasattr(inputs, "dtype") and hasattr(outputs, "dtype")):
        return False
    whole = jnp.issubdtype(jnp.dtype(inputs.dtype), jnp.integer)
    two, three = tuple(inputs.shape), tuple(outputs.shape)
    return whole and len(two) == 2 and len(three) == 3 and three[:2] == two


def exported(bind: Bind, arrays: Any) -> Program:
    """Returns the program `(arrays, piece) -> {"logits": ..., "memory": ...}` of a network.

    Args:
      bind: a function from arrays to the network, its parameters and its state.
      arrays: the shapes of the arrays that the program may read, by name.

    Raises:
      Exception: of any type, if the network cannot read in chunks, or JAX cannot lower it.
    """
    most = _longest(bind, arrays)
    bounds = () if most is None else (f"context <= {most}",)
    scope = jax_export.SymbolicScope(("length <= context", *bounds))
    sizes: Any = jax_export.symbolic_shape("length, context", scope=scope)
    length, context = sizes

    def empty(arrays, context):
        network, params, state = bind(arrays)
        return empty_memory(remembering(network, context), params, state, 1)

    def step(arrays, piece):
        network, params, state = bind(arrays)
        memory = jax.tree.map(
            lambda new, old: jnp.where(piece["fresh"], new, old),
            empty(arrays, context),
            piece["memory"],
        )
        reader = remembering(network, context)
        logits, memory = reader.apply(params, memory, piece["tokens"])
        return {"logits": logits[0, -1], "memory": memory}

    memory = jax.eval_shape(partial(empty, context=context), arrays)
    if all(isinstance(size, int) for x in jax.tree.leaves(memory) for size in x.shape):
        raise _cannot_read_chunks("no memory that grows with the context")
    fresh, tokens = (jax.ShapeDtypeStruct(s, d) for s, d in (((), bool), ((1, length), jnp.int32)))
    piece = Piece(fresh, memory, tokens)._asdict()
    used = used_arrays(step, arrays, piece)
    return program_of(jax_export.export(jax.jit(step), platforms=PLATFORMS)(used, piece))


def _longest(bind: Bind, arrays: Any) -> int | None:
    """Returns the maximum memory length of a network; `None` if it is unbounded."""

    def traced(context):
        def init(arrays):
            network, _, _ = bind(arrays)
            tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
            return remembering(network, context).init(jax.random.key(0), tokens)

        jax.eval_shape(init, arrays)

    most = greatest(traced, 1)
    if most == 1:
        raise _cannot_read_chunks("no memory for two tokens")
    return None if most == LONGEST else most


def _cannot_read_chunks(got: str) -> InvalidType:
    return InvalidType(
        "export",
        "the network cannot read a text in chunks",
        got=got,
        expected="causal attention, and layers that act on each position separately",
        fix="Use the model for predictions only",
    )
