"""Checks and converts arguments that several pictures share: labels, logits, names, shapes."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.names import listing
from jaxnn.typing import Any


def classes_of(where: str, name: str, values: Any, classes: float = np.inf) -> np.ndarray:
    """Returns class numbers, `[examples]` of any dtype, as integers below `classes`.

    Raises:
      InvalidType: if the values are not integers, or not one-dimensional.
      InvalidValue: if a value is negative or too large.
    """
    values = np.asarray(values)
    if values.ndim != 1 or not np.array_equal(values, np.round(values)):
        raise InvalidType(
            where,
            f"{name} are not classes",
            got=f"{name} of dtype {values.dtype} and shape {values.shape}",
            expected="whole numbers, [examples]",
            fix="Pass the number of the class of each example, as outputs.argmax(-1) is",
        )
    if values.size and not 0 <= values.min() <= values.max() < classes:
        raise InvalidValue(
            where,
            f"{name} are not among the classes",
            got=f"{name} from {values.min()} to {values.max()}",
            expected="numbers from 0" + (f" to {classes - 1}" if classes < np.inf else ""),
            fix="Pass outputs of the network that was trained on these labels, and leave out"
            " examples that have no class: labels[labels >= 0]",
        )
    return values.astype(int)


def check_shapes(where: str, fits: Any, expected: str, fix: str, **arrays: Any) -> None:
    """Raises `InvalidValue`, with the shapes of the arrays, unless `fits` is true."""
    if not fits:
        shapes = [f"{name} of shape {np.shape(array)}" for name, array in arrays.items()]
        wrong = f"the shape of {' or '.join(arrays)} is wrong"
        raise InvalidValue(where, wrong, got=" and ".join(shapes), expected=expected, fix=fix)


def names_of(
    where: str, name: str, values: Sequence[Any] | None, count: int, of: str = "classes"
) -> list[str]:
    """Returns the names, or numbers if there are none; raises unless there are `count` names."""
    if values is not None and len(values) != count:
        raise InvalidValue(
            where,
            f"the number of {name} is not that of the {of}",
            got=f"{len(values)} {name} for {count} {of}",
            expected="one for each",
            fix=f"Pass all in their order, or leave {name} out",
        )
    return list(map(str, range(count) if values is None else values))


def leaf_of(where: str, what: str, leaves: Mapping[str, Any], leaf: str, shape: Any) -> Any:
    """Returns the leaf with a name; raises `InvalidValue` unless it exists and has the shape."""
    if leaf not in leaves or np.shape(leaves[leaf]) != shape:
        raise InvalidValue(
            where,
            f"the {what} are not those of the network",
            got=f"shape {np.shape(leaves[leaf])}" if leaf in leaves else listing(leaves, 6),
            expected=f"{leaf} of shape {shape}",
            fix="Pass those of the network that is drawn, from its run.state.params",
        )
    return leaves[leaf]


def logits_of(outputs: Any) -> np.ndarray:
    """Returns logits `[examples, classes]`; a single logit per example is that of class 1."""
    logits = np.asarray(outputs, float)
    if logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1):
        return np.stack([np.zeros(len(logits)), logits.ravel()], 1)
    return logits


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns log probabilities `[..., classes]`, NaN for rows that are not finite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logits = logits - logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
