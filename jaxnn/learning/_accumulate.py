"""Gradient accumulation: sums the gradient of a large batch over parts that fit into memory.

A step still reads one batch and updates the weights once. Only the memory changes: the activations
that are stored for the backward pass are those of one part. Parts are weighted by their example
weights, so the gradient equals that of the whole batch, including masks and padding.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jaxnn.layers import linear
    >>> from jaxnn.learning import learner
    >>> from jaxnn.objectives import regression
    >>> line = learner(linear(1), regression(), optax.sgd(0.25))
    >>> batch = {"inputs": jnp.arange(6.0)[:, None], "labels": jnp.ones((6, 1))}
    >>> state = line.init(jax.random.key(0), {}, batch)
    >>> whole, parts = line.step(state, batch)[0], accumulate(line, 3).step(state, batch)[0]
    >>> bool(jnp.allclose(whole.params["weight"], parts.params["weight"]))
    True
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn import metrics as measures
from jaxnn.checks import positive_integer
from jaxnn.layers._linear import at_least_float32
from jaxnn.learning._learner import Gradients, Learner, compute_gradients
from jaxnn.learning._output import split_rows


def accumulate(learner: Learner, parts: int) -> Learner:
    """Returns a learner that computes the gradient of each batch in `parts`, one after the other.

    Part `i` has every `parts`-th row of the batch, starting at row `i`.

    Running statistics, such as those of batch normalization, are updated by each part in turn. A
    loss over a whole batch, such as a contrastive one, becomes a loss over each part. Optimizers
    that evaluate the loss themselves (`optax.lbfgs`) evaluate it on the whole batch, which needs
    the memory of the whole batch.

    Args:
      learner: a learner that computes gradients.
      parts: the number of parts; it must divide the batch size.

    Raises:
      InvalidType: when traced, if the learner computes no gradients or does not accept `part`.
      InvalidValue: if `parts` is not positive, or, when traced, does not divide the batch size.
    """
    positive_integer("accumulate", "parts", parts)

    def gradients(state, batch, part=None, factor=None):
        first = 0 if part is None else part * parts
        split = split_rows("accumulate", batch, "parts", parts)

        def one(total, numbered):
            number, own = numbered
            of_part = of(state._replace(state=total.state), own, first + number)
            weight = of_part.loss.sums[1]

            def added(total, x):
                return total + x.astype(total.dtype) * weight.astype(total.dtype)

            values = jax.tree.map(added, total.values, of_part.values)
            loss, metrics = measures.merge(total[2:], of_part[2:])
            return Gradients(values, of_part.state, loss, metrics), None

        def of(state, own, number):
            return compute_gradients("accumulate", learner, state, own, part=number, factor=factor)

        shapes = jax.eval_shape(of, state, jax.tree.map(lambda x: x[0], split), 0)
        empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        # In half precision, a sum of many parts would lose the small ones.
        sums = jax.tree.map(lambda x: x.astype(at_least_float32(x.dtype)), empty.values)
        begin = empty._replace(values=sums, state=state.state)
        total, _ = lax.scan(one, begin, (jnp.arange(parts), split))
        weight = total.loss.sums[1]
        share = jnp.where(weight > 0, 1 / weight, 0.0)

        def mean(total, like):
            return (total * share.astype(total.dtype)).astype(like.dtype)

        return total._replace(values=jax.tree.map(mean, total.values, empty.values))

    return learner._replace(gradients=gradients)
