"""Examples as a reader sees them: what went in, what the network says, and whether it is so.

Right and wrong have a sign and a word, never a colour alone.

One number for two classes is either a logit, as from `linear(1)`, or the probability of the second
class, as behind a sigmoid. Beside the labels 0 and 1 and an accuracy, the numbers tell which.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnn.formatting import brief
from jaxnn.markup import Markup, cut, element, quoted
from jaxnn.report.packed import pixels, png
from jaxnn.report.phrases import sure
from jaxnn.storage.recording import Frame, Recording

BARS = 12  # classes that have a bar each; of more only the one that is said
NUMBERS = 6  # of an example that is no image


def probabilities(outputs: Any, classes: int | None) -> np.ndarray | None:
    """Returns the probability of each class, `[..., classes]`, NaN where it is not finite.

    `outputs` are logits, `[..., classes]`; of two classes also `[...]` or `[..., 1]`.
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


def cards(
    about: dict[str, Any],
    inputs: np.ndarray,
    labels: np.ndarray,
    outputs: np.ndarray,
    index: np.ndarray | None = None,
) -> list[Markup]:
    """Returns examples, each with what the network says of it.

    Args:
      about: of the recording: its kind, classes and names.
      inputs: of the examples.
      labels: what they are.
      outputs: of the network.
      index: their places in the data.
    """
    labels = labels.reshape(len(labels), -1)[:, 0] if about.get("classes") else labels
    shape = (about.get("filters") or {}).get("shape")  # of images that are flat in the data
    shape = tuple(shape) if isinstance(shape, list) and len(shape) in (2, 3) else None
    images, names = pixels(inputs, shape), names_of(about)
    chances = probabilities(outputs, about.get("classes"))
    figures = []
    for place, label in enumerate(labels):
        truth = label_word(label, names)
        where = f", number {int(index[place]):,} of the data" if index is not None else ""
        seen = (
            element("img", src=png(images[place]), alt=f"An example{where}: it is {truth}")
            if images is not None
            else element("p", _numbers(inputs[place], NUMBERS), class_="inputs")
        )
        bars = None
        if chances is not None:
            said = _classified(chances[place], int(label), names)
            bars = _bars(names, chances[place], label)
        elif names:
            said = _says("?", "not finite")
        else:
            said = _says(label_word(outputs[place], []), f"it is {truth}")
        caption = element("figcaption", *said)
        figures.append(element("figure", seen, caption, bars, class_="example"))
    return figures


def label_word(label: Any, names: Sequence[str]) -> str:
    """Returns a label as one says it."""
    array = np.asarray(label)
    if names and array.ndim == 0 and array.dtype.kind in "iu" and 0 <= int(array) < len(names):
        return names[int(array)]
    return brief(array.reshape(()).item()) if array.size == 1 else _numbers(array, 3)


def _numbers(values: Any, most: int) -> str:
    """Returns numbers, at most so many and how many there are."""
    array = np.asarray(values).ravel()
    shown = ", ".join(brief(float(each), 3) for each in array[:most])
    return f"{shown}, … ({array.size:,})" if array.size > most else shown


def _classified(chances: np.ndarray, label: int, names: Sequence[str]) -> list[Markup]:
    if not np.isfinite(chances).all():
        return _says("?", "not finite")
    guess = int(chances.argmax())
    right = guess == label
    truth = names[label] if 0 <= label < len(names) else str(label)
    mark = "✓ right" if right else f"✗ wrong: it is {truth}"
    return _says(names[guess], mark, sure(float(chances[guess])), right)


def _says(guess: Any, mark: str, certainty: str = "", right: bool | None = None) -> list[Markup]:
    name = {True: "mark right", False: "mark wrong", None: "mark"}[right]
    return [
        element("b", quoted(guess), class_="guess" if len(str(guess)) < 4 else "guess long"),
        element("span", mark, class_=name),
        element("span", certainty, class_="sure"),
    ]


def _bars(names: Sequence[str], chances: np.ndarray, label: Any) -> Markup | None:
    """Returns the probabilities as bars; a screen reader has them in words already."""
    if not 2 <= len(names) <= BARS or max(map(len, names)) > 3:
        return None
    heights = np.nan_to_num(chances)
    bars = []
    for place, (name, height) in enumerate(zip(names, heights)):
        marks = {"guess": place == heights.argmax(), "truth": place == int(label)}
        class_ = " ".join(mark for mark, applies in marks.items() if applies)
        bar = element("u", style=f"--share:{height:.3f}"), element("s", name)
        bars.append(element("i", *bar, class_=class_ or None))
    return element("div", *bars, class_="bars", aria_hidden="true")


POINTS = 1000  # the most predictions that a recording holds: there may have been more
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
    if outputs is None or labels is None:
        pass
    elif recorded.about.get("kind") == "classification":
        classes = max(2, *outputs.shape[1:])
    elif outputs.size == labels.size == len(outputs) and "metrics/accuracy" in last:
        are_shares = _are_shares(recorded)
        if np.isin(labels, (0, 1)).all() and (
            are_shares or not _are_fitted(recorded.end, float(last["metrics/accuracy"]))
        ):
            classes = 2
            recorded = _as_logits(recorded) if are_shares else recorded
            recorded = recorded._replace(end=_counted(recorded.end))
    return recorded._replace(about={"classes": classes, **recorded.about})


def _are_shares(recorded: Recording) -> bool:
    """Whether all outputs are from 0 to 1: logits of both classes would not be."""
    seen = [frame.arrays.get(name, []) for frame in recorded.frames for name in _OUTPUTS]
    seen.append(recorded.end.get("predicted", []))
    known = np.concatenate([np.ravel(each).astype(float) for each in seen])
    known = known[np.isfinite(known)]
    return bool(len(known) and (known >= 0).all() and (known <= 1).all())


def _are_fitted(end: dict[str, np.ndarray], accuracy: float) -> bool:
    """Whether the accuracy is that of numbers above a half, which were fitted to 0 and 1."""
    truth, said = _answers(end)
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
