"""Examples of a stream on the device, for what would look at all: recordings and pictures."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidValue
from jaxnn.data._resident import Resident
from jaxnn.data.protocol import Data
from jaxnn.typing import Any, Batch


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays", "key", "numbers"],
    meta_fields=["batch_size", "padding"],
)
@dataclass(frozen=True, repr=False)
class Sample(Resident):
    """Some examples of a stream; as `Resident`, of which it is one.

    Attributes:
      numbers: of the examples in the stream.
    """

    numbers: Any

    def take(self, index: Any) -> Batch:
        """Returns examples by their place in the sample; their `index` is that in the stream."""
        return {**super().take(index), "index": jnp.take(self.numbers, index, mode="clip")}


def sample(data: Data) -> Resident:
    """Returns data on the device that stand for all, where all would be looked at.

    Those that are `Resident` stand for themselves.

    Raises:
      InvalidValue: if there are none, since the learner makes its own.
    """
    if isinstance(data, Resident):
        return data
    if not data.num_examples:
        raise InvalidValue(
            "sample",
            "the learner makes its own data, so that there are no examples",
            got="data=None",
            expected="data with examples of what the network reads",
            fix="Pass inputs",
        )
    arrays = dict(data.examples)
    count = jax.tree.leaves(arrays["inputs"])[0].shape[0]
    numbers = jnp.asarray(arrays.pop("index", np.arange(count)))
    arrays = jax.tree.map(jnp.asarray, arrays)
    return Sample(arrays, jax.random.key(0), min(data.batch_size, count), numbers)
