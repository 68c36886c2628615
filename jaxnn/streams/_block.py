"""Consecutive batches of a stream on the device, as the compiled program reads them."""

from dataclasses import dataclass, replace
from functools import partial

import jax

from jaxnn.typing import Any, Batch


@partial(jax.tree_util.register_dataclass, data_fields=["arrays", "first", "key"], meta_fields=[])
@dataclass(frozen=True)
class Block:
    """Consecutive batches on the device.

    Attributes:
      arrays: the fields and `index`, `[batches, batch_size, ...]`; with separate batches for each
        member, `[members, batches, batch_size, ...]`.
      first: the number of the first batch.
      key: the indices of the members, `[members]`, if members have separate batches; else `None`.
    """

    arrays: dict[str, Any]
    first: Any
    key: Any = None

    def batch(self, step: Any) -> Batch:
        """Returns the batch of a step within the block."""
        return jax.tree.map(lambda x: x[step - self.first], self.arrays)

    in_order = batch

    def shuffled(self, key: Any) -> "Block":
        """Returns the batches of the member with index `key`."""
        if self.key is None:
            return self
        return replace(self, arrays=jax.tree.map(lambda x: x[key], self.arrays), key=None)
