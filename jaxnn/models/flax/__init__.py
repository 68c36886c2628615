"""The bridge to Flax: any NNX or Linen model is a `Network`, and goes back with what it learned.

A Flax model has the parts of a network under other names:

| here              | NNX                                    | Linen                          |
|-------------------|----------------------------------------|--------------------------------|
| `params`          | the `nnx.Param` variables              | the collection `params`        |
| `state`           | all other variables but random streams | `{collection: tree}`, the rest |
| a key: training   | `model.train()`, streams from the key  | `train=True`, `rngs=...`       |
| no key: inference | `model.eval()`; `nnx.Cache` advances   | `train=False`; `cache` advances |

So `from_flax` gives a network like any other, and `to_flax` and `flax_parameters` carry parameters
across, bit for bit. Names stay as they are; the number of a layer in a list is a string here.

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> network = from_flax(nnx.Linear, in_features=2, out_features=3)
    >>> params, state = network.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> jax.tree.map(jnp.shape, params), state
    ({'bias': (3,), 'kernel': (2, 3)}, {})
    >>> to_flax(nnx.Linear, params, in_features=2, out_features=3)(jnp.ones((1, 2))).shape
    (1, 3)

How a model is called, and what else it may need, is said in `calling`.
"""

from jaxnn.models.flax._from_flax import flax_parameters, from_flax, to_flax

__all__ = ["flax_parameters", "from_flax", "to_flax"]
