"""Empty batches for learners that generate their own data.

In reinforcement learning, the current policy generates the examples of a step. Such a learner
trains with `data=None`, which is replaced by `NoData`.

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
    """Data whose batches are `{}`; an evaluation has one batch, and an epoch has no examples.

    Attributes:
      key: one key, or one for each member, as in other data.
    """

    key: Any = None
    batch_size: ClassVar[int] = 0
    num_examples: ClassVar[int] = 0
    num_batches: ClassVar[int] = 1
    examples: ClassVar[Mapping[str, Any]] = {}

    def shuffled(self, key: Any) -> "NoData":
        """Returns the same data with another key."""
        return replace(self, key=key)

    def batch(self, step: Any) -> Batch:
        """Returns a batch without fields."""
        return {}

    in_order = batch

    def fingerprint(self) -> str:
        """Returns a constant, since there are no examples that could change."""
        return "none"


def as_data(data: Any) -> Any:
    """Returns the data, or `NoData` for `None`."""
    return NoData() if data is None else data
