"""Shows examples with their inputs, the network's predictions, and whether these are correct.

Correct and wrong predictions have a sign and a word, not only a colour.

A single output for two classes is either a logit, as from `linear(1)`, or the probability of the
second class, as after a sigmoid. It is inferred from the outputs, the labels and the accuracy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnn.formatting import brief
from jaxnn.markup import Markup, cut, element, join, quoted
from jaxnn.pictures.arguments import log_softmax
from jaxnn.pictures.scheme import number
from jaxnn.report.packed import pixels, png
from jaxnn.report.phrases import sure
from jaxnn.storage.recording import Recording

BARS = 12  # maximum number of classes with bars; else only the predicted class is shown
NUMBERS, COLUMNS = 6, 6  # maximum numbers shown of an example, and columns of a row


def probabilities(outputs: Any, about: dict[str, Any]) -> np.ndarray | None:
    """Returns the probability of each class, `[..., classes]`; NaN if it is not finite.

    `outputs` are logits, `[..., classes]`. For two classes they may also be `[...]` or `[..., 1]`:
    the logit of the second class, or its probability, depending on `about`.
    """
    logits, classes = np.asarray(outputs, np.float64), about.get("classes")
    if not classes or classes < 2:
        return None
    if classes == 2 and logits.ndim and logits.shape[-1] != 2:
        logits = logits[..., 0] if logits.shape[-1] == 1 else logits
        if about.get("probabilities"):
            return np.stack([1 - logits, logits], -1)
        logits = np.stack([np.zeros_like(logits), logits], -1)
    if logits.ndim < 2 or logits.shape[-1] != classes:
        return None
    return np.exp(log_softmax(logits))


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
    """Returns examples with the network's predictions; `index` are their indices in the data."""
    shape = (about.get("filters") or {}).get("shape")  # the shape of flattened images
    shape = tuple(shape) if isinstance(shape, list) and len(shape) in (2, 3) else None
    images, names = pixels(inputs, shape), names_of(about)
    chances: Any = probabilities(outputs, about)
    chances = len(labels) * [None] if chances is None else chances
    figures = []
    for place, (label, output, row) in enumerate(zip(labels, outputs, chances)):
        label = int(label.ravel()[0]) if about.get("classes") else label
        truth = label_word(label, names)
        where = f", number {int(index[place]):,} of the data" if index is not None else ""
        seen = element("p", _inputs(inputs[place]), class_="inputs")
        if images is not None:
            seen = element("img", src=png(images[place]), alt=f"An example{where}: it is {truth}")
        guess, mark, certainty, class_ = "?", "not finite", "", "mark"
        if row is not None and np.isfinite(row).all():
            best = int(row.argmax())
            guess, certainty = names[best], sure(float(row[best]))
            mark, class_ = "✓ right", "mark right"
            if best != label:
                mark, class_ = f"✗ wrong: it is {truth}", "mark wrong"
        elif not names:
            guess, mark = label_word(output, []), f"it is {truth}"
        caption = element(
            "figcaption",
            element(
                "b", quoted(guess), class_="guess" if names and len(guess) < 4 else "guess long"
            ),
            element("span", mark, class_=class_),
            element("span", certainty, class_="sure"),
        )
        bars = None if row is None else _bars(names, row, label)
        figures.append(element("figure", seen, caption, bars, class_="example"))
    return figures


def label_word(label: Any, names: Sequence[str]) -> str:
    """Returns a label as text."""
    array = np.asarray(label)
    if names and array.ndim == 0 and array.dtype.kind in "iu" and 0 <= int(array) < len(names):
        return names[int(array)]
    if array.size > 1 or array.dtype.kind not in "fiub":
        return _numbers(array, 3) if array.size != 1 else brief(array.item())
    return number(float(array.item()))


def _inputs(values: np.ndarray) -> Any:
    """Returns the inputs of an example as text: its numbers, or the columns of a table by name."""
    if values.dtype.kind != "U":
        return _numbers(values, NUMBERS)
    shown = [element("span", quoted(cut(str(each), 40))) for each in values[:COLUMNS]]
    more = len(values) - COLUMNS
    return join(*shown, element("span", f"… {more} more") if more > 0 else None)


