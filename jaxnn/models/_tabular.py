"""A network for tables: an MLP of numbers and of embeddings of categories.

>>> tabular([3, 5], [16], 2, width=4)
tabular(sizes=(3, 5), outputs=2, width=4)
  columns: parallel(combine=side_by_side)
    numbers: numbers()
    categories: serial()
      rows: rows()
      embedding: embedding(symbols=8, features=4)
      flatten: flatten()
  layers: mlp(hidden=(16,), outputs=2)
    flatten: flatten()
    hidden_1: linear(features=16)
    activation_1: activation(function=relu)
    output: linear(features=2)
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType, positive_integer
from jaxnn.layers import embedding, flatten
from jaxnn.models.feedforward import mlp
from jaxnn.network import Network, describe, parallel, serial, stateless
from jaxnn.typing import Any


def tabular(
    sizes: Sequence[int], hidden: Sequence[int], outputs: int, *, width: int = 8, **options: Any
) -> Network:
    """Returns an MLP of numbers and embedded categories, with outputs `[batch, outputs]`.

    Inputs are `{"numbers": [batch, features], "categories": integers [batch, columns]}`, or one
    array if there are no categorical columns. The last row of each column's embedding is for values
    that are not in the training data: it is initially 0, and stays 0 unless it is trained.

    Args:
      sizes: the number of embedding rows of each categorical column, such as `columns.sizes`.
      hidden: the number of nodes of each hidden layer.
      outputs: the number of output nodes.
      width: the length of an embedding row.
      **options: the arguments `activation`, `dropout` and `scale` of `mlp`.

    Raises:
      InvalidValue: if a size is not positive.
      InvalidType: at trace time, if the inputs are not such a dict.
    """
    for size in sizes:
        positive_integer("tabular", "a size", size)
    layers = mlp(hidden, outputs, **options)
    if not sizes:
        return layers
    first = np.cumsum([0, *sizes[:-1]], dtype=np.int32)
    last = first + np.asarray(sizes, np.int32) - 1
    table = embedding(sum(sizes), width)

    def init(key, inputs):
        params, state = table.init(key, inputs)
        return {"weight": params["weight"].at[last].set(0.0)}, state

    def rows(params, inputs):
        return jnp.clip(_field(inputs, "categories"), 0, (last - first)[None]) + first[None]

    def numbers(params, inputs):
        return _field(inputs, "numbers")

    categories = serial(
        ("rows", describe(stateless(rows), "rows")),
        ("embedding", table._replace(init=init)),
        ("flatten", flatten()),
    )
    columns = parallel(
        ("numbers", describe(stateless(numbers), "numbers")),
        ("categories", categories),
        combine=_side_by_side,
    )
    network = serial(("columns", columns), ("layers", layers))
    return describe(network, "tabular", sizes=tuple(sizes), outputs=outputs, width=width)


def _field(inputs: Any, name: str) -> Any:
    if isinstance(inputs, dict) and name in inputs:
        return inputs[name]
    raise InvalidType(
        "tabular",
        "the inputs are not numbers and categories",
        got=f"fields {', '.join(inputs)}" if isinstance(inputs, dict) else "one array",
        expected="{'numbers': [batch, features], 'categories': [batch, columns]}",
        fix="Pass columns.encode(rows)['inputs']",
    )


def _side_by_side(outputs: tuple[Any, ...]) -> Any:
    numbers, categories = outputs
    return jnp.concatenate([numbers.astype(categories.dtype), categories], axis=-1)
