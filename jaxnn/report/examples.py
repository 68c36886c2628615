"""Examples as a reader sees them: what went in, what the network says, and whether it is so.

Right and wrong are told by a sign and a word, never by a colour alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnn.formatting import brief
from jaxnn.markup import Markup, cut, element, join, quoted
from jaxnn.report.packed import pixels, png
from jaxnn.report.phrases import sure

BARS = 12  # classes that have a bar each; of more only the one that is said
NUMBERS = 6  # of an example that is no image


def probabilities(outputs: Any, classes: int | None) -> np.ndarray | None:
    """Returns the probability of each class, `[..., classes]`, NaN where it is not finite.

    Args:
      outputs: logits, `[..., classes]`; of two classes also `[...]` or `[..., 1]`.
      classes: how many there are.
    """
    logits = np.asarray(outputs, np.float64)
    if not classes or classes < 2:
        return None
    if classes == 2 and logits.ndim and logits.shape[-1] != 2:
        logits = logits[..., 0] if logits.shape[-1] == 1 else logits
        logits = np.stack([np.zeros_like(logits), logits], -1)
    if logits.ndim < 2 or logits.shape[-1] != classes:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)


def names_of(about: dict[str, Any]) -> list[str]:
    """Returns the names of the classes, by default their numbers."""
    classes, names = about.get("classes"), about.get("names")
    if isinstance(names, list) and len(names) == classes:
        return [cut(name, 40) for name in names]
    return [str(number) for number in range(classes)] if isinstance(classes, int) else []


def shape_of(about: dict[str, Any]) -> tuple[int, ...] | None:
    """Returns the shape of an image, if the first layer sees images that are flat in the data."""
    shape = (about.get("filters") or {}).get("shape")
    return tuple(shape) if isinstance(shape, list) and len(shape) in (2, 3) else None


def cards(
    about: dict[str, Any],
    inputs: np.ndarray,
    labels: np.ndarray,
    outputs: np.ndarray | None,
    index: np.ndarray | None = None,
) -> list[Markup]:
    """Returns examples, each with what the network says of it.

    Args:
      about: of the recording: its kind, classes and names.
      inputs: of the examples.
      labels: what they are.
      outputs: of the network; none leaves its place empty, for the page's script to fill.
      index: their places in the data.
    """
    labels = labels.reshape(len(labels), -1)[:, 0] if about.get("classes") else labels
    images, names = pixels(inputs, shape_of(about)), names_of(about)
    chances = probabilities(outputs, about.get("classes")) if outputs is not None else None
    made = []
    for place in range(len(inputs)):
        truth = label_word(labels[place], names)
        where = f", number {int(index[place]):,} of the data" if index is not None else ""
        seen = (
            element("img", src=png(images[place]), alt=f"An example{where}: it is {truth}")
            if images is not None
            else _numbers(inputs[place])
        )
        if chances is not None:
            said = _classified(chances[place], int(labels[place]), names)
        elif outputs is not None and names:
            said = _says("?", "not finite")
        elif outputs is not None:
            said = _says(label_word(outputs[place], []), f"it is {truth}")
        else:
            said = _says("", "")
        bars = _bars(names, chances[place] if chances is not None else None, labels[place])
        made.append(element("figure", seen, element("figcaption", *said), bars, class_="example"))
    return made


def label_word(label: Any, names: Sequence[str]) -> str:
    """Returns a label as one says it."""
    array = np.asarray(label)
    if names and array.ndim == 0 and array.dtype.kind in "iu" and 0 <= int(array) < len(names):
        return names[int(array)]
    if array.size == 1:
        return brief(array.reshape(()).item())
    shown = ", ".join(brief(float(each), 3) for each in array.ravel()[:3])
    return f"{shown}, …" if array.size > 3 else shown


def _classified(chances: np.ndarray, label: int, names: Sequence[str]) -> list[Markup]:
    if not np.isfinite(chances).all():
        return _says("?", "not finite")
    guess = int(chances.argmax())
    right = guess == label
    truth = names[label] if 0 <= label < len(names) else str(label)
    mark = "✓ right" if right else f"✗ wrong: it is {truth}"
    return _says(names[guess], mark, sure(float(chances[guess])), right)


def _says(guess: Any, mark: str, certainty: str = "", right: bool | None = None) -> list[Markup]:
    name = {True: "right", False: "wrong", None: ""}[right]
    return [
        element("b", quoted(guess), class_="guess" if len(str(guess)) < 4 else "guess long"),
        element("span", mark, class_=f"mark {name}".strip()),
        element("span", certainty, class_="sure"),
    ]


def _bars(names: Sequence[str], chances: np.ndarray | None, label: Any) -> Markup | None:
    """Returns the probabilities as bars; a screen reader has them in words already."""
    if not 2 <= len(names) <= BARS or max(map(len, names)) > 3:
        return None
    heights = np.zeros(len(names)) if chances is None else np.nan_to_num(chances)
    top = int(heights.argmax()) if chances is not None else -1
    bars = [
        element(
            "i",
            element("u", style=f"--share:{height:.3f}"),
            element("s", name),
            class_=("guess " * (place == top) + "truth" * (place == int(label))).strip() or None,
        )
        for place, (name, height) in enumerate(zip(names, heights))
    ]
    return element("div", *bars, class_="bars", aria_hidden="true")


def _numbers(values: Any) -> Markup:
    array = np.asarray(values).ravel()
    shown = [brief(float(each), 3) for each in array[:NUMBERS]]
    more = f", … ({array.size:,})" if array.size > NUMBERS else ""
    return element("p", join(", ".join(shown), more), class_="inputs")
