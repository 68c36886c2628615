"""Populations: many training runs as one program, a transform of `run`.

Every array of `states` and `windows` has a leading axis of members, and so has `data.key`, the
order of each member's data; the data themselves are shared. Hyper-parameters are in the states, so
members differ in them, in their seeds, or in both.

One after another (`width=1`), members have the bits of their single runs, and need no memory but
that of their states: the loop over members updates these in place. That is as fast as anything on a
CPU. On GPU and TPU a small network leaves most of the chip idle, and many members side by side
(`jax.vmap` over `width` of them) cost little more than one; sums are then taken in another order,
so that members agree with single runs to rounding only.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.checks import multiple
from jaxnn.loop._run import empty_window, trace_step
from jaxnn.typing import Any, Callable


def population(run: Callable[..., tuple[Any, Any]], width: int = 1) -> Callable[..., Any]:
    """Transforms `run` of one run to that of many.

    Args:
      run: as `jaxnn.run`.
      width: how many members to train at once; divides their number.

    Returns:
      `(learner, states, data, n, windows=None, active=None) -> (states, windows)`. Where `active`,
      booleans `[members]`, is false, nothing changes.
    """

    def runs(learner, states, data, n, windows=None, active=None):
        members = data.key.shape[0]
        multiple("population", "members", members, "width", width)
        if windows is None:
            first = jax.eval_shape(lambda tree: jax.tree.map(lambda x: x[0], tree), states)
            window = empty_window(trace_step(learner, first, data.shuffled(data.key[0]))[1][1])
            windows = jax.tree.map(lambda x: jnp.zeros((members, *x.shape), x.dtype), window)
        active = jnp.ones(members, bool) if active is None else active

        def some(carry, keys, active):
            count = jnp.where(active.any(), n, 0)

            def one(carry, key, active):
                after = run(learner, carry[0], data.shuffled(key), count, carry[1])
                # Side by side, a member that has stopped is computed too, and must not change.
                return after if width == 1 else where(active, after, carry)

            return (one if width == 1 else jax.vmap(one))(carry, keys, active)

        return in_blocks(some, width)((states, windows), data.key, active)

    return runs


def where(condition: Any, new: Any, old: Any) -> Any:
    """Returns one tree or the other."""
    return jax.tree.map(partial(jnp.where, condition), new, old)


def in_blocks(some: Callable[..., Any], width: int | None) -> Callable[..., Any]:
    """Returns `(carry, *others) -> carry` over a leading axis, `width` at a time, in place.

    `some` sees the leading axis only where `width` is above 1. Without a width there is none.
    """
    if width is None:
        return some

    def over(carry, *others):
        members = jax.tree.leaves(carry)[0].shape[0]

        def body(number, carry):
            def part(x):
                block = lax.dynamic_slice_in_dim(x, number * width, width)
                return block[0] if width == 1 else block

            def put(x, new):
                block = new[None] if width == 1 else new
                return lax.dynamic_update_slice_in_dim(x, block, number * width, 0)

            here, rest = jax.tree.map(part, (carry, others))
            return jax.tree.map(put, carry, some(here, *rest))

        return lax.fori_loop(0, members // width, body, carry)

    return over
