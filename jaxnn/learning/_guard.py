"""A guarded learner skips steps whose loss or gradient is not finite, and optionally loss spikes.

A single batch can ruin a run: after an infinite gradient every parameter is NaN, and stays NaN. A
guard does not fix a learning rate that is too high: the metric `skipped` reports how often it acts.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jaxnn.layers import linear
    >>> from jaxnn.learning import learner
    >>> from jaxnn.objectives import regression
    >>> line = guard(learner(linear(1), regression(), optax.sgd(0.25)))
    >>> batch = {"inputs": jnp.array([[1.0]]), "labels": jnp.array([[2.0]])}
    >>> state = line.init(jax.random.key(0), {}, batch)
    >>> state, metrics = line.step(state, batch | {"labels": jnp.array([[jnp.nan]])})
    >>> int(state.step), int(state.extra["skipped"]), float(metrics["skipped"].value())
    (1, 1, 1.0)
    >>> line.predict(line.step(state, batch)[0], batch["inputs"]).tolist()
    [[2.0]]
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn import metrics as measures
from jaxnn.checks import InvalidValue, positive
from jaxnn.layers._linear import at_least_float32
from jaxnn.learning._learner import Gradients, Learner, add_extra, require_gradients
from jaxnn.typing import Any, Array, Bool, Number

# The time constant of the running loss, in steps. Spikes are not skipped before that many steps.
MEMORY = 100
# An attribute of the `update` of a guarded learner, and of functions that wrap it.
MARK = "skips_steps"


def guard(learner: Learner, *, spike: Number | None = None) -> Learner:
    """Returns a learner that skips steps whose loss or gradient is not finite, and loss spikes.

    A skipped step changes only `state.step`, so that the next step reads another batch, and the
    counter `state.extra["skipped"]`. Its metrics have zero weight: the mean over a window covers
    the steps that were taken, and the metric `skipped` is the fraction that was skipped. The
    squares of gradients must be finite too, since optimizers square them, and so must the
    network's statistics. A guarded learner is returned unchanged.

    Args:
      learner: a learner that computes gradients.
      spike: skip losses that exceed the mean by this many standard deviations. Both are running
        statistics of the loss over about the last 100 steps that were taken. `None` skips no
        spikes; 6 is typical.

    Raises:
      InvalidType: when traced, if the learner computes no gradients.
      InvalidValue: if `spike` is not positive, or the learner is already guarded without it.
    """
    guarded = hasattr(learner.update, MARK)
    if guarded and spike is None:
        return learner
    if spike is not None:
        positive("guard", "spike", spike)
    if guarded:
        raise InvalidValue(
            "guard",
            "the learner is already guarded, but without this spike threshold",
            got=f"spike={spike}",
            expected="a learner that is not guarded, or no spike",
            fix="Guard first: scale_loss(guard(learner, spike=6.0))",
        )

    # Two guards of one learner are equal, so that their program is compiled once.
    settings = learner, None if spike is None else float(spike)
    return learner._replace(init=_Init(*settings), update=_Update(*settings))


@dataclass(frozen=True)
class _Init:
    """Initialises a guarded learner."""

    learner: Learner
    spike: float | None

    def __call__(self, key, hparams, batch):
        state = self.learner.init(key, hparams, batch)
        added: dict[str, Any] = {}
        # A guard inside a replaced `update` shares the counter.
        if "skipped" not in getattr(state, "extra", {}):
            added["skipped"] = jnp.zeros((), jnp.int32)
        if self.spike is not None:
            added["loss"] = {name: jnp.zeros(()) for name in ("mean", "variance", "count")}
        return add_extra("guard", state, **added)


@dataclass(frozen=True)
class _Update:
    """Updates a guarded learner; the attribute `skips_steps` is `MARK`."""

    learner: Learner
    spike: float | None
    skips_steps: bool = True

    def __call__(self, state, batch, gradients):
        loss = require_gradients("guard", gradients).loss
        good = is_finite(gradients)
        if self.spike is not None:
            recent = state.extra["loss"]
            is_far = loss.value() - recent["mean"] > self.spike * jnp.sqrt(recent["variance"])
            good &= ~(is_far & (recent["count"] >= MEMORY))

        def done():
            after, metrics = self.learner.update(state, batch, gradients)
            if self.spike is not None:
                recent = _recent(state.extra["loss"], loss)
                after = after._replace(extra={**after.extra, "loss": recent})
            return after, {"skipped": _share(0.0), **metrics}

        shapes = jax.eval_shape(done)

        def skipped():
            extra = {**state.extra, "skipped": state.extra["skipped"] + 1}
            nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[1])
            left = state._replace(step=state.step + 1, extra=extra)
            return left, {**nothing, "skipped": _share(1.0)}

        return lax.cond(good, done, skipped)


def is_finite(gradients: Gradients) -> Bool[Array, ""]:
    """Returns whether loss, gradients, their squares and the network's statistics are finite."""

    def squares(x):
        return jnp.vdot(x, x, preferred_element_type=at_least_float32(x.dtype))

    # Checking one sum takes a fifth of the time of checking every element.
    sums = [squares(x) for x in _floats(gradients.values)]
    others = _floats((gradients.state, gradients.loss.sums))
    return jnp.all(jnp.array([jnp.isfinite(x).all() for x in (*sums, *others)]))


def _recent(recent: dict[str, Any], loss: measures.Metric) -> dict[str, Any]:
    """Updates the exponentially weighted mean and variance with one loss.

    Source: Finch, Incremental calculation of weighted mean and variance, 2009, section 9.
    """
    total, weight = loss.sums
    counts = weight > 0  # a batch whose weights are all 0 has no loss
    count = recent["count"] + counts.astype(jnp.float32)
    share = jnp.where(counts, jnp.maximum(1 / jnp.maximum(count, 1), 1 / MEMORY), 0.0)
    step = total / jnp.where(counts, weight, 1.0) - recent["mean"]
    return {
        "mean": recent["mean"] + share * step,
        "variance": (1 - share) * (recent["variance"] + share * step**2),
        "count": count,
    }


def _share(skipped: float) -> measures.Metric:
    return measures.mean(jnp.float32(skipped), jnp.ones(()), better="lower")


def _floats(tree: Any) -> list[Any]:
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
