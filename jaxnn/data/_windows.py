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

Of several documents one behind the other, `segments` say which place is of which:

    >>> text = windows([5, 6, 7, 8, 9], 4, batch_size=2, segments=[1, 1, 1, 2, 2])
    >>> text.in_order(0)["segments"].tolist()
    [[1, 1, 1, 2], [1, 1, 2, 2]]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import InvalidType, InvalidValue, positive_integer
from jaxnn.data._fields import as_numpy, computed
from jaxnn.data._resident import Resident, stored
from jaxnn.typing import Any, Batch


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays", "key"],
    meta_fields=["batch_size", "padding", "length", "stride"],
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
        places = self.arrays["inputs"].shape[0] - self.padding
        return 1 + (places - self.length) // self.stride

    @property
    def examples(self) -> dict[str, Any]:
        """Every place in some window, `{"inputs": [windows, length, ...]}`, on the host."""

        def cut(x):
            whole = len(x) // self.length
            parts = x[: whole * self.length].reshape(whole, self.length, *x.shape[1:])
            return np.concatenate([parts, x[None, -self.length :]])

        return {name: cut(np.asarray(field)) for name, field in self.arrays.items()}

    def take(self, index: Any) -> Batch:
        """Returns the windows with these numbers: `inputs`, `segments` if any, and `index`."""
        places = index[:, None] * self.stride + jnp.arange(self.length, dtype=jnp.int32)[None]
        fields = {
            name: jnp.take(field, places, axis=0, mode="clip")
            for name, field in self.arrays.items()
        }
        return {**fields, "index": index}

    def __repr__(self) -> str:
        text = self.arrays["inputs"]
        return (
            f"Windows({self.num_examples} of length {self.length} in batches of"
            f" {self.batch_size}: inputs {text.dtype}{list(text.shape[1:])})"
        )


def windows(
    sequence: Any, length: int, *, batch_size: int, stride: int = 1, segments: Any = None
) -> Windows:
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
      segments: for documents one behind the other, the number of that of each place, `[time]`
        from 1, such as `np.repeat(np.arange(1, n + 1), lengths)`; 0 where a place is empty. Then
        no place of a window looks into another document, and no prediction crosses a border.
        Without them the sequence is one document.

    Raises:
      InvalidValue: if a number is not positive, the sequence is shorter than a window, its numbers
        cannot be stored, as `resident` says, or the segments do not fit.
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
    # Checked as one row, which they are.
    fields = {"inputs": sequence} if segments is None else _with_segments(sequence, segments)
    arrays = jax.tree.map(jnp.asarray, stored("windows", fields))
    if segments is not None:
        arrays = {name: field[0] for name, field in arrays.items()}
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


def _with_segments(sequence: Any, segments: Any) -> dict[str, Any]:
    """Returns both as a row, in which the door for data checks them."""
    sequence = as_numpy("windows", "the sequence", sequence)
    segments = as_numpy("windows", "segments", segments)
    if segments.shape != sequence.shape[:1]:
        raise InvalidValue(
            "windows",
            "segments do not fit the sequence",
            got=f"segments {list(segments.shape)} and a sequence {list(sequence.shape)}",
            expected="the number of a document for each place, [time]",
            fix="Pass np.repeat(np.arange(1, n + 1), lengths) for n documents of these lengths",
        )
    return {"inputs": sequence[None], "segments": segments[None]}
