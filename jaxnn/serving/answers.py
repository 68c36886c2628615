"""Converts the outputs of a model to a JSON response: classes, probabilities, numbers or rows."""

import numpy as np

from jaxnn.checks import Explained
from jaxnn.pictures.arguments import log_softmax
from jaxnn.serving.served import Served
from jaxnn.typing import Any


class NotFiniteOutput(Explained):
    """The outputs of a model are not finite, and JSON cannot represent them."""


def answer(served: Served, outputs: Any) -> dict[str, Any]:
    """Returns the JSON content of a response, from the `outputs` of `predict`.

    For classification, `predictions` are the names of the predicted classes, and `probabilities`
    those of all classes. For a table, `predictions` are rows.
    """
    about = served.about
    if about.columns is not None:
        return {"predictions": about.columns.decode(outputs).to_dicts(), "outputs": plain(outputs)}
    content: dict[str, Any] = {"outputs": plain(outputs)}
    if about.task == "classification" and about.classes:
        shares = np.exp(log_softmax(np.asarray(outputs, np.float64)))
        names = [about.classes[place] for place in outputs.argmax(-1).tolist()]
        content = {"predictions": names, "probabilities": plain(shares)} | content
    return content


def plain(tree: Any) -> Any:
    """Converts a tree of arrays to nested lists.

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
