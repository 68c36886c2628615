"""Populations: `population` transforms `run` to train many members in one program.

Every array in `states` and `windows` has a leading axis of members, and so does `data.key`, the
data order of each member. The data themselves are shared. Hyper-parameters are part of the states,
so members may differ in hyper-parameters, in seeds, or in both.

With `width=1`, members train one after another. Each has the same bits as its single run, and the
loop updates the states in place, so no other memory is needed. On a CPU this is the fastest choice.
On GPU and TPU a small network leaves most of the chip idle, and training many members in parallel
(`jax.vmap` over `width` of them) costs little more than training one. Sums are then evaluated in
another order, so members agree with single runs only up to rounding.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.checks import multiple
from jaxnn.data._no_data import NoData
from jaxnn.loop._run import empty_window, trace_step
from jaxnn.typing import Any, Callable


def population(run: Callable[..., tuple[Any, Any]], width: int = 1) -> Callable[..., Any]:
    """Transforms a function that trains one run into a function that trains many.

    Args:
      run: a function with the signature of `jaxnn.run`.
      width: the number of members that train in parallel; it must divide the number of members.

    Returns:
      A function `(learner, states, data, n, windows=None, active=None) -> (states, windows)`.
      Members for which `active`, booleans `[members]`, is false do not change.
    """

    def runs(learner, states, data, n, windows=None, active=None):
        # Of keys that nothing reads, their number matters.
        data = NoData(states.step) if data is None else data
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
                # Under vmap a stopped member is computed too, and must not change.
                return after if width == 1 else where(active, after, carry)

            return (one if width == 1 else jax.vmap(one))(carry, keys, active)

        return in_blocks(some, width)((states, windows), data.key, active)

    return runs


def where(condition: Any, new: Any, old: Any) -> Any:
    """Selects between two trees leafwise."""
    return jax.tree.map(partial(jnp.where, condition), new, old)


def in_blocks(some: Callable[..., Any], width: int | None) -> Callable[..., Any]:
    """Returns a function that maps `some` over blocks of `width` rows, updating `carry` in place.

    `some` receives a leading axis only if `width` is above 1. If `width` is `None`, there is no
    leading axis, and `some` is returned.
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
