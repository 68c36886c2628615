"""The bridge to Flax: converts NNX and Linen models to networks, and back with trained parameters.

The concepts correspond as follows:

| here              | NNX                                    | Linen                          |
|-------------------|----------------------------------------|--------------------------------|
| `params`          | the `nnx.Param` variables              | the collection `params`        |
| `state`           | all other variables but random streams | `{collection: tree}`, the rest |
| a key: training   | `model.train()`, streams from the key  | `train=True`, `rngs=...`       |
| no key: inference | `model.eval()`; `nnx.Cache` advances   | `train=False`; `cache` advances |

`from_flax` returns a network; `to_flax` and `flax_parameters` convert parameters between the two,
bit for bit. Names do not change, except that the index of a layer in a list becomes a string.

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> network = from_flax(nnx.Linear, in_features=2, out_features=3)
    >>> params, state = network.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> jax.tree.map(jnp.shape, params), state
    ({'bias': (3,), 'kernel': (2, 3)}, {})
    >>> to_flax(nnx.Linear, params, in_features=2, out_features=3)(jnp.ones((1, 2))).shape
    (1, 3)

The module `calling` documents how a model is called.
"""

from jaxnn.models.flax._from_flax import flax_parameters, from_flax, to_flax

__all__ = ["flax_parameters", "from_flax", "to_flax"]
