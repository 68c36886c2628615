"""What the outputs of a model mean: classes with their probabilities, numbers, rows of a table."""

import numpy as np

from jaxnn.checks import Explained
from jaxnn.serving.served import Served
from jaxnn.typing import Any


class NotFiniteOutput(Explained):
    """A model gives outputs that are not finite, so that no JSON holds them."""


def answer(served: Served, outputs: Any) -> dict[str, Any]:
    """Returns the answer to a request, as JSON holds it.

    `outputs` are what `predict` gives. For classes, `predictions` are their names and
    `probabilities` those of all; for a table, `predictions` are rows.
    """
    if served.columns is not None:
        frame = served.columns.decode(outputs)
        return {"predictions": frame.to_dicts(), "outputs": plain(outputs)}
    content: dict[str, Any] = {"outputs": plain(outputs)}
    if served.task == "classification" and served.classes:
        shares = probabilities(outputs)
        names = [served.classes[place] for place in outputs.argmax(-1).tolist()]
        content = {"predictions": names, "probabilities": plain(shares)} | content
    return content


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax of logits, float64."""
    logits = np.asarray(logits, np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def plain(tree: Any) -> Any:
    """Returns a tree of arrays as lists.

    Raises:
      NotFiniteOutput: if a number is not finite.
    """
    if isinstance(tree, dict):
        return {str(name): plain(each) for name, each in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(each) for each in tree]
    if not hasattr(tree, "dtype"):
        return plain(vars(tree)) if hasattr(tree, "__dict__") else tree
    array = np.asarray(tree)
    array = array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise NotFiniteOutput(
            "predict",
            "the model gives numbers that are not finite",
            got=f"{int((~np.isfinite(array)).sum())} of {array.size}",
            expected="finite ones",
            fix="Send inputs such as training had, or look at the run: python -m jaxnn diagnose",
        )
    return array.tolist()
