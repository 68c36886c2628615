"""Verifies programs: a network, or a model file on another machine, has to predict the same."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.checks import Explained, InvalidValue
from jaxnn.network import Network
from jaxnn.runs.executable import Executable, describe
from jaxnn.typing import Any

# Tolerances for outputs of another network, device, or version of XLA.
RELATIVE, ABSOLUTE = 1e-2, 1e-3
TRIED = 4  # the number of examples on which a network is compared


class WrongPredictions(Explained):
    """The predictions of a model on this machine differ from those stored in its file."""


def check_examples(path: Path, program: Executable, inputs: Any, outputs: Any) -> None:
    """Raises `WrongPredictions` unless a program reproduces the outputs within the tolerance."""
    again = program("load_model", inputs, 1024)
    if not are_close(outputs, again):
        raise WrongPredictions(
            "load_model",
            f"{path} predicts other numbers for its examples than where it was written",
            got=_first(again),
            expected=_first(outputs),
            fix="Use the version of jax that wrote it, or export the run again",
        )


def check_network(program: Executable, network: Network, params: Any, state: Any) -> None:
    """Raises `InvalidValue` if the outputs of a network differ from the trained network's."""
    inputs = jax.tree.map(sample_of, program.signature[1])
    wanted = program("load", inputs, TRIED)
    outputs = network.apply(params, state, inputs)[0]
    if not are_close(wanted, outputs):
        raise InvalidValue(
            "load",
            "the network is not the one that was trained",
            got=f"outputs {describe(outputs)}, {_first(outputs)}",
            expected=f"outputs {describe(wanted)}, {_first(wanted)}",
            fix="Build it with the settings of the run, which loaded.config has",
        )


def are_close(expected: Any, outputs: Any) -> bool:
    """Returns whether two trees have the same structure and, within the tolerance, values."""
    leaves, others = jax.tree.leaves(expected), jax.tree.leaves(outputs)
    same = jax.tree.structure(expected) == jax.tree.structure(outputs)
    return same and all(map(_is_close, leaves, others))


def _is_close(one: Any, other: Any) -> bool:
    a, b = (np.asarray(x, np.float64 if x.dtype.kind in "fV" else x.dtype) for x in (one, other))
    scale = max(1.0, float(np.max(np.abs(a), initial=0.0))) if a.dtype.kind == "f" else 1.0
    return a.shape == b.shape and np.allclose(a, b, RELATIVE, ABSOLUTE * scale, equal_nan=True)


def _first(outputs: Any) -> str:
    first = [np.ravel(x)[:4].astype(float) for x in jax.tree.leaves(outputs)]
    return ", ".join(np.array2string(each, precision=5) for each in first)


def sample_of(leaf: Any) -> np.ndarray:
    """Returns `TRIED` deterministic examples with the shape and dtype of the training inputs."""
    shape = (TRIED, *leaf.shape[1:])
    numbers = np.arange(math.prod(shape)).reshape(shape)
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.sin(numbers).astype(leaf.dtype)
    return (numbers % 2).astype(leaf.dtype)
