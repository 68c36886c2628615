"""Windows of a text or another long sequence: each window is an example; the text is stored once.

An example is `length` consecutive positions. Training reads windows in random order, evaluation in
sequence. The batch of a step is a function of `(key, step)`, as for all resident data.

    >>> import numpy as np
    >>> text = windows(np.arange(10), 4, batch_size=2)
    >>> text
    Windows(7 of length 4 in batches of 2: inputs int32[])
    >>> text.in_order(1)["inputs"].tolist()
    [[2, 3, 4, 5], [3, 4, 5, 6]]
    >>> windows(np.arange(10), 4, stride=3, batch_size=2).in_order(1)["inputs"].tolist()
    [[6, 7, 8, 9], [6, 7, 8, 9]]

For concatenated documents, `segments` hold the number of the document of each position:

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
from jaxnn.data._resident import Resident, placed
from jaxnn.typing import Any, Batch


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays", "key"],
    meta_fields=["batch_size", "padding", "length", "stride"],
)
@dataclass(frozen=True, repr=False)
class Windows(Resident):
    """Windows of a sequence on the device, a kind of `Resident`.

    Attributes:
      length: the number of positions in a window.
      stride: the distance between the starts of consecutive windows.
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
        """Windows that cover every position, `{"inputs": [windows, length, ...]}`, on the host."""

        def cut(x):
            whole = len(x) // self.length
            parts = x[: whole * self.length].reshape(whole, self.length, *x.shape[1:])
            return np.concatenate([parts, x[None, -self.length :]])

        return {name: cut(np.asarray(field)) for name, field in self.arrays.items()}

    def take(self, index: Any) -> Batch:
        """Returns the windows at the given indices: `inputs`, `segments` if any, and `index`."""
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
    """Puts a long sequence on the device; its windows are the examples.

    Batches are `{"inputs": [batch_size, length, ...]}`. `next_token` predicts every token of a
    window except the first. So use windows of `length=context + 1`, and `stride=context` for
    evaluation, so that each token is predicted once.

    Args:
      sequence: numbers `[time, ...]`, such as the tokens of a text, in their storage dtype.
      length: the number of positions in a window.
      batch_size: the number of windows in a batch, over all devices.
      stride: the distance between the starts of consecutive windows. Up to `stride - 1` positions
        at the end of the sequence are in no window.
      segments: for concatenated documents, the number of the document of each position, `[time]`,
        counted from 1, such as `np.repeat(np.arange(1, n + 1), lengths)`; 0 marks padding.
        Attention and predictions then never cross the boundary of a document. By default the
        sequence is one document.

    Raises:
      InvalidValue: if a number is not positive, the sequence is shorter than a window, its numbers
        cannot be stored (see `resident`), or `segments` has the wrong shape.
      InvalidType: if the sequence does not hold numbers.
    """
    for name, number in (("length", length), ("batch_size", batch_size), ("stride", stride)):
        positive_integer("windows", name, number)
    sequence = computed(sequence)
    if isinstance(sequence, str | Mapping) or not np.size(sequence):
        raise InvalidType(
            "windows",
            "this is not a sequence of numbers",
            got=f"a {type(sequence).__name__} of length {len(sequence)}",
            expected="one array [time, ...] of numbers",
            fix="Pass Characters(text).encode(text) for a text",
        )
    # With segments, both are validated as a batch of one row.
    fields = {"inputs": sequence} if segments is None else _with_segments(sequence, segments)
    arrays = placed("windows", fields)
    if segments is not None:
        arrays = {name: field[0] for name, field in arrays.items()}
    time = arrays["inputs"].shape[0]
    if time < length:
        raise InvalidValue(
            "windows",
            "the sequence is shorter than a window",
            got=f"{time} places and length={length}",
            expected=f"at least {length} places",
            fix="Pass a longer sequence, or a smaller length",
        )
    return Windows(arrays, jax.random.key(0), int(batch_size), int(length), int(stride))


def _with_segments(sequence: Any, segments: Any) -> dict[str, Any]:
    """Returns both as a batch of one row, so that they pass the checks for masked inputs."""
    sequence = as_numpy("windows", "the sequence", sequence)
    segments = as_numpy("windows", "segments", segments)
    if segments.shape != sequence.shape[:1]:
        raise InvalidValue(
            "windows",
            "segments do not match the sequence",
            got=f"segments {list(segments.shape)} and a sequence {list(sequence.shape)}",
            expected="the number of a document for each position, [time]",
            fix="Pass np.repeat(np.arange(1, n + 1), lengths) for n documents of these lengths",
        )
    return {"inputs": sequence[None], "segments": segments[None]}
