"""Cross-entropy of logits and integer labels.

>>> import jax.numpy as jnp
>>> cross_entropy(jnp.zeros((2, 4)), jnp.array([1, 0])).round(3).tolist()    # log(4) nats, twice
[1.38600003..., 1.38600003...]
"""

import jax
import jax.numpy as jnp

from jaxnn.checks import is_concrete
from jaxnn.layers._platforms import by_platform
from jaxnn.typing import Any, Number


def cross_entropy(logits: Any, labels: Any, smoothing: Number = 0.0) -> Any:
    """Returns `-log softmax(logits)[label]` in nats, a float32 array `[...]`.

    Args:
      logits: `[..., classes]`, of any floating-point dtype.
      labels: integers `[...]`.
      smoothing: the fraction of each label's probability that is spread evenly over all classes.
    """
    logits, labels = logits.astype(jnp.float32), labels.astype(jnp.int32)
    normalizer = jax.nn.logsumexp(logits, -1)
    losses = normalizer - by_platform(logits, labels, cpu=_gathered, default=_selected)
    if not is_concrete(smoothing) or smoothing != 0:
        even = normalizer - jnp.mean(logits, -1)
        losses = (1.0 - smoothing) * losses + smoothing * even
    return losses


def _gathered(logits: Any, labels: Any) -> Any:
    """Returns the logit of each label: on CPU, the fastest form."""
    return jnp.take_along_axis(logits, labels[..., None], -1)[..., 0]


def _selected(logits: Any, labels: Any) -> Any:
    """Returns the logit of each label as a sum, which XLA fuses with those of the softmax.

    For a gather, an accelerator stores the logits again, in float32. They are the largest array of
    a language model's training step.
    """
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return jnp.sum(jnp.where(classes == labels[..., None], logits, 0.0), -1)
