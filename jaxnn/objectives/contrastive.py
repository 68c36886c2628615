"""Contrastive learning: makes two views of the same example closer than views of different ones.

>>> import jax.numpy as jnp
>>> queries, keys = jnp.eye(2), jnp.eye(2)                      # each query equals its key
>>> batch = {"inputs": queries}
>>> values, weights = info_nce(temperature=0.1).loss((queries, keys), batch)
>>> float(values.max()) < 1e-4
True
"""

import jax
import jax.numpy as jnp

from jaxnn import metrics as measures
from jaxnn.checks import InvalidType, positive
from jaxnn.metrics.entropy import cross_entropy
from jaxnn.objectives._examples import shield
from jaxnn.objectives._objective import Objective, no_check, of_whole_batch, weights_of
from jaxnn.typing import Any, Number


def info_nce(*, temperature: Number = 0.1, symmetric: bool = True) -> Objective:
    """Returns the InfoNCE objective: classifies each query's key among all keys of the batch.

    Outputs are a pair `(queries, keys)`, `[batch, features]` each, such as those of a network
    `parallel(...)`; row `i` of the queries matches row `i` of the keys. Logits are cosine
    similarities divided by the temperature, and the loss is in nats. The metric is `accuracy`, the
    fraction of queries whose nearest key is the matching one.

    The loss of an example depends on the other examples in its batch, so it depends on the batch
    size (it is `log(batch)` without information), and it cannot be accumulated over micro-batches,
    or computed in the `output_parts` of a learner. Examples of weight 0 are excluded.

    Args:
      temperature: small values emphasise the nearest wrong keys. May be traced.
      symmetric: whether to average the loss with that of classifying each key's query.

    Raises:
      InvalidValue: if the temperature is not positive.
      InvalidType: when traced, if outputs are not two arrays `[batch, features]` of one shape.

    Source: van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018,
    eq. (4); symmetric: Radford et al., Learning Transferable Visual Models From Natural Language
    Supervision, ICML 2021, figure 3.
    """
    positive("info_nce", "temperature", temperature)

    def similarities(outputs, batch):
        queries, keys = _pair(outputs)
        weights = weights_of(batch, queries[:, 0])
        there = (weights != 0)[:, None]
        queries, keys = (_unit(jnp.where(there, x, 0)) for x in (queries, keys))
        cosines = jnp.matmul(queries, keys.T, precision="highest") / temperature
        return jnp.where(there & there.T, cosines, -1e9), weights

    def loss(outputs, batch):
        logits, weights = similarities(outputs, batch)
        own = jnp.arange(len(logits))
        losses = cross_entropy(logits, own)
        if symmetric:
            losses = 0.5 * (losses + cross_entropy(logits.T, own))
        return losses, weights

    def metrics(outputs, batch):
        logits, weights = similarities(outputs, batch)
        return {"accuracy": measures.accuracy(logits, jnp.arange(len(logits)), weights)}

    return Objective(of_whole_batch(shield(loss)), shield(metrics), check=no_check)


def _unit(vectors: Any) -> Any:
    """Normalizes vectors to length 1; a zero vector remains zero, with a finite gradient."""
    vectors = vectors.astype(jnp.float32)
    return vectors * jax.lax.rsqrt(jnp.sum(vectors**2, -1, keepdims=True) + 1e-12)


def _pair(outputs: Any) -> tuple[Any, Any]:
    shapes = [jnp.shape(x) for x in jax.tree.leaves(outputs)]
    pair = isinstance(outputs, tuple | list) and len(outputs) == 2 == len(shapes)
    if not pair or shapes[0] != shapes[1] or len(shapes[0]) != 2:
        raise InvalidType(
            "info_nce",
            "the outputs are not a pair of queries and keys",
            got=f"a {type(outputs).__name__} of arrays of shapes {', '.join(map(str, shapes))}",
            expected="two arrays [batch, features] of the same shape",
            fix="Give the network two outputs, as parallel(queries, keys) does",
        )
    return outputs[0], outputs[1]
