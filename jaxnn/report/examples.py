"""Examples as a reader sees them: what went in, what the network says, and whether it is so.

Right and wrong have a sign and a word, never a colour alone.

One number for two classes is either a logit, as from `linear(1)`, or the probability of the second
class, as behind a sigmoid. Beside the labels 0 and 1 and an accuracy, the numbers tell which.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnn.formatting import brief
from jaxnn.markup import Markup, cut, element, join, quoted
from jaxnn.report.packed import pixels, png
from jaxnn.report.phrases import sure
from jaxnn.storage.recording import Frame, Recording

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
    figures = []
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
        figures.append(
            element("figure", seen, element("figcaption", *said), bars, class_="example")
        )
    return figures


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


POINTS = 1000  # as many as a recording keeps of what was said: of those there may be more
SAME = 0.005  # accuracies that differ by less may be of the same answers
OTHER = 0.02  # those that differ by more are not
_OUTPUTS = ("outputs", "boundary")


def with_classes(recorded: Recording) -> Recording:
    """Returns a recording whose `about` has the number of `classes`, `None` of other outputs.

    Where one number stands for two classes it is a logit then, and what is taken for what is
    counted too.
    """
    last = recorded.frames[-1].arrays if recorded.frames else {}
    outputs, labels = last.get("outputs"), recorded.probe.get("labels")
    classes = None
    if outputs is not None and labels is not None:
        if recorded.about.get("kind") == "classification":
            classes = max(2, *outputs.shape[1:])
        elif outputs.size == labels.size == len(outputs) and "metrics/accuracy" in last:
            classes = 2 if np.isin(labels, (0, 1)).all() else None
            if classes and _are_shares(recorded):
                recorded = _as_logits(recorded)
            elif classes and _are_halved(recorded, float(last["metrics/accuracy"])):
                classes = None
            if classes:
                recorded = recorded._replace(end=_counted(recorded.end))
    return recorded._replace(about={"classes": classes, **recorded.about})


def _are_shares(recorded: Recording) -> bool:
    """Whether all outputs are from 0 to 1: logits of both classes would not be."""
    seen = [frame.arrays.get(name, []) for frame in recorded.frames for name in _OUTPUTS]
    seen.append(recorded.end.get("predicted", []))
    known = np.concatenate([np.ravel(each).astype(float) for each in seen])
    known = known[np.isfinite(known)]
    return bool(len(known) and (known >= 0).all() and (known <= 1).all())


def _are_halved(recorded: Recording, accuracy: float) -> bool:
    """Whether the accuracy is that of numbers above a half, which were fitted to 0 and 1."""
    truth, said = _answers(recorded.end)
    if not len(truth):
        return False
    at_zero, at_half = (float(((said > bound) == (truth > 0)).mean()) for bound in (0.0, 0.5))
    return abs(at_half - accuracy) < SAME and abs(at_zero - accuracy) > OTHER


def _as_logits(recorded: Recording) -> Recording:
    def logit(array: Any) -> np.ndarray:
        share = np.clip(np.asarray(array, np.float64), 1e-12, 1 - 1e-12)
        return np.log(share) - np.log1p(-share)

    frames = [
        Frame(f.step, {n: logit(a) if n in _OUTPUTS else a for n, a in f.arrays.items()})
        for f in recorded.frames
    ]
    end = {n: logit(a) if n == "predicted" else a for n, a in recorded.end.items()}
    return recorded._replace(frames=frames, end=end)


def _counted(end: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what is known at the end, with how often which class was taken for which."""
    truth, said = _answers(end)
    if not 0 < len(truth) < POINTS:
        return end
    counts = np.zeros((2, 2), np.int64)
    np.add.at(counts, ((truth > 0).astype(int), (said > 0).astype(int)), 1)
    return {"confusion": counts, **end}


def _answers(end: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels and the numbers that were said of them, none unless all are known."""
    truth, said = (np.ravel(end.get(name, [])).astype(float) for name in ("truth", "predicted"))
    known = len(truth) == len(said) and np.isin(truth, (0, 1)).all() and np.isfinite(said).all()
    return (truth, said) if known else (np.zeros(0), np.zeros(0))
