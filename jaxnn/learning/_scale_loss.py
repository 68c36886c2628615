"""Dynamic loss scaling, which keeps float16 gradients from underflowing.

In float16, numbers below 6e-8 round to 0, and many gradients are smaller. So the loss is multiplied
by a factor before differentiation, and the gradient is divided by it afterwards. The factor doubles
after 2,000 finite steps, and halves when a gradient overflows. bfloat16 has the range of float32
and needs no loss scaling.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jaxnn.layers import linear
    >>> from jaxnn.learning import learner
    >>> from jaxnn.objectives import regression
    >>> from jaxnn.transforms import mixed_precision
    >>> network = mixed_precision(linear(1), jnp.float16)
    >>> line = scale_loss(learner(network, regression(), optax.sgd(0.25)))
    >>> batch = {"inputs": jnp.array([[1.0]]), "labels": jnp.array([[2e4]])}
    >>> state = line.init(jax.random.key(0), {}, batch)
    >>> state, metrics = line.step(state, batch)                # 2e4 * 32768 is too large
    >>> float(metrics["skipped"].value()), float(state.extra["loss_scale"]["factor"])
    (1.0, 16384.0)
"""

from functools import wraps

import jax.numpy as jnp

from jaxnn.learning._guard import guard, is_finite
from jaxnn.learning._learner import Learner, add_extra, compute_gradients

FIRST, PATIENCE = 2.0**15, 2000


def scale_loss(learner: Learner) -> Learner:
    """Returns a learner that scales its loss, and skips steps whose gradient overflows.

    The learner is also guarded (see `guard`). The factor is `state.extra["loss_scale"]["factor"]`.

    Args:
      learner: a learner that computes gradients, of a network that computes in float16.

    Raises:
      InvalidType: when traced, if the learner computes no gradients or does not accept `factor`.
      InvalidValue: when traced, if the loss is already scaled.

    Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.2,
    https://arxiv.org/abs/1710.03740; the constants agree with NVIDIA's and PyTorch's scalers.
    """
    learner = guard(learner)

    def init(key, hparams, batch):
        state = learner.init(key, hparams, batch)
        scale = {"factor": jnp.float32(FIRST), "good": jnp.zeros((), jnp.int32)}
        return add_extra("scale_loss", state, loss_scale=scale)

    def gradients(state, batch, part=None, factor=None):
        own = state.extra["loss_scale"]["factor"]
        factor = own if factor is None else own * factor
        return compute_gradients("scale_loss", learner, state, batch, part=part, factor=factor)

    @wraps(learner.update)  # copies the mark of `guard`
    def update(state, batch, gradients):
        after, metrics = learner.update(state, batch, gradients)
        factor, good = (state.extra["loss_scale"][name] for name in ("factor", "good"))
        overflowed = ~is_finite(gradients)
        good = jnp.where(overflowed, 0, good + 1)
        grows = good == PATIENCE
        lower = jnp.maximum(factor / 2, 1.0)
        factor = jnp.where(overflowed, lower, jnp.where(grows, factor * 2, factor))
        scale = {"factor": factor, "good": jnp.where(grows, 0, good)}
        return after._replace(extra={**after.extra, "loss_scale": scale}), metrics

    return learner._replace(init=init, gradients=gradients, update=update)
