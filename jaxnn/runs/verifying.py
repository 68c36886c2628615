"""Verifies a model file: computes its examples again and compares the stored outputs."""

from pathlib import Path

import jax
import numpy as np

from jaxnn.checks import Explained
from jaxnn.runs.executable import Executable
from jaxnn.typing import Any

# Tolerances for outputs on another device, or with another version of XLA.
RELATIVE, ABSOLUTE = 1e-2, 1e-3


class WrongPredictions(Explained):
    """The predictions of a model on this machine differ from those stored in its file."""


def verify(path: Path, program: Executable, inputs: Any, outputs: Any) -> None:
    """Raises `WrongPredictions` unless a program reproduces the outputs within the tolerance."""
    again = program("load_model", inputs, 1024)
    pairs = list(zip(jax.tree.leaves(outputs), jax.tree.leaves(again)))
    if not all(_is_close(a, b) for a, b in pairs):
        first, second = next(pair for pair in pairs if not _is_close(*pair))
        raise WrongPredictions(
            "load_model",
            f"{path} predicts other numbers for its examples than where it was written",
            got=_start(second),
            expected=_start(first),
            fix="Use the version of jax that wrote it, or export the run again",
        )


def _is_close(one: np.ndarray, other: np.ndarray) -> bool:
    a, b = (np.asarray(x, np.float64 if x.dtype.kind in "fV" else x.dtype) for x in (one, other))
    scale = max(1.0, float(np.max(np.abs(a), initial=0.0))) if a.dtype.kind == "f" else 1.0
    return a.shape == b.shape and np.allclose(a, b, RELATIVE, ABSOLUTE * scale, equal_nan=True)


def _start(array: np.ndarray) -> str:
    return np.array2string(np.ravel(np.asarray(array, np.float32))[:4], precision=5)
