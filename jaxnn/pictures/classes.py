"""What pictures of classes ask of labels and names, in one error for all."""

from collections.abc import Sequence
from typing import Any

from jaxnn.checks import InvalidValue


def check_classes(
    where: str, labels: Any, classes: int, names: Sequence[str] | None, given: str
) -> None:
    """Raises `InvalidValue` unless labels are numbers of classes, each of which has a name, if any.

    Args:
      where: the picture.
      labels: NumPy integers, at least one.
      classes: how many there are.
      names: of the classes.
      given: what the classes come from, `"outputs"`.
    """
    named = names is None or len(names) == classes
    if labels.min() >= 0 and labels.max() < classes and named:
        return
    raise InvalidValue(
        where,
        "labels or names are not those of the classes",
        got=f"labels from {labels.min()} to {labels.max()}"
        + ("" if names is None else f" and {len(names)} names"),
        expected=f"labels below {classes}, for outputs of {classes} classes, and as many names",
        fix=f"Pass the {given} of the network that was trained on these labels",
    )
