"""One array at all moments of a recording."""

from collections.abc import Sequence

import numpy as np

from jaxnn.storage.recording import Frame


def stacked(frames: Sequence[Frame], name: str) -> np.ndarray | None:
    """Returns an array at all moments, NaN at those that lack it; `None` if all of them do."""
    shapes = [frame.arrays[name].shape for frame in frames if name in frame.arrays]
    if not shapes:
        return None
    empty = np.full(shapes[-1], np.nan)
    return np.stack([_of(frame, name, empty) for frame in frames])


def _of(frame: Frame, name: str, empty: np.ndarray) -> np.ndarray:
    array = frame.arrays.get(name, empty)
    fits = array.shape == empty.shape and array.dtype.kind in "fiub"
    return array.astype(float) if fits else empty
