"""What training asks of data. `Resident` gives it, `Windows`, streams, and a class of your own.

Data of your own live on the device: a pytree, the argument of the compiled program, that computes
the batch of any step.

    >>> import dataclasses, jax, jax.numpy as jnp
    >>> @jax.tree_util.register_dataclass
    ... @dataclasses.dataclass
    ... class Sines:
    ...     key: jax.Array
    ...     batch_size = 8
    ...     num_examples = 1_000_000
    ...     num_batches = 125_000
    ...     def shuffled(self, key):
    ...         return Sines(key)
    ...     def batch(self, step):
    ...         x = jax.random.uniform(jax.random.fold_in(self.key, step), (8, 1))
    ...         return {"inputs": x, "labels": jnp.sin(x), "index": step * 8 + jnp.arange(8)}
    ...     in_order = batch
    ...     @property
    ...     def examples(self):
    ...         return self.batch(0)
    >>> isinstance(Sines(jax.random.key(0)), Data)
    True
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxnn.typing import Any


@runtime_checkable
class Data(Protocol):
    """Examples to train and to evaluate on.

    Data on the device also have `batch(step)`, the training batch of a step, and
    `in_order(number)`, that batch of an evaluation; both pure, with numbers that may be traced.
    `columns`, if there, describe the table that the examples were, and `fingerprint()` gives a text
    that changes when the examples do; a run resumes only with the same.
    """

    @property
    def batch_size(self) -> int:
        """Examples in a batch, over all devices together."""
        ...

    @property
    def num_examples(self) -> int:
        """Examples in an epoch."""
        ...

    @property
    def num_batches(self) -> int:
        """The batches of an evaluation."""
        ...

    @property
    def examples(self) -> Mapping[str, Any]:
        """The examples, or some that stand for all, `[examples, ...]` each field."""
        ...

    def shuffled(self, key: Any) -> Any:
        """Returns the same data with the order, or the draws, chosen by `key`."""
        ...
