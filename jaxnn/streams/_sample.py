"""Samples of streams on the device, for recordings and plots that would read all examples."""

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
    """A sample of the examples of a stream on the device, a kind of `Resident`.

    Attributes:
      numbers: the indices of the examples in the stream.
    """

    numbers: Any

    def take(self, index: Any) -> Batch:
        """Returns examples by position in the sample; `index` is their index in the stream."""
        return {**super().take(index), "index": jnp.take(self.numbers, index, mode="clip")}


def sample(data: Data) -> Resident:
    """Returns a sample of the data on the device; `Resident` data are returned unchanged.

    Raises:
      InvalidValue: if there are no examples, because the learner generates its own data.
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
