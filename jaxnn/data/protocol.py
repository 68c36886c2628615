"""The protocol of training data; `Resident`, `Windows`, `Stream` and custom classes implement it.

A custom class is a pytree on the device. It is an argument of the compiled program, and computes
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
    """Examples for training and evaluation.

    Data on the device also have two pure methods, whose arguments may be traced: `batch(step)`
    returns the training batch of a step, and `in_order(number)` an evaluation batch. Two attributes
    are optional: `columns` describe the table that the examples were encoded from, and
    `fingerprint()` returns a string that changes when the examples change; a run resumes only if it
    has not changed.
    """

    @property
    def batch_size(self) -> int:
        """The number of examples in a batch, over all devices."""
        ...

    @property
    def num_examples(self) -> int:
        """The number of examples in an epoch."""
        ...

    @property
    def num_batches(self) -> int:
        """The number of batches in an evaluation."""
        ...

    @property
    def examples(self) -> Mapping[str, Any]:
        """The fields of all examples or of a representative sample, `[examples, ...]` each."""
        ...

    def shuffled(self, key: Any) -> Any:
        """Returns the same data with the order, or the random draws, determined by `key`."""
        ...
