"""Accumulation: the gradient of a large batch, summed up from parts that fit into memory.

A step still reads one batch and adjusts the weights once. Only the memory changes: what a network
keeps of its insides for the gradient is that of one part. Each part weighs as much as its examples,
so the gradient is that of the whole batch, with masks and padding too.

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
from jaxnn.checks import multiple, positive_integer
from jaxnn.learning._learner import Gradients, Learner, compute_gradients


def accumulate(learner: Learner, parts: int) -> Learner:
    """Makes a learner that reads each training batch in `parts`, one after the other.

    Part `i` has every `parts`-th row of the batch, from row `i` on.

    Statistics of the network, as of batch normalization, are those of one part after the other; a
    loss over a whole batch becomes one over a part. What optimizers search along with the loss
    itself (`optax.lbfgs`) is that of the whole batch at once, in its memory.

    Args:
      learner: one that computes gradients.
      parts: a number that divides the batch size.

    Raises:
      InvalidType: when traced, if the learner computes no gradients, or none of a part.
      InvalidValue: if `parts` is not positive, or, when traced, does not divide the batch.
    """
    positive_integer("accumulate", "parts", parts)

    def gradients(state, batch, part=None, factor=None):
        first = 0 if part is None else part * parts
        size = len(jax.tree.leaves(batch)[0])
        multiple("accumulate", "batch_size", size, "parts", parts)
        # Each part has rows from all over the batch: where these are divided over devices, every
        # device has its share of every part.
        split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)

        def one(total, numbered):
            number, own = numbered
            of_part = of(state._replace(state=total.state), own, first + number)
            weight = of_part.loss.sums[1]
            values = jax.tree.map(
                lambda sum_, x: sum_ + x * weight.astype(x.dtype), total.values, of_part.values
            )
            loss, metrics = measures.merge(total[2:], of_part[2:])
            return Gradients(values, of_part.state, loss, metrics), None

        def of(state, own, number):
            return compute_gradients("accumulate", learner, state, own, part=number, factor=factor)

        shapes = jax.eval_shape(of, state, jax.tree.map(lambda x: x[0], split), 0)
        empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        begin = empty._replace(state=state.state)
        total, _ = lax.scan(one, begin, (jnp.arange(parts), split))
        weight = total.loss.sums[1]
        share = jnp.where(weight > 0, 1 / weight, 0.0)
        values = jax.tree.map(lambda x: x * share.astype(x.dtype), total.values)
        return total._replace(values=values)

    return learner._replace(gradients=gradients)
