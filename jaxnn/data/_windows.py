"""Windows of a text, or of any long sequence: each is an example, and the text is stored once.

An example is `length` places in a row. Training takes them from anywhere, evaluation one after the
other; which ones make the batch of a step is a function of `(key, step)`, as for all resident data.

    >>> import numpy as np
    >>> text = windows(np.arange(10), 4, batch_size=2)
    >>> text
    Windows(7 of length 4 in batches of 2: inputs int32[])
    >>> text.in_order(1)["inputs"].tolist()
    [[2, 3, 4, 5], [3, 4, 5, 6]]
    >>> windows(np.arange(10), 4, stride=3, batch_size=2).in_order(1)["inputs"].tolist()
    [[6, 7, 8, 9], [6, 7, 8, 9]]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, positive_integer
from jaxnn.data._fields import computed
from jaxnn.data._resident import Resident, stored
from jaxnn.typing import Any, Batch


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays", "key"],
    meta_fields=["batch_size", "length", "stride"],
)
@dataclass(frozen=True, repr=False)
class Windows(Resident):
    """Windows of a sequence on the device; as `Resident`, of which it is one.

    Attributes:
      length: the places of a window.
      stride: the distance from one window to the next.
    """

    length: int
    stride: int

    @property
    def num_examples(self) -> int:
        """The number of windows."""
        return 1 + (self.arrays["inputs"].shape[0] - self.length) // self.stride

    @property
    def examples(self) -> dict[str, Any]:
        """Every place in some window, `{"inputs": [windows, length, ...]}`, on the host."""
        text = np.asarray(self.arrays["inputs"])
        whole = len(text) // self.length
        parts = text[: whole * self.length].reshape(whole, self.length, *text.shape[1:])
        return {"inputs": np.concatenate([parts, text[None, -self.length :]])}

    def take(self, index: Any) -> Batch:
        """Returns the windows with these numbers: `inputs` and `index`."""
        places = index[:, None] * self.stride + jnp.arange(self.length, dtype=jnp.int32)[None]
        inputs = jnp.take(self.arrays["inputs"], places, axis=0, mode="clip")
        return {"inputs": inputs, "index": index}

    def __repr__(self) -> str:
        text = self.arrays["inputs"]
        return (
            f"Windows({self.num_examples} of length {self.length} in batches of"
            f" {self.batch_size}: inputs {text.dtype}{list(text.shape[1:])})"
        )


def windows(sequence: Any, length: int, *, batch_size: int, stride: int = 1) -> Windows:
    """Puts a long sequence on the device, whose windows are the examples.

    Batches are `{"inputs": [batch_size, length, ...]}`. `next_token` reads of each window the next
    token after each but the last: give it windows of `length=context + 1`, and for evaluation
    `stride=context`, so that each token is predicted once.

    Args:
      sequence: `[time, ...]` numbers, such as the tokens of a text, in their storage dtype.
      length: the places of a window.
      batch_size: windows in a batch, over all devices together.
      stride: the distance from one window to the next. What is left at the end, of fewer places
        than that, is in no window.

    Raises:
      InvalidValue: if a number is not positive, the sequence is shorter than a window, or its
        numbers cannot be stored, as `resident` says.
      InvalidType: if it holds no numbers.
    """
    for name, number in (("length", length), ("batch_size", batch_size), ("stride", stride)):
        positive_integer("windows", name, number)
    sequence = computed(sequence)
    if isinstance(sequence, str | Mapping) or not np.size(sequence):
        raise InvalidType(
            "windows",
            "this is no sequence of numbers",
            got=f"a {type(sequence).__name__} of length {len(sequence)}",
            expected="one array [time, ...] of numbers",
            fix="Pass Characters(text).encode(text) for a text",
        )
    arrays = jax.tree.map(jnp.asarray, stored("windows", {"inputs": sequence}))
    time = arrays["inputs"].shape[0]
    if time < length:
        raise InvalidValue(
            "windows",
            "the sequence is shorter than a window",
            got=f"{time} places and length={length}",
            expected=f"at least {length} places",
            fix="Give a longer sequence, or shorter windows",
        )
    return Windows(arrays, jax.random.key(0), int(batch_size), int(length), int(stride))
