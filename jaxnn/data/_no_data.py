"""What a learner that makes its own data is given: batches without fields.

In reinforcement learning, the examples of a step are what the current policy does. Such a learner
trains on `data=None`, which functions replace by `NoData`.

    >>> import jax
    >>> as_data(None).batch(3), as_data(None).in_order(0)
    ({}, {})
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import jax

from jaxnn.typing import Any, Batch


@partial(jax.tree_util.register_dataclass, data_fields=["key"], meta_fields=[])
@dataclass(frozen=True)
class NoData:
    """Batches `{}`: an evaluation has one of them, and an epoch has no length.

    Attributes:
      key: one key, or one for each member, as other data have it.
    """

    key: Any = None
    batch_size: ClassVar[int] = 0
    num_examples: ClassVar[int] = 0
    num_batches: ClassVar[int] = 1
    examples: ClassVar[Mapping[str, Any]] = {}

    def shuffled(self, key: Any) -> "NoData":
        """Returns the same with the key."""
        return replace(self, key=key)

    def batch(self, step: Any) -> Batch:
        """Returns a batch without fields."""
        return {}

    in_order = batch

    def fingerprint(self) -> str:
        """Returns a word in place of a digest: there are no examples that could change."""
        return "none"


def as_data(data: Any) -> Any:
    """Returns the data, or `NoData` for `None`."""
    return NoData() if data is None else data