def _numbers(values: Any, most: int) -> str:
    """Returns a limited count of numbers as text, followed by how many there are."""
    array = np.asarray(values).ravel()
    shown = ", ".join(number(float(each), 3) for each in array[:most])
    return f"{shown}, … ({array.size:,})" if array.size > most else shown


def has_bars(names: Sequence[str]) -> bool:
    """Returns whether a bar with a name fits for each class."""
    return 2 <= len(names) <= BARS and max(map(len, names)) <= 3


def _bars(names: Sequence[str], chances: np.ndarray, label: int) -> Markup | None:
    """Returns the probabilities as bars, which are hidden from screen readers."""
    if not has_bars(names):
        return None
    heights = np.nan_to_num(chances)
    bars = []
    for place, (name, height) in enumerate(zip(names, heights)):
        marks = {"guess": place == heights.argmax(), "truth": place == label}
        class_ = " ".join(mark for mark, applies in marks.items() if applies)
        bar = element("u", style=f"--share:{height:.3f}"), element("s", name)
        bars.append(element("i", *bar, class_=class_ or None))
    return element("div", *bars, class_="bars", aria_hidden="true")


POINTS = 1000  # maximum number of predictions in a recording; the data may have more
SAME = 0.005  # accuracies with a smaller difference may belong to the same predictions
OTHER = 0.02  # accuracies with a larger difference do not


def with_classes(recorded: Recording) -> Recording:
    """Returns a recording whose `about` has the number of `classes`, or `None` for other outputs.

    If a single output represents two classes, `about` also has `probabilities`, whether the output
    is a probability instead of a logit, and the confusion matrix is computed.
    """
    last = recorded.frames[-1].arrays if recorded.frames else {}
    outputs, labels = last.get("outputs"), recorded.probe.get("labels")
    known, end = {"classes": None}, recorded.end
    given = end.get("worst/outputs", outputs)  # only these are recorded for very many classes
    if recorded.about.get("kind") == "classification" and given is not None:
        known = {"classes": max(2, *given.shape[1:])}
    elif outputs is None or labels is None:
        pass
    elif (
        outputs.size == labels.size == len(outputs)
        and np.isin(labels, (0, 1)).all()
        and "metrics/accuracy" in last
    ):
        truth, said = _answers(end)
        shares = _are_shares(recorded)
        if shares or not _are_fitted(truth, said, float(last["metrics/accuracy"])):
            known = {"classes": 2, "probabilities": shares}
            if 0 < len(truth) < POINTS:
                guesses = (said > (0.5 if shares else 0)).astype(int)
                counts = np.zeros((2, 2), np.int64)
                np.add.at(counts, (truth.astype(int), guesses), 1)
                end = {"confusion": counts, **end}
    return recorded._replace(about=known | recorded.about, end=end)


def _answers(end: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels and the predicted numbers, or nothing unless all are known."""
    truth, said = (np.ravel(end.get(name, [])).astype(float) for name in ("truth", "predicted"))
    known = len(truth) == len(said) and np.isin(truth, (0, 1)).all() and np.isfinite(said).all()
    return (truth, said) if known else (np.zeros(0), np.zeros(0))


def _are_shares(recorded: Recording) -> bool:
    """Returns whether all outputs are in [0, 1], which logits for both classes would not be."""
    names = ("outputs", "boundary")
    seen = [frame.arrays.get(name, []) for frame in recorded.frames for name in names]
    seen.append(recorded.end.get("predicted", []))
    known = np.concatenate([np.ravel(each).astype(float) for each in seen])
    known = known[np.isfinite(known)]
    return bool(len(known) and (known >= 0).all() and (known <= 1).all())


def _are_fitted(truth: np.ndarray, said: np.ndarray, accuracy: float) -> bool:
    """Returns whether the accuracy equals that of a threshold of 0.5, as for labels 0 and 1."""
    if not len(truth):
        return False
    at_zero, at_half = (float(((said > bound) == (truth > 0)).mean()) for bound in (0.0, 0.5))
    return abs(at_half - accuracy) < SAME and abs(at_zero - accuracy) > OTHER
