"""A guarded learner leaves out the steps that would spoil it, and goes on from before them.

One batch can end a run: an example that overflows, a label that is NaN, a gradient that is infinite
once in a million. After it every parameter is NaN, and no later step mends that. A guarded learner
does such a step and throws away what it gave: parameters, optimizer and statistics stay as they
were, only the number of the step goes on, and so the next batch is another one. How often that
happens is a metric, `skipped`, to keep an eye on: a guard is no cure for a rate that is too high.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jaxnn.layers import linear
    >>> from jaxnn.learner import learner
    >>> from jaxnn.objectives import regression
    >>> line = guarded(learner(linear(1), regression(), optax.sgd(0.25)))
    >>> batch = {"inputs": jnp.array([[1.0]]), "labels": jnp.array([[2.0]])}
    >>> state = line.init(jax.random.key(0), {}, batch)
    >>> state, metrics = line.step(state, batch | {"labels": jnp.array([[jnp.nan]])})
    >>> int(state.step), int(state.extra["skipped"]), float(metrics["skipped"].value())
    (1, 1, 1.0)
    >>> line.predict(line.step(state, batch)[0], batch["inputs"]).tolist()
    [[2.0]]
"""

from functools import cache

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn import metrics as measures
from jaxnn.checks import kind
from jaxnn.learner import Learner, TrainState
from jaxnn.typing import Any, Array, Bool


@cache  # The same learner is guarded by the same functions, so that nothing compiles twice.
def guarded(learner: Learner) -> Learner:
    """Makes a learner that skips each step after which its loss or its state is not finite.

    A skipped step changes nothing but `state.step` and the count in `state.extra["skipped"]`, and
    its metrics have sums of 0: the mean over a window is that of the steps that were done. `NaN`
    or an infinity in a place of the state that was not finite before the step does not count, so
    an optimizer may begin with one. The loss is every metric whose name ends so.

    Args:
      learner: any whose state is a `TrainState`.

    Returns:
      A learner with one metric more, `skipped`: the share of steps that were.

    Raises:
      InvalidType: from `init`, if the learner's state is of another kind.
    """

    def init(key, hparams, batch):
        state = learner.init(key, hparams, batch)
        fix = (
            "Return a TrainState from init, or choose in a step of your own: lax.cond(good, lambda:"
            " after, lambda: before._replace(step=after.step))"
        )
        kind("guarded", "the state of the learner", state, TrainState, fix=fix)
        return state._replace(extra={**state.extra, "skipped": jnp.zeros((), jnp.int32)})

    def step(state, batch):
        after, metrics = learner.step(state, batch)
        losses = [metric.sums for name, metric in metrics.items() if name.endswith("loss")]

        def done():
            return after, {**metrics, "skipped": _share(0.0)}

        def skipped():
            extra = {**state.extra, "skipped": state.extra["skipped"] + 1}
            nothing = jax.tree.map(jnp.zeros_like, metrics)
            before = state._replace(step=after.step, extra=extra)
            return before, {**nothing, "skipped": _share(1.0)}

        # The sum of an array costs a fifth of looking at each number, and is finite only if they
        # are. If one is not, which may also be for their size, each is looked at.
        sums = jax.tree.map(jnp.sum, _floats((after, losses)))
        return lax.cond(
            _finite(sums),
            done,
            lambda: lax.cond(_finite(losses) & ~_spoilt(state, after), done, skipped),
        )

    return learner._replace(init=init, step=step)


def _share(skipped: float) -> measures.Metric:
    return measures.mean(jnp.float32(skipped), jnp.ones(()))


def _finite(tree: Any) -> Bool[Array, ""]:
    return jnp.all(jnp.array([jnp.isfinite(x).all() for x in _floats(tree)], bool))


def _spoilt(before: Any, after: Any) -> Bool[Array, ""]:
    """Returns whether a number that was finite is not any more."""
    pairs = zip(_floats(before), _floats(after))
    lost = [(jnp.isfinite(x) & ~jnp.isfinite(y)).any() for x, y in pairs]
    return jnp.any(jnp.array(lost, bool))


def _floats(tree: Any) -> list[Any]:
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
